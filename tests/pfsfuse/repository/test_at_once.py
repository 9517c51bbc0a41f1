"""What programs see of names and openings does not follow from who answers: at once, a task, or a disk."""

from __future__ import annotations

import ctypes
import os
import pathlib
import random
from collections.abc import Callable

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import mounting
from tests.support.openwrites import finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

_STEPS = 400
_NAMES = ["a", "b", "c", "sub", "sub/a", "sub/b", "sub/deep", "sub/deep/a", "missing/a"]
_NOREPLACE, _EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


def _rename(one: pathlib.Path, other: pathlib.Path, flags: int) -> None:
    at = -100
    if _libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def _write(path: pathlib.Path, flags: int, data: bytes) -> bytes:
    number = os.open(path, flags, 0o644)
    try:
        written = b"" if flags & os.O_ACCMODE == os.O_RDONLY else data[: os.write(number, data)]
        return written if flags & os.O_ACCMODE == os.O_WRONLY else os.pread(number, 100, 0)
    finally:
        os.close(number)


def _step(choose: random.Random, top: pathlib.Path) -> Callable[[], object]:
    """One thing to do, which follows from nothing but the random numbers."""
    one, other = (top / choose.choice(_NAMES) for _ in range(2))
    how, data = choose.randrange(12), choose.randbytes(choose.randrange(1, 40))
    flags = choose.choice([0, 0, 0, _NOREPLACE, _EXCHANGE])
    access = choose.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]) | choose.choice([0, os.O_TRUNC, os.O_APPEND])
    if how < 4:
        return lambda: _rename(one, other, flags)
    if how < 6:
        return lambda: _write(one, os.O_CREAT | access, data)
    if how < 8:
        return lambda: _write(one, access, data)
    return {
        8: lambda: os.unlink(one),
        9: lambda: os.mkdir(one),
        10: lambda: os.rmdir(one),
        11: lambda: os.link(one, other),
    }[how]


def _outcome(step: Callable[[], object]) -> object:
    try:
        return step()
    except OSError as error:
        return error.errno


def _found(top: pathlib.Path) -> dict[str, object]:
    return {"/" + str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


@pytest.mark.parametrize("options", [(), ("--debug",)], ids=["at once", "by tasks"])
@pytest.mark.parametrize("seed", range(4))
def test_names_and_openings_are_as_on_a_disk(
    daemon: Daemon, tmp_path: pathlib.Path, state: pathlib.Path, options: tuple[str, ...], seed: int
) -> None:
    assert not state.exists()
    daemon.create_repo("r")
    daemon.start_commit("r")
    disk = tmp_path / "disk"
    disk.mkdir()
    mine, its = random.Random(seed), random.Random(seed)
    with mounting(daemon, tmp_path / "mnt", *options) as mounted:
        top = mounted.path / "r/master"
        for number in range(_STEPS):
            expected = _outcome(_step(mine, disk))
            assert _outcome(_step(its, top)) == expected, number
            if number % 50 == 49:
                assert _found(top) == _found(disk), number
            if number % 120 == 119:
                os.setxattr(top, "user.pfs.flush", b"")
        finish(top)
        assert _found(top) == _found(disk)
    assert stored(daemon) == {name: data for name, data in _found(disk).items() if data is not None}
    assert not state.exists()
