"""`python -m tools.cloudservers` gets servers for tests that speak as Google's and Azure's object stores do.

fake-gcs-server is built with the Go toolchain here, azurite comes by npm. Both land in `$PFSD_TOOLS`, by default
`~/.cache/pfsd-tools`. Tests against them skip where they are absent.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

from pfsd.errors import UnavailableError
from tools.golang import go_install, program_path, tools_directory

GCS_MODULE = "github.com/fsouza/fake-gcs-server@v1.56.1"
AZURITE_PACKAGE = "azurite@3.35.0"


def gcs_path() -> pathlib.Path | None:
    """The program fake-gcs-server; None where there is none."""
    return program_path("fake-gcs-server")


def azurite_path() -> pathlib.Path | None:
    """The program azurite-blob; None where there is none."""
    return program_path("azurite-blob", "azurite/node_modules/.bin")


def _npm_install(package: str, target: pathlib.Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("there is no npm here: install the package npm")
    target.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(target), package]
    if subprocess.run(command, check=False).returncode:
        raise UnavailableError(f"{package} can't be installed")


def main() -> int:
    """Get both; returns the exit status."""
    status = 0
    for get in (lambda: go_install(GCS_MODULE), lambda: _npm_install(AZURITE_PACKAGE, tools_directory() / "azurite")):
        try:
            get()
        except UnavailableError as error:
            print(f"tools.cloudservers: {error}", file=sys.stderr)
            status = 1
    for path in (gcs_path(), azurite_path()):
        if path is not None:
            print(path)
    return status


if __name__ == "__main__":
    sys.exit(main())
