"""Open commits written through real mounts: files, directories, and control by ordinary calls."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pathlib
import random
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from pfsfuse.opencommits.opennodes import OpenDir
from tests.support.daemons import Daemon, commit
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored
from tests.support.places import let_others_in

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


def rename2(source: pathlib.Path, target: pathlib.Path, flags: int) -> None:
    at = -100
    if _libc.renameat2(at, os.fsencode(source), at, os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


# --- files -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_at_once_and_is_in_the_store_when_the_commit_finishes(
    daemon: Daemon, master: pathlib.Path
) -> None:
    (master / "new").write_bytes(b"new")
    with (master / "old").open("r+b") as file:
        file.seek(4)
        file.write(b"CONTENT and more")
        file.flush()
        assert (master / "old").read_bytes() == b"old CONTENT and more"
        assert (master / "old").stat().st_size == 20
        file.truncate(5)
        assert (master / "old").stat().st_size == 5
        file.truncate(8)
    with (master / "dir/a").open("ab") as file:
        file.write(b"ppended")
    (master / "dir/b").write_bytes(b"")
    want = {"/new": b"new", "/old": b"old C\0\0\0", "/dir/a": b"appended", "/dir/b": b""}
    assert sorted(os.listdir(master)) == ["dir", "new", "old"]
    finish(master)
    assert stored(daemon) == want
    assert {"/" + str(p.relative_to(master)): p.read_bytes() for p in master.rglob("*") if p.is_file()} == want


def test_a_large_file_changes_in_the_middle_at_the_end_and_by_mapping(daemon: Daemon, master: pathlib.Path) -> None:
    data = bytearray(random.Random(1).randbytes(9 << 20))
    big = master / "big"
    big.write_bytes(data)
    with big.open("r+b", buffering=0) as file:
        for offset in (5, 4_000_000, len(data) - 3):
            file.seek(offset)
            file.write(b"changed")
            data[offset : offset + 7] = b"changed"
        os.fsync(file.fileno())
        assert daemon.get(commit("r", "master"), "big") == data
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[1000:1004] = data[1000:1004] = b"mmap"
    with big.open("ab") as file:
        file.write(b"the end")
    finish(master)
    assert stored(daemon)["/big"] == data + b"the end"


def test_the_holes_of_a_sparse_file_cost_nothing(daemon: Daemon, master: pathlib.Path) -> None:
    with (master / "sparse").open("wb") as file:
        file.truncate(40 << 30)
        file.seek(9 << 30)
        file.write(b"data")
    finish(master)
    assert (master / "sparse").stat().st_size == 40 << 30
    assert daemon.get(commit("r", "master"), "sparse", (9 << 30) - 2, 8) == b"\0\0data\0\0"
    assert sum(path.stat().st_size for path in daemon.root.rglob("*") if path.is_file()) < 32 << 20


def test_two_handles_an_unlinked_file_and_a_renamed_one(daemon: Daemon, master: pathlib.Path) -> None:
    with (master / "f").open("w+b", buffering=0) as one, (master / "f").open("r+b", buffering=0) as other:
        one.write(b"one")
        assert other.read() == b"one"
        other.write(b" two")
        (master / "f").rename(master / "g")
        one.seek(0)
        assert one.read() == b"one two"
        (master / "g").unlink()
        other.write(b" three")
        one.seek(0)
        assert one.read() == b"one two three"
        assert os.fstat(one.fileno()).st_nlink == 0
    with (master / "old").open("rb") as file:
        (master / "old").unlink()
        (master / "old").write_bytes(b"another")
        assert file.read() == b"old content"
    finish(master)
    assert stored(daemon) == {"/old": b"another", "/dir/a": b"a", "/dir/b": b"b"}


def test_flags_of_open_are_obeyed(master: pathlib.Path) -> None:
    fails_with(errno.EEXIST, lambda: os.open(master / "old", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.close(os.open(master / "old", os.O_TRUNC | os.O_WRONLY))
    assert (master / "old").read_bytes() == b""
    os.close(os.open(master / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert (master / "new").stat().st_size == 0
    fails_with(errno.EISDIR, lambda: os.open(master / "dir", os.O_WRONLY))


def test_names_of_all_kinds(daemon: Daemon, master: pathlib.Path) -> None:
    names = ["new\nline", " space ", "日本", "*?[]", "x" * 255]
    for name in names:
        (master / name).write_bytes(name.encode())
    assert set(names) < set(os.listdir(master))
    raw = os.fsencode(master)
    fails_with(errno.ENOENT, lambda: os.stat(raw + b"/\xff"))
    os.mkdir(raw + b"/\xff")
    pathlib.Path(os.fsdecode(raw + b"/\xff/a\x80")).write_bytes(b"any bytes")
    os.rename(raw + b"/old", raw + b"/\xfe")
    assert {b"\xff", b"\xfe"} < set(os.listdir(raw))
    assert os.listdir(raw + b"/\xff") == [b"a\x80"]
    for call in ((master / ("y" * 1025)).mkdir, lambda: (master / ("y" * 1025)).write_bytes(b"")):
        fails_with(errno.ENAMETOOLONG, call)
    fails_with(errno.ENAMETOOLONG, lambda: os.rename(master / "日本", master / ("y" * 1025)))
    finish(master)
    found = stored(daemon)
    assert {name: found["/" + name] for name in names} == {name: name.encode() for name in names}
    assert (found["/\uf7ff/a\uf780"], found["/\uf7fe"]) == (b"any bytes", b"old content")
    assert {b"\xff", b"\xfe"} < set(os.listdir(raw))
    assert pathlib.Path(os.fsdecode(raw + b"/\xff/a\x80")).read_bytes() == b"any bytes"


def test_more_files_are_open_at_once_than_a_process_may_have_by_default(daemon: Daemon, master: pathlib.Path) -> None:
    files = [(master / f"{number:04}").open("wb", buffering=0) for number in range(900)]
    for number, file in enumerate(files):
        file.write(b"%d" % number)
    for file in files:
        file.close()
    finish(master)
    found = stored(daemon)
    assert all(found[f"/{number:04}"] == b"%d" % number for number in range(900))


# --- directories -----------------------------------------------------------------------------------------------


def test_directories_are_made_renamed_and_removed(daemon: Daemon, master: pathlib.Path) -> None:
    (master / "new/below").mkdir(parents=True)
    (master / "new/below/f").write_bytes(b"f")
    fails_with(errno.EEXIST, (master / "new").mkdir)
    fails_with(errno.ENOTEMPTY, (master / "new").rmdir)
    fails_with(errno.ENOTDIR, (master / "old").rmdir)
    (master / "new").rename(master / "moved")
    assert (master / "moved/below/f").read_bytes() == b"f"
    fails_with(errno.EINVAL, lambda: (master / "moved").rename(master / "moved/below/x"))
    fails_with(errno.ENOTEMPTY, lambda: (master / "moved").rename(master / "dir"))
    fails_with(errno.ENOTDIR, lambda: (master / "moved").rename(master / "old"))
    fails_with(errno.EISDIR, lambda: (master / "old").rename(master / "dir"))
    (master / "dir").rename(master / "moved/dir")
    (master / "moved/dir/a").unlink()
    (master / "moved/dir/b").rename(master / "b")
    (master / "moved/dir").rmdir()
    (master / "empty").mkdir()
    assert sorted(os.listdir(master)) == ["b", "empty", "moved", "old"]
    finish(master)
    assert stored(daemon) == {"/b": b"b", "/moved/below/f": b"f", "/old": b"old content"}
    assert sorted(os.listdir(master)) == ["b", "empty", "moved", "old"]


def test_a_directory_made_anew_just_after_its_removal_is_empty(daemon: Daemon, master: pathlib.Path) -> None:
    for name in ("sent", "again"):
        shutil.rmtree(master / "dir")
        (master / "dir").mkdir()
        assert os.listdir(master / "dir") == []
        (master / "dir/below").mkdir()
        (master / "dir/below" / name).write_bytes(b"")
        assert (master / "dir/below" / name).exists()
        os.setxattr(master, "user.pfs.flush", b"")
        assert os.listdir(master / "dir/below") == [name]
    finish(master)
    assert [path.name for path in (master / "dir").rglob("*")] == ["below", "again"]


def test_renames_replace_refuse_to_replace_and_exchange(daemon: Daemon, master: pathlib.Path) -> None:
    (master / "new").write_bytes(b"new")
    fails_with(errno.EEXIST, lambda: rename2(master / "new", master / "old", RENAME_NOREPLACE))
    rename2(master / "new", master / "fresh", RENAME_NOREPLACE)
    rename2(master / "fresh", master / "old", RENAME_EXCHANGE)
    assert ((master / "old").read_bytes(), (master / "fresh").read_bytes()) == (b"new", b"old content")
    rename2(master / "dir", master / "fresh", RENAME_EXCHANGE)
    assert (master / "fresh/a").read_bytes() == b"a"
    (master / "dir").rename(master / "old")
    fails_with(errno.ENOENT, lambda: rename2(master / "old", master / "none", RENAME_EXCHANGE))
    finish(master)
    assert stored(daemon) == {"/old": b"old content", "/fresh/a": b"a", "/fresh/b": b"b"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_other_users_read_and_do_not_write_what_is_not_theirs(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/f": b"f", "/d/g": b"g"}, "finished")
    at = daemon.start_commit("r", "open")
    daemon.put(at, "/f", b"open f")
    let_others_in(tmp_path)

    def as_nobody(command: str, path: pathlib.Path) -> tuple[int, bytes]:
        result = subprocess.run(
            ["sh", "-c", command],
            cwd="/",
            env={"M": str(path)},
            user=65534,
            group=65534,
            capture_output=True,
            check=False,
        )
        return result.returncode, result.stdout

    with mounting(daemon, tmp_path / "shared", "--allow-other") as shared:
        found = as_nobody('cat "$M"/r/*/f "$M"/r/finished/d/g; stat -c %u:%g:%a "$M"/r/*/f; ls "$M"', shared.path)
        assert found == (0, b"fopen fg0:0:644\n0:0:644\nr\n")
        for attempt in (
            'echo > "$M/r/open/f"', 'echo > "$M/r/open/new"', 'rm -f "$M/r/open/f"', 'mkdir "$M/r/new"',
            'mv "$M/r/open/f" "$M/r/open/g"', 'setfattr -n user.pfs.finish "$M/r/open"', 'truncate -s 0 "$M/r/open/f"',
        ):  # fmt: skip
            assert as_nobody(attempt, shared.path)[0] != 0, attempt
        assert (shared.path / "r/open/f").read_bytes() == b"open f"
        assert os.getxattr(shared.path / "r/open", "user.pfs.state") == b"open"
        (shared.path / "r/open/f").write_bytes(b"by its user")
        assert as_nobody('cat "$M/r/open/f"', shared.path) == (0, b"by its user")
    with mounting(daemon, tmp_path / "own") as own:
        assert as_nobody('ls "$M"', own.path)[0] != 0


# --- control ---------------------------------------------------------------------------------------------------


def test_repos_and_commits_are_made_finished_started_and_deleted_in_the_shell(daemon: Daemon, mounted: Mounted) -> None:
    mounted.run("mkdir", "r", "r/master")
    master = mounted.path / "r/master"
    (master / "f").write_bytes(b"1")
    assert os.getxattr(master, "user.pfs.state") == b"open"
    assert os.getxattr(master, "user.pfs.branch") == b"master"
    fails_with(errno.EEXIST, (mounted.path / "r").mkdir)
    fails_with(errno.EEXIST, master.mkdir)
    fails_with(errno.EEXIST, lambda: os.setxattr(master, "user.pfs.start", b""))
    finish(master)
    assert os.getxattr(master, "user.pfs.state") == b"finished"
    fails_with(errno.EROFS, lambda: finish(master))
    fails_with(errno.EROFS, lambda: (master / "f").write_bytes(b""))
    os.setxattr(master, "user.pfs.start", b"")
    (master / "f").write_bytes(b"2")
    os.setxattr(master, "user.pfs.delete", b"")
    assert (master / "f").read_bytes() == b"1"
    fails_with(errno.ENOTEMPTY, (mounted.path / "r").rmdir)
    (mounted.path / "empty").mkdir()
    (mounted.path / "empty").rmdir()
    assert os.listdir(mounted.path) == ["r"]
    fails_with(errno.EINVAL, (mounted.path / "not a repo").mkdir)
    fails_with(errno.EPERM, lambda: (mounted.path / "file").write_bytes(b""))
    fails_with(errno.EPERM, lambda: (mounted.path / "r/file").write_bytes(b""))


def test_an_open_commit_is_one_directory_under_all_its_names(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    repo = mounted.path / "r"
    (repo / "master/f").write_bytes(b"x")
    assert (repo / at.id / "f").read_bytes() == b"x"
    (repo / at.id / "g").write_bytes(b"y")
    assert sorted(os.listdir(repo / "master")) == ["f", "g"]
    finish(repo / at.id)
    assert stored(daemon) == {"/f": b"x", "/g": b"y"}


def test_a_directory_is_empty_though_its_removals_are_sent_while_its_tree_is_read() -> None:
    class Commit:
        """Has taken what was removed by the time that its former tree has been read."""

        root = b"before"

        @property
        def content(self) -> Commit:
            return self

        async def freshen(self) -> None:
            pass

        async def run(self, read: Callable[[], bytes]) -> bytes:
            return read()

        async def page(self, root: bytes, start: bytes, count: int) -> list[tuple[bytes, bytes]]:
            if root != b"before":
                return []
            self.root = b"after"
            directory.hidden.clear()
            return [(b"removed", b"")]

    directory = OpenDir(None, b"", cast("Any", Commit()), snapshot=cast("Any", None))
    directory.hidden.add(b"removed")
    assert trio.run(directory.is_empty)
