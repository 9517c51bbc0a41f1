"""Fixtures."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.daemons import Daemon, running


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
