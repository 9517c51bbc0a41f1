"""What files are beside their content: kept by open commits through a mount, and shown by the next one."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import stat
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.daemons import Daemon, commit
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import described, fails_with, finish, stored
from tests.support.places import let_others_in

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")

TIME = 1_234_567_890_123_456_789


@pytest.fixture
def owned(daemon: Daemon, tmp_path: pathlib.Path, state: pathlib.Path) -> Iterator[pathlib.Path]:
    """The root of an open commit, mounted with the owners that it keeps."""
    daemon.create_repo("r")
    daemon.start_commit("r")
    with mounting(daemon, tmp_path / "owned", "--owners", "stored") as made:
        yield made.path / "r/master"


def make_one_of_each(top: pathlib.Path) -> None:
    (top / "script").write_text("#!/bin/sh\necho ran\n")
    (top / "script").chmod(0o755)
    (top / "private").write_bytes(bytes(100_000))
    (top / "private").chmod(0o600)
    (top / "link").symlink_to("script")
    (top / "dangling").symlink_to("../no/where")
    (top / "sub").mkdir(0o700)
    (top / "sub/one").write_text("linked")
    (top / "sub/two").hardlink_to(top / "sub/one")
    (top / "three").hardlink_to(top / "sub/one")
    os.mkfifo(top / "pipe", 0o640)
    os.setxattr(top / "script", "user.mine", b"value\0")
    os.setxattr(top / "sub", "user.other", b"")
    os.utime(top / "private", ns=(TIME, TIME))
    os.utime(top / "link", ns=(TIME, TIME + 1), follow_symlinks=False)
    os.utime(top / "sub", ns=(TIME, TIME + 2))


def test_another_mount_shows_what_was_made(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    top = master / "made"
    top.mkdir()
    make_one_of_each(top)
    before = described(top)
    assert before["sub/one"][1] == before["three"][1] == 3
    assert before["private"][3] == before["sub"][3] - 2 == before["link"][3] - 1 == TIME  # type: ignore[operator]
    os.setxattr(master, "user.pfs.flush", b"")
    assert described(top) == before
    with mounting(daemon, tmp_path / "second") as second:
        other = second.path / "r/master/made"
        assert described(other) == before
        assert (other / "three").stat().st_ino == (other / "sub/two").stat().st_ino
        assert subprocess.run([other / "script"], check=True, capture_output=True).stdout == b"ran\n"
    finish(master)
    with mounting(daemon, tmp_path / "third") as third:
        other = third.path / "r/master/made"
        assert described(other) == before
        assert (other / "three").stat().st_ino == (other / "sub/two").stat().st_ino
        assert subprocess.run([other / "script"], check=True, capture_output=True).stdout == b"ran\n"


def test_times_do_not_go_back(master: pathlib.Path) -> None:
    for number in range(300):
        path = master / str(number)
        path.touch()
        made = path.stat()
        os.utime(path)
        assert path.stat().st_mtime_ns >= made.st_mtime_ns
        path.chmod(0o600)
        assert path.stat().st_ctime_ns >= made.st_ctime_ns


def test_a_file_of_several_names_is_one(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    one, two, three = master / "one", master / "dir/two", master / "three"
    one.write_text("first")
    two.hardlink_to(one)
    os.setxattr(master, "user.pfs.flush", b"")
    three.hardlink_to(two)
    two.write_text("second, by another name")
    assert one.read_text() == three.read_text() == "second, by another name"
    three.chmod(0o600)
    assert {path.stat().st_mode & 0o777 for path in (one, two, three)} == {0o600}
    one.unlink()
    assert (two.stat().st_nlink, two.stat().st_ino) == (2, three.stat().st_ino)
    two.rename(master / "moved")
    three.rename(master / "moved")  # the same file: nothing happens
    assert three.exists()
    (master / "dir").rename(master / "elsewhere")
    (master / "elsewhere/four").hardlink_to(three)
    (master / "elsewhere").rename(master / "dir")
    assert three.stat().st_nlink == 3
    with three.open("ab") as file:
        file.write(b"!")
    finish(master)
    texts = {name: daemon.get(commit("r", "master"), name) for name in ("/three", "/moved", "/dir/four")}
    assert texts == dict.fromkeys(texts, b"second, by another name!")


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_file_that_replaces_one_of_several_names_leaves_the_others(
    daemon: Daemon, master: pathlib.Path, is_sent: bool
) -> None:
    for name in ("new", "renamed"):
        where = master / name
        where.mkdir()
        (where / "one").write_bytes(b"shared")
        os.link(where / "one", where / "two")
        (where / "other").write_bytes(b"other")
        if name == "renamed" or is_sent:
            os.setxattr(master, "user.pfs.flush", b"")
        assert [(where / each).stat().st_nlink for each in ("two", "one")] == [2, 2]
        (where / "other").rename(where / "two")
        assert [(where / each).read_bytes() for each in ("two", "one")] == [b"other", b"shared"]
    finish(master)
    for name in ("new", "renamed"):
        found = stored(daemon)
        assert (found[f"/{name}/one"], found[f"/{name}/two"]) == (b"shared", b"other")


def test_what_is_copied_is_complete_and_a_second_copy_moves_nothing(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_one_of_each(source)
    mounted.run("cp", "-a", str(source), "r/master/copied")
    mounted.run("tar", "cf", str(tmp_path / "x.tar"), "--xattrs", "-C", str(source), ".")
    (master / "untarred").mkdir()
    mounted.run("tar", "xf", str(tmp_path / "x.tar"), "--xattrs", "-C", "r/master/untarred")
    assert described(master / "copied") == described(source) == described(master / "untarred")
    finish(master)
    mounted.run("cp", "-a", "r/master/copied", str(tmp_path / "back"))
    assert described(tmp_path / "back") == described(source)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync (apt install rsync)")
def test_a_second_rsync_moves_nothing_also_over_a_new_mount(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_one_of_each(source)

    def rsync(origin: pathlib.Path, target: pathlib.Path) -> str:
        command = ["rsync", "-aHXi", "--numeric-ids", f"{origin}/", f"{target}/"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    assert "sub/" in rsync(source, master / "there")
    assert rsync(source, master / "there") == ""
    finish(master)
    with mounting(daemon, tmp_path / "second") as second:
        other = second.path / "r/master/there"
        assert rsync(source, other) == ""
        assert "sub/" in rsync(other, tmp_path / "back")
    assert rsync(source, tmp_path / "back") == ""
    assert (tmp_path / "back/three").stat().st_nlink == 3


@needs_root
def test_owners_are_kept_and_shown_where_that_is_asked_for(
    daemon: Daemon, owned: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (owned / "file").write_text("x")
    (owned / "d").mkdir()
    os.chown(owned / "file", 12, 34)
    os.chown(owned / "d", 56, 78)
    os.setxattr(owned, "user.pfs.flush", b"")
    with mounting(daemon, tmp_path / "plain") as plain:
        shown = plain.path / "r/master"
        assert {(path.stat().st_uid, path.stat().st_gid) for path in (shown / "file", shown / "d")} == {(0, 0)}
        os.chown(shown / "file", 90, -1)
        assert (shown / "file").stat().st_uid == 0
        os.setxattr(shown, "user.pfs.flush", b"")
    with mounting(daemon, tmp_path / "stored", "--owners", "stored") as stored:
        file = (stored.path / "r/master/file").stat()
        directory = (stored.path / "r/master/d").stat()
        assert (file.st_uid, file.st_gid, directory.st_uid, directory.st_gid) == (90, 34, 56, 78)


@needs_root
def test_who_may_do_what_follows_from_bits_and_owners(
    daemon: Daemon, tmp_path: pathlib.Path, state: pathlib.Path
) -> None:
    daemon.create_repo("r")
    daemon.start_commit("r")
    let_others_in(tmp_path)

    def as_nobody(command: str, path: pathlib.Path) -> int:
        run = ["sh", "-c", command]
        return subprocess.run(run, cwd=path, user=65534, group=65534, capture_output=True, check=False).returncode

    with mounting(daemon, tmp_path / "mnt", "--allow-other", "--owners", "stored") as made:
        top = made.path / "r/master"
        for name, mode in {"readable": 0o644, "private": 0o600, "open": 0o666}.items():
            (top / name).write_text("x")
            (top / name).chmod(mode)
        (top / "shared").mkdir()
        (top / "shared").chmod(0o1777)
        assert as_nobody("cat readable", top) == 0
        assert as_nobody("cat private", top) != 0
        assert as_nobody("echo y > readable", top) != 0
        assert as_nobody("echo y > open", top) == 0
        assert as_nobody("touch new", top) != 0
        assert as_nobody("echo mine > shared/mine && chmod 600 shared/mine", top) == 0
        assert (top / "shared/mine").stat().st_uid == 65534
        assert as_nobody("chown root shared/mine", top) != 0


def test_extended_attributes(mounted: Mounted, master: pathlib.Path) -> None:
    file = master / "old"
    os.setxattr(file, "user.a", b"1")
    fails_with(errno.EEXIST, lambda: os.setxattr(file, "user.a", b"2", os.XATTR_CREATE))
    fails_with(errno.ENODATA, lambda: os.setxattr(file, "user.b", b"2", os.XATTR_REPLACE))
    os.setxattr(file, "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.a") == b"3"
    fails_with(errno.ENOSPC, lambda: os.setxattr(file, "user.large", bytes(5000)))
    fails_with(errno.EOPNOTSUPP, lambda: os.setxattr(file, "user.pfs.mine", b""))
    fails_with(errno.EOPNOTSUPP, lambda: os.setxattr(file, "trusted.mine", b""))
    assert os.listxattr(file) == ["user.a"]
    os.removexattr(file, "user.a")
    fails_with(errno.ENODATA, lambda: os.removexattr(file, "user.a"))
    fails_with(errno.ENODATA, lambda: os.getxattr(file, "user.a"))


def test_the_root_of_a_commit_has_attributes(daemon: Daemon, master: pathlib.Path, tmp_path: pathlib.Path) -> None:
    master.chmod(0o750)
    os.utime(master, ns=(TIME, TIME))
    os.setxattr(master, "user.root", b"yes")
    os.setxattr(master, "user.pfs.flush", b"")
    with mounting(daemon, tmp_path / "second") as second:
        status = (second.path / "r/master").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, TIME)
        assert os.getxattr(second.path / "r/master", "user.root") == b"yes"


def test_links_and_special_files_go_where_they_may(mounted: Mounted, master: pathlib.Path) -> None:
    (master / "link").symlink_to("old")
    fails_with(errno.EEXIST, lambda: (master / "link").symlink_to("other"))
    fails_with(errno.ENAMETOOLONG, lambda: (master / "long").symlink_to("x" * 4096))
    fails_with(errno.EPERM, lambda: (master / "hard").hardlink_to(master / "dir"))
    fails_with(errno.EXDEV, lambda: (master / "hard").hardlink_to(mounted.path / "r/master^/old"))
    (master / "link").rename(master / "dir/link")
    assert os.readlink(master / "dir/link") == "old"
    (master / "dir/link").unlink()
    assert not (master / "dir/link").is_symlink()
