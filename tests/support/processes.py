"""What the daemons under test have started, and what of it is left."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

from tests.support.daemons import Daemon
from tests.support.pipelines import until

MARK = "PFSD_TEST_MARK"
"""An environment variable that the daemon and its workers have, and that tells them from those of others. User code
has nothing of their environment, but a namespace in which the daemon's root is hidden."""


def below(mark: str, daemon: Daemon) -> Iterator[int]:
    """The processes that a daemon started, in whatever way they descend from it."""
    own = {os.getpid(), daemon.process.pid if daemon.process is not None else 0}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in own:
            try:
                marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked or str(daemon.root) in (entry / "mountinfo").read_text(errors="replace"):
                    yield int(entry.name)
            except OSError:  # it has ended
                continue


def check_nothing_outlives(daemon: Daemon, mark: str) -> None:
    """Nothing that a daemon started outlives it, and no mount."""
    until(lambda: not list(below(mark, daemon)))
    mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    assert not [path for path in mounts if path == "/pfs" or path.startswith("/pfs/")]
