"""Parts of large files, files with holes, and files that others write, through real mounts."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pathlib
import random
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import UnavailableError
from pfsd.names.sizes import MAX_FILE_BYTES
from pfsfuse.kernel.mounts import unmount
from tests.pfsfuse.repository.test_faults import bytes_read, no_more_files
from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

MiB = 1 << 20
PAGE = 4096


@pytest.fixture
def impatient(daemon: Daemon, tmp_path: pathlib.Path, state: pathlib.Path) -> Iterator[Mounted]:
    """A mount that gives a daemon up soon."""
    with mounting(daemon, tmp_path / "impatient", "--patience", "1") as made:
        yield made


@pytest.fixture
def opened(daemon: Daemon) -> pfs_pb2.Commit:
    """An open commit on master in the repo r."""
    daemon.create_repo("r")
    return daemon.start_commit("r")


@pytest.fixture
def master(opened: pfs_pb2.Commit, mounted: Mounted) -> pathlib.Path:
    return mounted.path / "r/master"


def entry_of(daemon: Daemon, at: pfs_pb2.Commit, path: str) -> bytes:
    """The hash of what is at a path."""
    request = pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=at, path=path))
    return bytes(daemon.pfs.InspectFile(request).hash)


# --- parts of large files --------------------------------------------------------------------------------------


def test_a_page_and_its_fsync_move_the_page_whatever_the_size_of_the_file(
    daemon: Daemon, opened: pfs_pb2.Commit, mounted: Mounted, master: pathlib.Path
) -> None:
    rng = random.Random(1)
    content = bytearray(rng.randbytes(48 * MiB))
    with (master / "large").open("w+b", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
        before = bytes_read(mounted.process.pid)
        for _ in range(10):
            at, page = rng.randrange(len(content) // PAGE) * PAGE, rng.randbytes(PAGE)
            os.pwrite(file.fileno(), page, at)
            os.fsync(file.fileno())
            content[at : at + PAGE] = page
        assert bytes_read(mounted.process.pid) - before < 8 * MiB
    assert daemon.get(opened, "large") == content
    daemon.put(opened, "again", bytes(content))
    assert entry_of(daemon, opened, "large") == entry_of(daemon, opened, "again")


def test_a_page_of_a_file_from_an_earlier_commit_is_changed_without_fetching_it(
    daemon: Daemon, opened: pfs_pb2.Commit, mounted: Mounted, master: pathlib.Path
) -> None:
    content = bytearray(random.Random(2).randbytes(32 * MiB))
    daemon.put(opened, "large", bytes(content))
    daemon.finish_commit(opened)
    second = daemon.start_commit("r")
    os.stat(master / "large")
    before = bytes_read(mounted.process.pid)
    with (master / "large").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"page", 20 * MiB)
    assert bytes_read(mounted.process.pid) - before < 16 * MiB
    content[20 * MiB : 20 * MiB + 4] = b"page"
    assert daemon.get(second, "large") == content
    with (master / "large").open("ab") as file:
        file.write(b"at the end")
    assert daemon.get(second, "large") == content + b"at the end"


class Modelled:
    """A file that is written in all ways, through two handles, and what it should hold."""

    def __init__(self, path: pathlib.Path, seed: int) -> None:
        self.path = path
        self.rng = random.Random(seed)
        self.model = bytearray()
        self.handles = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)

    def step(self) -> None:
        rng, fd = self.rng, self.rng.choice(self.handles)
        size = len(self.model)
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                self._write(fd, rng.randrange(size + MiB), rng.randbytes(rng.choice((1, PAGE, 70_000, MiB))))
            case 4:
                self._write(fd, size, rng.randbytes(rng.choice((10, 2 * MiB))))
            case 5:
                size = max(0, min(16 * MiB, size + rng.choice((-3 * MiB, -100, 100, 9 * MiB))))
                os.ftruncate(fd, size)
                self.model[size:] = bytes(max(0, size - len(self.model)))
            case 6 if size > PAGE:
                at, data = rng.randrange(size - 100), rng.randbytes(100)
                with mmap.mmap(fd, 0) as mapped:
                    mapped[at : at + 100] = data
                self.model[at : at + 100] = data
            case 7 | 8:
                os.fsync(fd)
            case 9:
                self.handles.remove(fd)
                os.close(fd)
                self.handles.append(os.open(self.path, os.O_RDWR))
        at = rng.randrange(len(self.model) + 10)
        assert os.pread(self.handles[0], 100_000, at) == self.model[at : at + 100_000]

    def _write(self, fd: int, at: int, data: bytes) -> None:
        os.pwrite(fd, data, at)
        self.model.extend(bytes(max(0, at + len(data) - len(self.model))))
        self.model[at : at + len(data)] = data


@pytest.mark.parametrize("seed", range(4))
def test_a_file_that_is_written_in_all_ways_holds_what_was_written(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path, seed: int
) -> None:
    file = Modelled(master / "f", seed)
    for _ in range(60):
        file.step()
    file.close()
    assert (master / "f").read_bytes() == file.model
    daemon.put(opened, "again", bytes(file.model))
    finish(master)
    at = pfs_pb2.Commit(repo={"name": "r"}, id="master")
    assert daemon.get(at, "f") == file.model
    assert entry_of(daemon, at, "f") == entry_of(daemon, at, "again")


@pytest.mark.parametrize("journal", ["delete", "truncate", "wal"])
def test_a_database_lives_in_an_open_commit(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path, tmp_path: pathlib.Path, journal: str
) -> None:
    with contextlib.closing(sqlite3.connect(master / "base.db")) as base:
        base.execute(f"pragma journal_mode={journal}")
        base.execute("pragma synchronous=full")
        base.execute("create table t (n integer primary key, text blob)")
        for number in range(40):
            with base:
                base.execute("insert into t values (?, ?)", (number, os.urandom(20_000)))
                base.execute("update t set text = ? where n = ?", (os.urandom(20_000), number // 2))
            with contextlib.suppress(ZeroDivisionError), base:
                base.execute("delete from t")
                raise ZeroDivisionError
    finish(master)
    (tmp_path / "copy.db").write_bytes(stored(daemon)["/base.db"])
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
        assert copy.execute("select count(*), sum(length(text)) from t").fetchone() == (40, 800_000)


def test_a_patch_that_the_daemon_can_not_build_on_is_sent_whole(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path
) -> None:
    content = bytearray(random.Random(3).randbytes(3 * MiB))
    with (master / "f").open("w+b", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"page", MiB)
        daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=opened, path="f")))
        daemon.store.GetCommitTree(opened)  # folds, so that nothing tells of the former content
        rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"]).CollectGarbage(Empty())
    content[MiB : MiB + 4] = b"page"
    assert daemon.get(opened, "f") == content


# --- holes and sizes -------------------------------------------------------------------------------------------


def test_sizes_that_no_file_can_have_are_refused_at_once(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path
) -> None:
    with (master / "f").open("w+b", buffering=0) as file:
        fd = file.fileno()
        file.write(b"before")
        calls: tuple[Callable[[], object], ...] = (
            lambda: os.truncate(master / "f", 1 << 50),
            lambda: os.ftruncate(fd, MAX_FILE_BYTES + 1),
            lambda: os.ftruncate(fd, (1 << 63) - 1),
            lambda: os.pwrite(fd, b"x", MAX_FILE_BYTES),
            lambda: os.pwrite(fd, b"x", 1 << 62),
        )
        for call in calls:
            fails_with(errno.EFBIG, call)
        assert os.fstat(fd).st_size == 6
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 6
        os.fsync(fd)
    assert stored(daemon) == {"/f": b"before"}


def test_a_hole_as_large_as_a_file_can_be_costs_nothing(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (master / "hole").open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), MAX_FILE_BYTES)
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"x", 1 << 39)
        os.fsync(file.fileno())
    daemon.finish_commit(opened)
    at = pfs_pb2.Commit(repo={"name": "r"}, id="master")
    assert daemon.get(at, "hole", (1 << 39) - 1, 3) == b"\0x\0"
    with (master / "hole").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 10, MAX_FILE_BYTES - 5) == bytes(5)
    assert blocks_below(tmp_path) * 512 < 64 * MiB


def blocks_below(top: pathlib.Path) -> int:
    """How much disk the files of the test take, but for what is mounted there."""
    files = (path for name in ("root", "state") for path in (top / name).rglob("*"))
    return sum(path.stat().st_blocks for path in files)


def test_what_is_kept_of_a_file_with_holes_has_them_too(
    daemon: Daemon, opened: pfs_pb2.Commit, impatient: Mounted, state: pathlib.Path
) -> None:
    master = impatient.path / "r/master"
    new, old = (os.open(master / name, os.O_RDWR | os.O_CREAT) for name in ("new", "old"))
    os.ftruncate(old, 1 << 36)
    os.fsync(old)
    os.ftruncate(new, MAX_FILE_BYTES)
    os.pwrite(new, b"new", MAX_FILE_BYTES - 3)
    os.pwrite(old, b"old", 1 << 35)
    daemon.kill()
    fails_with(errno.ETIMEDOUT, lambda: os.close(new))
    fails_with(errno.ETIMEDOUT, lambda: os.close(old))
    with pytest.raises(UnavailableError, match="is unmounted, but what was written"):
        unmount(str(impatient.path))
    assert impatient.process.wait(60) == 0
    kept = {path.name.removesuffix(".partial"): path for path in state.rglob("*") if path.is_file()}
    assert {name: path.stat().st_size for name, path in kept.items()} == {"new": MAX_FILE_BYTES, "old": 1 << 36}
    assert sum(path.stat().st_blocks for path in kept.values()) * 512 < MiB
    for name, at in (("new", MAX_FILE_BYTES - 3), ("old", 1 << 35)):
        with kept[name].open("rb") as file:
            file.seek(at)
            assert file.read(3) == name.encode()


# --- what this machine refuses ---------------------------------------------------------------------------------


def test_a_file_that_can_neither_be_sent_nor_kept_is_reported_until_it_can(
    daemon: Daemon, opened: pfs_pb2.Commit, mounted: Mounted, master: pathlib.Path, state: pathlib.Path
) -> None:
    state.write_bytes(b"no directory")
    with (master / "f").open("wb", buffering=0) as file:
        file.write(b"precious")
        daemon.put(opened, "f/below", b"another client's")
        fails_with(errno.ENOTDIR, lambda: os.fsync(file.fileno()))
        (master / "other").write_bytes(b"goes on")
        assert (master / "other").read_bytes() == b"goes on"
        state.unlink()
        fails_with(errno.EPERM, lambda: retried(lambda: os.fsync(file.fileno()), errno.ENOTDIR))
    assert [path.read_bytes() for path in state.rglob("f")] == [b"precious"]
    finish(master)
    assert mounted.process.poll() is None
    assert stored(daemon) == {"/f/below": b"another client's", "/other": b"goes on"}


def retried(call: Callable[[], None], number: int) -> None:
    """Call until it does not fail with an error that was noted in the background before."""
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno != number:
                raise


def test_a_mount_that_may_open_no_more_files_says_so_and_goes_on(
    daemon: Daemon, opened: pfs_pb2.Commit, mounted: Mounted, master: pathlib.Path
) -> None:
    data = random.Random(4).randbytes(MiB)
    with (master / "f").open("wb", buffering=0) as file:
        file.write(data[:1000])
        with no_more_files(mounted.process.pid):
            fails_with(errno.EMFILE, lambda: os.pwrite(file.fileno(), data, 0))
        assert os.pwrite(file.fileno(), data, 0) == MiB
    assert daemon.get(opened, "f") == data


def test_unmounting_ends_where_nothing_can_be_kept(
    daemon: Daemon, opened: pfs_pb2.Commit, impatient: Mounted, state: pathlib.Path
) -> None:
    master = impatient.path / "r/master"
    state.write_bytes(b"no directory")
    with (master / "f").open("wb", buffering=0) as file:
        file.write(b"lost")
        daemon.kill()
    with pytest.raises(UnavailableError):
        unmount(str(impatient.path))
    assert impatient.process.wait(60) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a tmpfs")
def test_a_full_disk_of_the_mount_is_told_to_the_writer_and_passes(
    daemon: Daemon, opened: pfs_pb2.Commit, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    with tmpfs(small, "1m"):
        monkeypatch.setenv("TMPDIR", str(small))
        monkeypatch.setenv("XDG_STATE_HOME", str(small / "state"))
        with mounting(daemon, tmp_path / "mnt") as mounted:
            master = mounted.path / "r/master"
            with (master / "large").open("wb", buffering=0) as file:
                data = bytes([1]) * (4 * MiB)
                fails_with(errno.ENOSPC, lambda: write_all(file.fileno(), data))
            os.unlink(master / "large")
            (master / "next").write_bytes(data[: MiB // 2])
            assert (master / "next").read_bytes() == data[: MiB // 2]
            with (master / "f").open("wb", buffering=0) as file, (small / "filler").open("wb", buffering=0) as filler:
                file.write(b"x" * 60_000)
                daemon.put(opened, "f/below", b"another client's")
                with contextlib.suppress(OSError):
                    write_all(filler.fileno(), data)
                fails_with(errno.ENOSPC, lambda: os.fsync(file.fileno()))
                os.ftruncate(filler.fileno(), 0)
                fails_with(errno.EPERM, lambda: retried(lambda: os.fsync(file.fileno()), errno.ENOSPC))
            assert mounted.process.poll() is None
            assert [path.stat().st_size for path in (small / "state").rglob("f")] == [60_000]


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def tmpfs(path: pathlib.Path, size: str) -> Iterator[None]:
    """A file system of that size at `path` for the block."""
    path.mkdir()
    os.system(f"mount -t tmpfs -o size={size} tmpfs {path}")
    try:
        yield
    finally:
        os.system(f"umount -l {path}")


# --- what others write -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND])
@pytest.mark.parametrize("size", [3, MiB])
def test_the_next_open_sees_what_was_put_into_a_file_that_is_still_open(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path, flags: int, size: int
) -> None:
    path = master / "d"
    path.write_bytes(b"f" * size)
    assert path.read_bytes() == b"f" * size
    held = os.open(path, flags)
    with path.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())
    daemon.put(opened, "d", b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_size == 3
    with path.open("ab") as file:
        file.write(b"app")
    os.close(held)
    assert path.read_bytes() == b"newapp"
    finish(master)
    assert stored(daemon) == {"/d": b"newapp"}


def test_what_is_put_after_a_file_was_closed_is_what_counts(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path
) -> None:
    for number in range(20):  # before the mount has sent what waits there for a moment
        (master / "d").write_bytes(b"closed before %d" % number)
        daemon.put(opened, "d", b"put %d" % number, overwrite=True)
        assert (master / "d").read_bytes() == b"put %d" % number
    (master / "other").write_bytes(b"not touched")
    (master / "d").write_bytes(b"closed after")
    finish(master)
    assert stored(daemon) == {"/d": b"closed after", "/other": b"not touched"}


def test_a_file_that_another_client_removes_or_makes_a_directory_while_it_is_open(
    daemon: Daemon, opened: pfs_pb2.Commit, master: pathlib.Path
) -> None:
    for name in ("gone", "becomes"):
        (master / name).write_bytes(b"content of " + name.encode())
    with (master / "gone").open("r+b", buffering=0) as gone, (master / "becomes").open("rb", buffering=0) as becomes:
        for file in (gone, becomes):
            os.fsync(file.fileno())
        for name in ("gone", "becomes"):
            daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=opened, path=name)))
        daemon.put(opened, "becomes/below", b"below")
        assert os.listdir(master) == ["becomes"]
        fails_with(errno.ENOENT, lambda: (master / "gone").stat())
        assert (master / "becomes/below").read_bytes() == b"below"
        assert becomes.read() == b"content of becomes"
        gone.write(b"CONTENT")
        gone.seek(0)
        assert gone.read() == b"CONTENT of gone"
    finish(master)
    assert stored(daemon) == {"/becomes/below": b"below"}


def test_two_mounts_append_to_one_file_in_turn(
    daemon: Daemon, opened: pfs_pb2.Commit, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with mounting(daemon, tmp_path / "second") as second:
        paths = [master / "log", second.path / "r/master/log"]
        held = [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths]
        expected = b""
        for number in range(10):
            line = b"%d %s\n" % (number, b"." * (number % 3 * 50_000))
            with paths[number % 2].open("ab", buffering=0) as file:
                file.write(line)
                os.fsync(file.fileno())
            expected += line
            assert paths[(number + 1) % 2].read_bytes() == expected
        for handle in held:
            os.close(handle)
    finish(master)
    assert stored(daemon) == {"/log": expected}
