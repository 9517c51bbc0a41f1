"""`python -m tools.s3server` builds versitygw, an S3 server for tests and benchmarks, with the Go toolchain here.

It lands in `$PFSD_TOOLS`, by default `~/.cache/pfsd-tools`. Tests against it skip where it is absent.
"""

from __future__ import annotations

import os
import pathlib
import sys

from tools.golang import build, program_path

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def gateway_path() -> pathlib.Path | None:
    """The program versitygw; None where there is none."""
    return program_path("versitygw")


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


def main() -> int:
    """Build it; returns the exit status."""
    return build(MODULE, "tools.s3server")


if __name__ == "__main__":
    sys.exit(main())
