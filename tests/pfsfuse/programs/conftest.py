"""What the tests of ordinary programs work in."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.pfsfuse.programs.work import Work
from tests.support.daemons import Daemon
from tests.support.mounts import mounting


@pytest.fixture
def work(daemon: Daemon, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """An open commit; for root, mounted with the owners that it keeps."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    aside = tmp_path / "aside"
    aside.mkdir()
    daemon.create_repo("r")
    daemon.start_commit("r")
    options = ("--owners", "mounter" if os.geteuid() else "stored")
    with mounting(daemon, tmp_path / "mnt", *options) as mounted:
        yield Work(daemon, mounted, aside, options)
