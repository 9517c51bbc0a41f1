"""Test suites of others, whole, on an open commit that root has mounted with the owners that it keeps."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import mounting
from tools.suites import fio, fsx, pjdfstest, places, stress
from tools.suites.suite import Suite

pytestmark = [
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to act as other users"),
]

# What fails, by a pattern of its name, and why.
PJDFSTEST = {
    r"^rename::updates_link_parent$": "directories do not count their links: st_nlink is 1, as on Btrfs",
}
STRESS: Mapping[str, str] = {}
FIO: Mapping[str, str] = {}
FSX: Mapping[str, str] = {}


@pytest.fixture
def short() -> Iterator[pathlib.Path]:
    """A directory with a path that leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="pfs-") as made:
        yield pathlib.Path(made)


@pytest.mark.parametrize(
    ("suite", "left_out", "least"),
    [(pjdfstest.SUITE, PJDFSTEST, 370), (fsx.SUITE, FSX, 3), (fio.SUITE, FIO, 20), (stress.SUITE, STRESS, 30)],
    ids=lambda value: value.name if isinstance(value, Suite) else "",
)
def test_a_suite_passes_but_for_what_is_left_out(
    daemon: Daemon,
    short: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    suite: Suite,
    left_out: Mapping[str, str],
    least: int,
) -> None:
    if not suite.present():
        pytest.skip(f"{suite.name} is not here: {places.COMMAND} gets it")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    daemon.create_repo("r")
    daemon.start_commit("r")
    short.chmod(0o755)
    with mounting(daemon, short / "m", "--owners", "stored", "--allow-other") as mounted:
        where = mounted.path / "r/master/s"
        where.mkdir()
        counts = suite.run(where)
        assert counts.unexpected(left_out) == {}
        assert len(counts.passed) >= least
