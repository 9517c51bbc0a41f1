"""Small new files, whose writes and closes are answered before Python hears of them (`csrc/answers/held.c`)."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

SMALL = 64 << 10
MORE_THAN_ARE_HELD = 200
WAIT_SECONDS = 30


@contextlib.contextmanager
def made(path: pathlib.Path) -> Iterator[int]:
    """A new file, opened for reading and writing."""
    number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        yield number
    finally:
        os.close(number)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_done_to_an_open_file_comes_in_its_order(daemon: Daemon, master: pathlib.Path) -> None:
    with made(master / "f") as number:
        os.write(number, b"0123456789")
        assert os.fstat(number).st_size == 10
        os.ftruncate(number, 4)
        os.write(number, b"ab")  # at 10
        assert os.pread(number, 100, 0) == b"0123\0\0\0\0\0\0ab"
        os.pwrite(number, b"XY", 1)
        os.pwrite(number, b"Z", 0)
        with (master / "f").open("ab") as other:
            other.write(b"+")
        assert (master / "f").read_bytes() == b"ZXY3\0\0\0\0\0\0ab+"
        os.rename(master / "f", master / "g")
        os.pwrite(number, b"!", 12)
    finish(master)
    assert stored(daemon)["/g"] == b"ZXY3\0\0\0\0\0\0ab!"


def test_one_that_becomes_large(daemon: Daemon, master: pathlib.Path) -> None:
    data = random.Random(1).randbytes(3 * SMALL)
    with made(master / "by parts") as number:
        for at in range(0, len(data), 1000):
            os.write(number, data[at : at + 1000])
    with made(master / "at once") as number:
        os.write(number, data[:SMALL])
        os.write(number, data[SMALL:])
    with made(master / "far") as number:
        os.pwrite(number, b"end", 10 * SMALL)
        os.pwrite(number, b"begin", 0)
    with made(master / "copy") as number, (master / "at once").open("rb") as source:
        os.write(number, b"x")
        os.copy_file_range(source.fileno(), number, 2 * SMALL, 0, 1)
        os.pwrite(number, b"y", 1)
    finish(master)
    found = stored(daemon)
    assert found["/by parts"] == found["/at once"] == data
    assert found["/far"] == b"begin" + bytes(10 * SMALL - 5) + b"end"
    assert found["/copy"] == b"xy" + data[1 : 2 * SMALL]


def test_many_that_are_open_together(daemon: Daemon, master: pathlib.Path) -> None:
    with contextlib.ExitStack() as all_open:
        numbers = [all_open.enter_context(made(master / f"n{each}")) for each in range(MORE_THAN_ARE_HELD)]
        for at in range(3):
            for each, number in enumerate(numbers):
                os.write(number, f"{each}.{at} ".encode())
    finish(master)
    found = stored(daemon)
    for each in range(MORE_THAN_ARE_HELD):
        assert found[f"/n{each}"] == f"{each}.0 {each}.1 {each}.2 ".encode()


def test_one_without_a_name(daemon: Daemon, master: pathlib.Path) -> None:
    with made(master / "gone") as number:
        os.write(number, b"before")
        os.unlink(master / "gone")
        os.write(number, b" after")
        assert os.pread(number, 100, 0) == b"before after"
        (master / "gone").write_bytes(b"another")
    finish(master)
    assert stored(daemon)["/gone"] == b"another"


def test_the_time_is_that_of_the_last_write(master: pathlib.Path) -> None:
    with made(master / "f") as number:
        os.write(number, b"1")
        first = os.fstat(number).st_mtime_ns
        time.sleep(0.05)
        os.write(number, b"2")
        second = os.fstat(number).st_mtime_ns
    time.sleep(0.05)
    assert first < second == (master / "f").stat().st_mtime_ns


def test_another_mount_sees_what_was_closed(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with mounting(daemon, tmp_path / "second") as second:
        (master / "f").write_bytes(b"closed")
        other = second.path / "r/master/f"
        until(lambda: other.exists() and other.read_bytes() == b"closed")


@pytest.mark.parametrize("how", ["mount", "client"])
def test_finishing_takes_what_was_written_and_ends_it(daemon: Daemon, master: pathlib.Path, how: str) -> None:
    with made(master / "f") as number:
        os.write(number, b"before")
        if how == "mount":
            finish(master)
        else:
            daemon.pachctl("finish-commit", "r", "master")
            until(lambda: "f" in os.listdir(master) and not os.access(master / "f", os.W_OK))
        fails_with(errno.EROFS, lambda: os.write(number, b" after"))
    assert stored(daemon)["/f"] == b"before"


@pytest.mark.parametrize("size", [5, 50_000, 300_000])
@pytest.mark.parametrize("replaced", [False, True])
def test_what_was_found_before_it_lost_its_name_can_still_be_opened(
    master: pathlib.Path, size: int, replaced: bool
) -> None:
    data = b"d" * size
    (master / "file").write_bytes(data)
    (master / "other").write_bytes(b"other")
    found = os.open(master / "file", os.O_PATH)
    try:
        if replaced:
            (master / "other").rename(master / "file")
        else:
            (master / "file").unlink()
        for _ in range(2):  # the first one who opens it is not the last
            assert pathlib.Path(f"/proc/self/fd/{found}").read_bytes() == data
    finally:
        os.close(found)
