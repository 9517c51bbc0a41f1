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

from pfsd.errors import UnavailableError
from tools.golang import go

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def tools_directory() -> pathlib.Path:
    """Where programs that are built for tests are kept."""
    return pathlib.Path(os.environ.get("PFSD_TOOLS") or pathlib.Path.home() / ".cache" / "pfsd-tools")


def gateway_path() -> pathlib.Path | None:
    """The program versitygw; None where there is none."""
    return program_path("versitygw")


def program_path(name: str) -> pathlib.Path | None:
    """A program: the one that was built here, or one on the PATH; None where there is none."""
    built = tools_directory() / name
    if built.exists():
        return built
    found = shutil.which(name)
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


def build(module: str, command: str) -> int:
    """Build a program of Go's module proxy into `tools_directory`; the exit status of `command`, which this is for."""
    try:
        go_program = go()
    except UnavailableError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    target = tools_directory()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pfsd-go-") as work:
        environment = {**os.environ, "GOBIN": str(target), "GOPATH": work, "GOFLAGS": "-modcacherw"}
        status = subprocess.run([go_program, "install", module], env=environment, check=False).returncode
    if status == 0:
        print(target / module.partition("@")[0].rpartition("/")[2])
    return status


def main() -> int:
    """Build it; returns the exit status."""
    return build(MODULE, "tools.s3server")


if __name__ == "__main__":
    sys.exit(main())
