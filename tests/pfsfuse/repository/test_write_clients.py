"""One open commit of several clients: mounts and others that write, finish, stand still, end or are killed."""

from __future__ import annotations

import errno
import functools
import os
import pathlib
import signal
import subprocess
import time

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.errors import UnavailableError
from pfsfuse.kernel.mounts import unmount
from tests.support.daemons import Daemon, commit
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import fails_with, finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


# --- other clients ---------------------------------------------------------------------------------------------


def test_the_mount_and_other_clients_write_one_commit(daemon: Daemon, master: pathlib.Path) -> None:
    at = commit("r", "master")
    for number in range(10):
        daemon.put(at, f"/put{number}", b"put")
        (master / f"written{number}").write_bytes(b"written")
        (master / f"written{number}").open("rb").close()
    daemon.put(at, "/old", b" and new")
    os.setxattr(master, "user.pfs.flush", b"")
    assert (master / "old").read_bytes() == b"old content and new"
    with (master / "synced").open("wb", buffering=0) as file:
        file.write(b"synced")
        os.fsync(file.fileno())
        assert daemon.get(at, "/synced") == b"synced"
    finish(master)
    assert len(stored(daemon)) == 24


def test_a_finish_by_another_client_has_all_that_was_written_through_any_mount(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    want = {"/old": b"old content", "/dir/a": b"a", "/dir/b": b"b"}
    with mounting(daemon, tmp_path / "other") as other, (master / "still open").open("wb", buffering=0) as file:
        second = other.path / "r/master"
        for number in range(60):
            (master / f"one{number}").write_bytes(b"one")
            (second / f"two{number}").write_bytes(b"two")
            want |= {f"/one{number}": b"one", f"/two{number}": b"two"}
        (master / "large").write_bytes(bytes(3 << 20))
        (second / "made").mkdir()
        (second / "dir/a").unlink()
        file.write(b"so far")
        daemon.finish_commit(commit("r", "master"))
        want |= {"/large": bytes(3 << 20), "/still open": b"so far"}
        del want["/dir/a"]
        assert stored(daemon) == want
        assert "/made" in daemon.list(commit("r", "master"), "/")
        fails_with(errno.EROFS, lambda: file.write(b"more"))
        fails_with(errno.EROFS, lambda: (second / "x").write_bytes(b""))
        os.setxattr(second, "user.pfs.start", b"")
        (master / "again").write_bytes(b"again")
        os.setxattr(second, "user.pfs.finish", b"")
        assert stored(daemon)["/again"] == b"again"


def test_a_mount_that_stands_still_holds_up_a_finish_for_a_moment_and_keeps_what_came_too_late(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (master / "late").open("wb", buffering=0) as file:
        file.write(b"too late")
        mounted.process.send_signal(signal.SIGSTOP)
        try:
            before = time.monotonic()
            daemon.finish_commit(commit("r", "master"))
            assert time.monotonic() - before < 60
        finally:
            mounted.process.send_signal(signal.SIGCONT)
        fails_with(errno.EROFS, lambda: os.fsync(file.fileno()))
        fails_with(errno.EROFS, lambda: file.write(b"more"))
    fails_with(errno.EROFS, lambda: (master / "x").write_bytes(b""))
    (kept,) = (tmp_path / "state").rglob("late")
    assert kept.read_bytes() == b"too late"
    assert "/late" not in stored(daemon)


def test_each_program_that_has_a_file_open_is_told_that_it_came_too_late(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, state: pathlib.Path
) -> None:
    sizes = {"synced": 10, "synced too": 10, "closed": 10, "large": 1 << 20}
    files = {name: os.open(master / name, os.O_CREAT | os.O_WRONLY) for name in sizes}
    for name, size in sizes.items():
        assert os.write(files[name], bytes(size)) == size
    mounted.process.send_signal(signal.SIGSTOP)
    try:
        daemon.finish_commit(commit("r", "master"))
    finally:
        mounted.process.send_signal(signal.SIGCONT)
    fails_with(errno.EROFS, lambda: os.fsync(files["synced"]))
    fails_with(errno.EROFS, lambda: os.fsync(files["synced too"]))
    fails_with(errno.EROFS, lambda: os.close(files["closed"]))
    fails_with(errno.EROFS, lambda: os.close(files["large"]))
    os.close(files["synced"])
    os.close(files["synced too"])
    assert {path.name: path.stat().st_size for path in state.rglob("*") if path.is_file()} == sizes
    assert not stored(daemon).keys() & {f"/{name}" for name in sizes}


def test_a_killed_mount_does_not_hold_up_a_finish(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.start_commit("r")
    with mounting(daemon, tmp_path / "other") as other:
        path = other.path / "r/master"
        (path / "sent").write_bytes(b"sent")
        os.setxattr(path, "user.pfs.flush", b"")
        file = (path / "lost").open("wb", buffering=0)
        file.write(b"lost with its mount")
        other.process.kill()
        other.process.wait()
        with pytest.raises(OSError, match="Errno"):
            file.close()
        daemon.finish_commit(commit("r", "master"))
    assert stored(daemon) == {"/sent": b"sent"}


def test_what_another_client_puts_shows_at_once_in_a_commit_that_the_mount_reads_and_writes(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path
) -> None:
    at = commit("r", "master")
    held = os.open(master / "dir", os.O_PATH)
    try:
        for number in range(20):
            (master / f"mine{number}").write_bytes(b"mine")
            (master / "dir" / f"mine{number}").write_bytes(b"mine")
            assert not (master / f"put{number}").exists()
            assert (master / "old").stat().st_size == 11 + number
            os.listdir(master / "dir")
            daemon.put(at, f"/put{number}", b"put")
            daemon.put(at, "/old", b"+")
            daemon.put(at, f"/dir/put{number}", b"put")
            assert (master / f"put{number}").read_bytes() == b"put"
            assert (master / "old").stat().st_size == 12 + number
            os.stat(f"put{number}", dir_fd=held)
            daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path=f"/put{number}")))
            daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path=f"/dir/put{number}")))
            assert not (master / f"put{number}").exists()
            fails_with(errno.ENOENT, functools.partial(os.stat, f"put{number}", dir_fd=held))
    finally:
        os.close(held)


