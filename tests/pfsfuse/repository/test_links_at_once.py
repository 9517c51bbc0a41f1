"""Files with several names, of which one goes or moves while another one is looked up."""

from __future__ import annotations

import ctypes
import os
import pathlib
import threading
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import finish

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

HERE = -100  # AT_FDCWD
RENAME_EXCHANGE = 2
ROUNDS = 60
OTHERS = [f"other{number}" for number in range(12)]


@pytest.fixture
def master(daemon: Daemon, mounted: Mounted) -> pathlib.Path:
    """The root of an open commit that builds on one with files of several names each, which were not looked up."""
    daemon.create_repo("r")
    daemon.start_commit("r")
    with mounting(daemon, mounted.path.parent / "first") as first:
        for number in range(ROUNDS):
            top = first.path / f"r/master/{number}"
            top.mkdir()
            for name in ("moved", "others", "aside"):
                (top / name).mkdir()
            (top / "moved/one").write_text(f"file {number}")
            (top / "aside/another").write_text(f"another {number}")
            for name in OTHERS:
                (top / "others" / name).hardlink_to(top / "moved/one")
        finish(first.path / "r/master")
    daemon.start_commit("r")
    return mounted.path / "r/master"


def while_looked_up(top: pathlib.Path, change: Callable[[], object]) -> None:
    """Change something below `top` while another thread looks the other names of its file up."""
    begin = threading.Barrier(2)

    def look() -> None:
        begin.wait(30)
        for name in OTHERS:
            (top / "others" / name).stat()

    looking = threading.Thread(target=look)
    looking.start()
    begin.wait(30)
    try:
        change()
    finally:
        looking.join(30)
    assert not looking.is_alive()


def names(top: pathlib.Path) -> set[str]:
    return {str(pathlib.Path(above, name).relative_to(top)) for above, _, files in os.walk(top) for name in files}


OLD = {f"others/{name}" for name in OTHERS}


def check(master: pathlib.Path, expected: set[str], links: int) -> None:
    """All files have these names, of which those that are no other's are one file."""
    for number in range(ROUNDS):
        top = master / str(number)
        assert names(top) == expected, number
        found = {(top / name).read_text(): (top / name).stat().st_nlink for name in sorted(OLD)}
        assert found == {f"written {number}": links}, number


@pytest.mark.parametrize("kind", ["rename", "replace", "unlink", "exchange"])
def test_a_name_that_goes_is_the_one_that_was_meant(
    daemon: Daemon, master: pathlib.Path, tmp_path: pathlib.Path, kind: str
) -> None:
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    for number in range(ROUNDS):
        top = master / str(number)
        with (top / "moved/one").open("r+") as file:
            (top / "aside/another").stat()
            match kind:
                case "rename":
                    while_looked_up(top, partial(os.rename, top / "moved/one", top / "moved/two"))
                case "replace":
                    while_looked_up(top, partial(os.rename, top / "aside/another", top / "moved/one"))
                case "unlink":
                    os.link(top / "moved/one", top / "moved/two")
                    (top / "aside/new").write_text("something on its way")
                    while_looked_up(top, (top / "moved/two").unlink)
                    (top / "aside/new").unlink()
                case "exchange":
                    paths = os.fsencode(top / "moved/one"), os.fsencode(top / "aside/another")
                    while_looked_up(top, partial(rename, HERE, paths[0], HERE, paths[1], RENAME_EXCHANGE))
            file.write(f"written {number}")
    count, expected = len(OTHERS), set(OLD)
    match kind:
        case "rename":
            count, expected = count + 1, expected | {"moved/two", "aside/another"}
        case "replace":
            expected |= {"moved/one"}
        case _:
            count, expected = count + 1, expected | {"moved/one", "aside/another"}
    check(master, expected, count)
    finish(master)
    with mounting(daemon, tmp_path / "last") as last:
        check(last.path / "r/master", expected, count)


def test_what_is_written_under_a_name_that_goes_is_in_the_finished_commit(
    daemon: Daemon, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (master / "0/moved/one").open("r+") as file:
        file.write("written")
        file.flush()
        (master / "0/moved/one").unlink()
        finish(master)
    with mounting(daemon, tmp_path / "last") as last:
        assert {(last.path / "r/master/0/others" / name).read_text() for name in OTHERS} == {"written"}
