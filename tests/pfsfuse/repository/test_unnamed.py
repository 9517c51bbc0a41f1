"""Files of open commits that are made without a name (O_TMPFILE), and may get one."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored
from tests.support.pipelines import until

_BEFORE = {"/old": b"old content", "/dir/a": b"a", "/dir/b": b"b"}


@pytest.fixture(autouse=True)
def _needs_kernel(master: pathlib.Path) -> None:
    """FUSE passes O_TMPFILE on since Linux 6.1."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release < (6, 1):
        pytest.skip(f"Linux {os.uname().release} does not pass O_TMPFILE on to FUSE: 6.1 does")
    assert master.is_dir()


def unnamed(directory: pathlib.Path, flags: int = os.O_RDWR, mode: int = 0o640) -> int:
    return os.open(directory, os.O_TMPFILE | flags, mode)


def name(number: int, path: pathlib.Path) -> None:
    # Python passes "follow" on only with a directory, which an absolute path does not need.
    os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number, follow_symlinks=True)


def scratch_files(mounted: Mounted) -> int:
    """How many files of its own the mount has open."""
    count = 0
    for each in pathlib.Path(f"/proc/{mounted.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            count += "(deleted)" in os.readlink(each)
    return count


@pytest.mark.parametrize("size", [0, 10, 70_000, 3 << 20])
def test_a_file_that_gets_a_name_is_in_the_commit(daemon: Daemon, master: pathlib.Path, size: int) -> None:
    content = os.urandom(size)
    number = unnamed(master / "dir")
    try:
        assert os.fstat(number).st_nlink == 0
        assert stat.S_IMODE(os.fstat(number).st_mode) == 0o640
        assert os.write(number, content) == size
        assert os.pread(number, size + 1, 0) == content
        assert sorted(os.listdir(master / "dir")) == ["a", "b"]
        os.setxattr(number, "user.kind", b"new")
        os.utime(number, (5, 7))
        name(number, master / "named")
        assert os.fstat(number).st_nlink == 1
        assert os.fstat(number).st_ino == (master / "named").stat().st_ino
    finally:
        os.close(number)
    assert (master / "named").read_bytes() == content
    finish(master)
    assert stored(daemon) == {**_BEFORE, "/named": content}
    assert (master / "named").read_bytes() == content
    told = (master / "named").stat()
    assert (stat.S_IMODE(told.st_mode), told.st_mtime, told.st_nlink) == (0o640, 7, 1)
    assert os.getxattr(master / "named", "user.kind") == b"new"


def test_a_file_without_a_name_leaves_nothing(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    before = scratch_files(mounted)
    numbers = [unnamed(master) for _ in range(20)]
    try:
        for each, number in enumerate(numbers):
            os.pwrite(number, bytes([each]) * (2 << 20), 0)
        assert [os.pread(number, 2, 1 << 20) for number in numbers] == [bytes([each]) * 2 for each in range(20)]
        assert len({os.fstat(number).st_ino for number in numbers}) == 20
        assert scratch_files(mounted) == before + 20
        name(numbers[7], master / "seven")
    finally:
        for number in numbers:
            os.close(number)
    finish(master)
    assert stored(daemon) == {**_BEFORE, "/seven": b"\7" * (2 << 20)}
    until(lambda: scratch_files(mounted) == before)


def test_what_is_written_after_the_naming_is_kept(daemon: Daemon, master: pathlib.Path) -> None:
    number = unnamed(master)
    try:
        os.write(number, b"before")
        name(number, master / "dir/one")
        os.write(number, b" and after")
        os.link(master / "dir/one", master / "two")
        assert os.fstat(number).st_nlink == 2
        (master / "dir/one").rename(master / "old")
        finish(master)
    finally:
        os.close(number)
    assert stored(daemon) == {**_BEFORE, "/old": b"before and after", "/two": b"before and after"}


def test_a_file_keeps_its_content_while_only_its_place_is_held(daemon: Daemon, master: pathlib.Path) -> None:
    number = unnamed(master)
    os.write(number, b"content")
    place = os.open(f"/proc/self/fd/{number}", os.O_PATH)
    os.close(number)
    try:
        name(place, master / "named")
    finally:
        os.close(place)
    assert (master / "named").read_bytes() == b"content"
    finish(master)
    assert stored(daemon)["/named"] == b"content"


def test_names_that_can_not_be_given(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    daemon.create_repo("s")
    daemon.start_commit("s")
    alone, free = unnamed(master, os.O_RDWR | os.O_EXCL), unnamed(master)
    try:
        fails_with(errno.ENOENT, lambda: name(alone, master / "new"))
        fails_with(errno.EEXIST, lambda: name(free, master / "old"))
        fails_with(errno.EXDEV, lambda: name(free, mounted.path / "s/master/new"))
        name(free, master / "new")
        (master / "new").unlink()
        fails_with(errno.ENOENT, lambda: name(free, master / "new"))
    finally:
        os.close(alone)
        os.close(free)
    finish(master)
    assert stored(daemon) == _BEFORE


def test_finished_commits_take_none(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    number = unnamed(master)
    try:
        os.write(number, b"late")
        finish(master)
        fails_with(errno.EROFS, lambda: name(number, master / "late"))
        assert os.pread(number, 10, 0) == b"late"
    finally:
        os.close(number)
    fails_with(errno.EROFS, lambda: unnamed(master))
    fails_with(errno.EPERM, lambda: unnamed(mounted.path / "r"))
    daemon.start_commit("r")
    os.close(unnamed(master))  # what was refused is asked for again
    assert stored(daemon) == _BEFORE


def test_a_mount_that_prints_requests_makes_them_too(
    daemon: Daemon, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert master.is_dir()
    with mounting(daemon, tmp_path / "second", "--debug") as made:
        number = unnamed(made.path / "r/master/dir")
        try:
            os.write(number, b"content")
            name(number, made.path / "r/master/named")
        finally:
            os.close(number)
        finish(made.path / "r/master")
    assert stored(daemon) == {**_BEFORE, "/named": b"content"}