def test_two_mounts_that_write_one_commit_see_each_others_files_once_they_are_sent(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with mounting(daemon, tmp_path / "other") as other:
        second = other.path / "r/master"
        for number in range(10):
            for here, there in ((master, second), (second, master)):
                name = f"{number}{here == master}"
                assert not (there / name).exists()
                with (here / name).open("wb", buffering=0) as file:
                    file.write(b"x" * number)
                    os.fsync(file.fileno())
                assert (there / name).stat().st_size == number
                (there / name).unlink()
                os.setxattr(there, "user.pfs.flush", b"")
                assert not (here / name).exists()


def test_a_working_directory_has_a_path_also_when_its_branch_has_moved_on(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path
) -> None:
    repo, home = mounted.path / "r", os.getcwd()
    known: list[tuple[int, pathlib.Path, bytes]] = []
    try:
        for number in range(4):
            text = b"%d" % number
            (master / "number").write_bytes(text)
            at = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", "master"))).commit
            known.append((os.open(master, os.O_RDONLY), repo / at.id, text))
            os.setxattr(master, "user.pfs.finish", b"")
            assert (master / "number").read_bytes() == text
            if number % 2:
                daemon.start_commit("r")
            else:
                os.setxattr(master, "user.pfs.start", b"")
            assert (master / "number").read_bytes() == text
            os.chdir(known[-1][0])
            wait_for_path(known[-1][1])
        for descriptor, path, text in known:
            os.chdir(descriptor)
            wait_for_path(path)
            assert pathlib.Path("number").read_bytes() == text
            assert os.getxattr(".", "user.pfs.state") == b"finished"
    finally:
        os.chdir(home)
        for descriptor, _, _ in known:
            os.close(descriptor)


def wait_for_path(path: pathlib.Path) -> None:
    """Wait until the working directory has this path: the mount has it moved there just after a branch has left it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if pathlib.Path(os.getcwd()) == path:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"not {path}: {os.readlink('/proc/self/cwd')}")


# --- faults ----------------------------------------------------------------------------------------------------


def test_writing_goes_on_over_a_kill_and_restart_of_the_daemon(daemon: Daemon, master: pathlib.Path) -> None:
    (master / "before").write_bytes(b"before")
    os.setxattr(master, "user.pfs.flush", b"")
    with (master / "over").open("wb", buffering=0) as file:
        file.write(b"one ")
        daemon.kill()
        file.write(b"two")
        daemon.start()
    finish(master)
    found = stored(daemon)
    assert (found["/before"], found["/over"]) == (b"before", b"one two")


def test_unmounting_sends_what_was_written(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    for number in range(50):
        (master / str(number)).write_bytes(b"x")
    unmount(str(mounted.path))
    assert len(stored(daemon)) == 53


def test_sigterm_sends_what_was_written(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    (master / "f").write_bytes(b"x")
    mounted.process.terminate()
    assert mounted.process.wait(60) == 0
    assert stored(daemon)["/f"] == b"x"


def test_unmounting_without_a_daemon_keeps_what_was_written_and_says_where(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (master / "f").open("wb", buffering=0) as file:
        file.write(b"precious")
        daemon.kill()
    with pytest.raises(UnavailableError, match="is unmounted, but what was written") as caught:
        unmount(str(mounted.path))
    assert mounted.process.wait(60) == 0
    where = pathlib.Path(str(caught.value).rsplit(" ", 1)[-1])
    assert [path.read_bytes() for path in where.rglob("f")] == [b"precious"]
    assert where.is_relative_to(tmp_path / "state")


@pytest.mark.parametrize("is_there", [True, False])
def test_what_lies_deep_hinders_nothing_when_a_mount_ends(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path, is_there: bool
) -> None:
    deep = "/".join(["d"] * 1000)
    subprocess.run(["mkdir", "-p", deep], cwd=master, check=True)
    with (master / "f").open("wb") as shallow, (master / deep / "g").open("wb") as below:
        shallow.write(b"precious")
        below.write(b"also")
        if not is_there:
            daemon.kill()
    if is_there:
        unmount(str(mounted.path))
        found = stored(daemon)
        assert (found["/f"], found[f"/{deep}/g"]) == (b"precious", b"also")
    else:
        with pytest.raises(UnavailableError, match="is unmounted, but what was written") as caught:
            unmount(str(mounted.path))
        assert mounted.process.wait(60) == 0
        where = pathlib.Path(str(caught.value).rsplit(" ", 1)[-1])
        (found_in,) = (where / "r").iterdir()
        try:
            assert ((found_in / "f").read_bytes(), (found_in / deep / "g").read_bytes()) == (b"precious", b"also")
        finally:
            subprocess.run(["rm", "-rf", where], check=True)  # deeper than pytest can remove


def test_a_commit_that_was_deleted_by_another_client_ends_quietly(daemon: Daemon, master: pathlib.Path) -> None:
    at = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", "master"))).commit
    (master / "f").write_bytes(b"x")
    daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=at))
    with pytest.raises(grpc.RpcError):
        daemon.get(at, "/f")
    assert (master / "old").read_bytes() == b"old content"
