"""Generate the Python code in proto/pachproto from its .proto files: python proto/generate.py."""

import pathlib
import sys

from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent


def generate(target: pathlib.Path) -> int:
    """Write the message modules and their type stubs below `target`; protoc's exit status."""
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    files = sorted(str(p) for p in (HERE / "pachproto").glob("*.proto"))
    return protoc.main(
        ["protoc", f"-I{HERE}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}", *files]
    )


if __name__ == "__main__":
    sys.exit(generate(HERE))
