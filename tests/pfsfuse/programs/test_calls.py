"""System calls that programs rely on when several of them work on the same files."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import pathlib
import subprocess
import sys

import pytest

from tests.pfsfuse.programs.work import Work
from tests.support.openwrites import fails_with

WAIT_SECONDS = 60
NOREPLACE, EXCHANGE = 1, 2
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX) if sys.argv[2] == "flock" else fcntl.lockf(file, fcntl.LOCK_EX, 10)
print("held", flush=True)
sys.stdin.read()
"""
APPEND = """
import os, sys
number = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for each in range(300):
    os.write(number, f"{sys.argv[2]} {each:04}\\n".encode())
"""


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_locks_between_processes(work: Work, kind: str) -> None:
    path = work.top / "file"
    path.write_bytes(bytes(100))
    with path.open("r+b") as file:

        def take() -> None:
            if kind == "flock":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)

        command = [sys.executable, "-c", HOLD, str(path), kind]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"held\n"
                with pytest.raises(BlockingIOError):
                    take()
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)  # beside what is locked
                holder.communicate(timeout=WAIT_SECONDS)
            finally:
                holder.kill()
        take()


def test_appending_from_several_processes(work: Work) -> None:
    path = work.top / "log"
    path.touch()
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), who]) for who in "abcd"]
    try:
        assert [writer.wait(WAIT_SECONDS) for writer in writers] == [0] * 4
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    expected = sorted(f"{who} {each:04}" for who in "abcd" for each in range(300))
    assert sorted(path.read_text().splitlines()) == expected
    with work.finished() as top:
        assert sorted((top / "log").read_text().splitlines()) == expected


def test_direct_reads_and_writes(work: Work) -> None:
    path, size = work.top / "direct", 1 << 20
    with mmap.mmap(-1, size) as page:
        page.write(os.urandom(size))
        written = bytes(page)
        number = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        try:
            assert os.pwrite(number, page, 0) == size
            assert os.pwrite(number, page, size) == size
            page[:] = bytes(size)
            assert os.preadv(number, [page], size // 2) == size
            assert bytes(page) == written[size // 2 :] + written[: size // 2]
        finally:
            os.close(number)
        assert path.read_bytes() == written * 2
        with work.finished() as top:
            number = os.open(top / "direct", os.O_RDONLY | os.O_DIRECT)
            try:
                assert os.preadv(number, [page], size) == size
            finally:
                os.close(number)
            assert bytes(page) == written


def rename(one: pathlib.Path, other: pathlib.Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd = -100
    if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_renames_that_exchange_or_do_not_replace(work: Work) -> None:
    one, other, folder = work.top / "one", work.top / "other", work.top / "folder"
    one.write_text("1")
    other.write_text("2")
    folder.mkdir()
    (folder / "inside").write_text("3")
    fails_with(errno.EEXIST, lambda: rename(one, other, NOREPLACE))
    assert (one.read_text(), other.read_text()) == ("1", "2")
    rename(one, work.top / "free", NOREPLACE)
    rename(work.top / "free", other, EXCHANGE)
    assert ((work.top / "free").read_text(), other.read_text()) == ("2", "1")
    rename(other, folder, EXCHANGE)
    assert (folder.read_text(), (other / "inside").read_text()) == ("1", "3")
    fails_with(errno.ENOENT, lambda: rename(folder, one, EXCHANGE))
    with work.finished() as top:
        found = {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}
    assert found == {"free": "2", "folder": "1", "other/inside": "3"}
