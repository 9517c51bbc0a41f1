"""Holes in files of open commits, and copies that copy no bytes."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import random

import pytest

from pfsd.chunks.extents import extents
from tests.support.daemons import Daemon, commit
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 0x01, 0x02, 0x08, 0x10
MiB = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def data_in(path: pathlib.Path) -> list[tuple[int, int]]:
    """Where the kernel says that a file has data."""
    with path.open("rb") as file:
        found = extents(file.fileno(), 0, path.stat().st_size)
        return [(start, end) for start, end, is_data in found if is_data]


@pytest.mark.parametrize("size", [100_000, 20 * MiB])
def test_parts_of_a_file_are_emptied_and_lengthened(daemon: Daemon, master: pathlib.Path, size: int) -> None:
    model = bytearray(random.Random(size).randbytes(size))
    path = master / "f"
    path.write_bytes(model)
    os.setxattr(master, "user.pfs.flush", b"")
    with path.open("r+b", buffering=0) as file:
        fd = file.fileno()
        for start, length in ((0, 10), (size // 3, size // 3), (size - 5, 100)):
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, start, length)
            end = min(start + length, size)
            model[start:end] = bytes(end - start)
            assert os.pread(fd, size + 10, 0) == model
        fallocate(fd, KEEP_SIZE, size, 1000)
        assert path.stat().st_size == size
        fallocate(fd, 0, size, 1000)
        fallocate(fd, ZERO_RANGE, size + 500, 1500)
        model += bytes(2000)
        assert path.read_bytes() == model
        fails_with(errno.EOPNOTSUPP, lambda: fallocate(fd, COLLAPSE_RANGE, 0, 4096))
    with path.open("rb") as file:
        fails_with(errno.EBADF, lambda: fallocate(file.fileno(), 0, 0, 10))
    finish(master)
    assert stored(daemon)["/f"] == model


def test_holes_are_found_before_and_after_they_are_sent(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    size, place = 100 << 30, 60 << 30
    path = master / "sparse"
    with path.open("wb", buffering=0) as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"x" * MiB, place)

    def check(found: list[tuple[int, int]], slack: int) -> None:
        ((start, end),) = found
        assert place - slack <= start <= place
        assert place + MiB <= end <= place + MiB + slack

    check(data_in(path), 16 * MiB)
    finish(master)
    with mounting(daemon, tmp_path / "second") as second:
        other = second.path / "r/master/sparse"
        check(data_in(other), 16 * MiB)
        with other.open("rb") as reading:
            assert os.pread(reading.fileno(), 3, place - 1) == b"\0xx"
            fails_with(errno.ENXIO, lambda: os.lseek(reading.fileno(), size, os.SEEK_DATA))
            fails_with(errno.ENXIO, lambda: os.lseek(reading.fileno(), size - 1, os.SEEK_DATA))
            assert os.lseek(reading.fileno(), size - 1, os.SEEK_HOLE) == size - 1


def test_a_stored_file_is_copied_without_its_bytes(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    data = random.Random(1).randbytes(30 * MiB)
    (master / "from").write_bytes(data)
    os.setxattr(master, "user.pfs.flush", b"")
    with (master / "from").open("rb") as source, (master / "to").open("wb", buffering=0) as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 20 * MiB, 0, 0) == 20 * MiB
        assert os.copy_file_range(source.fileno(), target.fileno(), 20 * MiB, 20 * MiB, 20 * MiB) == 10 * MiB
        assert os.copy_file_range(source.fileno(), target.fileno(), 1, 30 * MiB, 30 * MiB) == 0
    mounted.run("cp", "r/master/from", "r/master/again")
    with (master / "from").open("rb") as source, (master / "part").open("wb", buffering=0) as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), MiB, 5 * MiB, 0) == MiB
    assert (master / "to").read_bytes() == data == (master / "again").read_bytes()
    finish(master)
    at = commit("r", "master")
    assert daemon.get(at, "/to") == data == daemon.get(at, "/again")
    assert daemon.get(at, "/part") == data[5 * MiB : 6 * MiB]
    with pytest.raises(OSError, match="Read-only"):
        (master / "to").write_bytes(b"")
