"""Running real S3 servers for tests: moto's, and versitygw where it has been built (`python -m tools.s3server`)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.support.ending import end
from tools.s3server import environment, gateway_path

START_SECONDS = 60
ACCESS, SECRET = "test-access", "test-secret"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that runs, with one bucket called `data`."""

    endpoint: str
    checks_credentials: bool

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 needs to find it."""
        return environment(self.endpoint, ACCESS, SECRET)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def moto() -> Iterator[S3Server]:
    """moto's server, which keeps everything in memory."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, port) as endpoint:
        yield _with_bucket(S3Server(endpoint, checks_credentials=False))


@contextlib.contextmanager
def gateway(directory: pathlib.Path, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """versitygw over a directory."""
    program = gateway_path()
    assert program is not None
    port = free_port()
    (directory / "files").mkdir(parents=True)
    (directory / "versions").mkdir()
    command = [str(program), "--access", ACCESS, "--secret", SECRET, "--port", f"{address}:{port}", "--quiet"]
    with serving(
        [*command, "posix", "--sidecar", str(directory / "versions"), str(directory / "files")], port, address
    ) as endpoint:
        yield _with_bucket(S3Server(endpoint, checks_credentials=True))


@contextlib.contextmanager
def serving(
    command: list[str], port: int, address: str = "127.0.0.1", environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """An HTTP server that answers at its address, and ends with the block; gives its URL."""
    if shutil.which("setpriv"):  # it ends with the tests, however these do
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    settings = {**os.environ, **(environment or {})}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=settings
    )
    try:
        endpoint = f"http://{address}:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(endpoint, timeout=5):
                    break
            except urllib.error.HTTPError:
                break  # it answers, if only to say no
            except OSError:
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                time.sleep(0.05)
        yield endpoint
    finally:
        end(process)


def _with_bucket(server: S3Server) -> S3Server:
    client(server).create_bucket(Bucket="data")
    return server


def client(server: S3Server):  # type: ignore[no-untyped-def]
    """A boto3 client of a server, whatever the environment says."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
