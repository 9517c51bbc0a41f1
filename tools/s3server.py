"""`python -m tools.s3server` builds versitygw, an S3 server for tests and benchmarks, with the Go toolchain here.

It lands in `$PFSD_TOOLS`, by default `~/.cache/pfsd-tools`. Tests against it skip where it is absent.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def tools_directory() -> pathlib.Path:
    """Where programs that are built for tests are kept."""
    return pathlib.Path(os.environ.get("PFSD_TOOLS") or pathlib.Path.home() / ".cache" / "pfsd-tools")


def gateway_path() -> pathlib.Path | None:
    """The program versitygw: the one that was built here, or one on the PATH; None where there is none."""
    built = tools_directory() / "versitygw"
    if built.exists():
        return built
    found = shutil.which("versitygw")
    return pathlib.Path(found) if found else None


def environment(endpoint: str, access: str, secret: str) -> dict[str, str]:
    """What boto3 needs to find a server and nothing else of this machine's settings."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def go_install(module: str) -> pathlib.Path:
    """Build a program of a Go module into `tools_directory`; raises RuntimeError where that can't be done."""
    go = shutil.which("go")
    if go is None:
        raise RuntimeError("there is no Go toolchain here: install the package golang")
    target = tools_directory()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pfsd-go-") as work:
        settings = {**os.environ, "GOBIN": str(target), "GOPATH": work, "GOFLAGS": "-modcacherw"}
        if subprocess.run([go, "install", module], env=settings, check=False).returncode:
            raise RuntimeError(f"{module} can't be built")
    return target / module.partition("@")[0].rpartition("/")[2]


def main() -> int:
    """Build it; returns the exit status."""
    try:
        print(go_install(MODULE))
    except RuntimeError as error:
        print(f"tools.s3server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
