"""What the tests of the repository view mount."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting


@pytest.fixture
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where the mount keeps what it can't send."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def mounted(daemon: Daemon, tmp_path: pathlib.Path, state: pathlib.Path) -> Iterator[Mounted]:
    """The view of the daemon of this test."""
    with mounting(daemon, tmp_path / "mnt") as made:
        yield made


@pytest.fixture
def master(daemon: Daemon, mounted: Mounted) -> pathlib.Path:
    """The root of an open commit that builds on a finished one."""
    daemon.create_repo("r")
    daemon.commit_files("r", {"/old": b"old content", "/dir/a": b"a", "/dir/b": b"b"})
    daemon.start_commit("r")
    return mounted.path / "r/master"
