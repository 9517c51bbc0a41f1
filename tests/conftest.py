"""Fixtures."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator

import pytest

from tests import s3servers
from tests.daemons import Daemon, running
from tests.s3servers import S3Server

# Run in the background, a shell has its commands ignore SIGINT, and what they start inherits that: tests that
# interrupt a process would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Who ends the tests this way wants what they started stopped too.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    """moto's S3 server, for the tests of one module."""
    with s3servers.moto() as started:
        yield started


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon of the file system alone, over a fresh root."""
    with running(tmp_path / "root", "--no-pipelines") as started:
        yield started


@pytest.fixture
def pipeline_daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon with pipelines, over a fresh root."""
    with running(tmp_path / "root") as started:
        yield started
