"""What the tests of pachctl put."""

from __future__ import annotations

import pathlib

import pytest

from pachproto import pfs_pb2
from tests.support.daemons import Daemon
from tests.support.places import TREE


@pytest.fixture
def clidir(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The directory `clidir` with two files, in the current directory."""
    directory = tmp_path / "clidir"
    (directory / "sub").mkdir(parents=True)
    (directory / "a.txt").write_text("a\n")
    (directory / "sub" / "b.txt").write_text("b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TREE))
    return directory


@pytest.fixture
def opened(daemon: Daemon) -> pfs_pb2.Commit:
    """An open commit on master in the repo r."""
    daemon.create_repo("r")
    return daemon.start_commit("r")
