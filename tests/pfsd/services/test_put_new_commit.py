"""`put-file -c` whose client dies: nothing is left of it, however it dies and whatever it puts."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.filesystem.store import Store
from tests.support.daemons import Daemon, commit

PATIENCE_SECONDS = 60


def infos(daemon: Daemon) -> list[pfs_pb2.CommitInfo]:
    return list(daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"))).commit_info)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


@contextmanager
def putting(address: str, *arguments: str, repo: str = "r") -> Iterator[subprocess.Popen[bytes]]:
    """A put into a new commit of master that does not end by itself: its standard input stays open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "put-file", repo, "master", *arguments, "-c"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "ADDRESS": address},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def prepared(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"old": b"old"})


def is_as_before(daemon: Daemon) -> bool:
    return all(info.HasField("finished") for info in infos(daemon))


def assert_as_before(daemon: Daemon) -> None:
    """Only the first commit is there, and the branch takes the next one."""
    (only,) = infos(daemon)
    assert daemon.list(commit("r", "master")) == ["old"]
    daemon.pachctl("put-file", "r", "master", "new", "-c", stdin=b"new")
    head, first = infos(daemon)
    assert (head.parent_commit.id, first.commit.id) == (only.commit.id, only.commit.id)
    assert daemon.list(commit("r", "master")) == ["new", "old"]


@pytest.mark.parametrize("form", ["stdin", "split", "several", "directory"])
def test_a_client_that_is_killed_leaves_nothing_behind(daemon: Daemon, tmp_path: pathlib.Path, form: str) -> None:
    prepared(daemon)
    (tmp_path / "many").mkdir()
    for number in range(60):
        (tmp_path / "many" / str(number)).write_bytes(os.urandom(1_000_000))
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/silent"
    arguments = {
        "stdin": ["f"],
        "split": ["f", "--split", "line"],
        "several": ["d", "-p", "3", "-f", str(tmp_path / "many/1"), "-f", url, "-f", str(tmp_path / "many/2")],
        "directory": ["-r", "-p", "4", "-f", str(tmp_path / "many")],
    }
    with silent, putting(daemon.address, *arguments[form]) as client:
        assert client.stdin is not None
        client.stdin.write(b"line\n" * 1000)
        client.stdin.flush()
        wait_for(lambda: len(infos(daemon)) == 2)
        client.kill()
        client.wait()
        wait_for(lambda: is_as_before(daemon) and len(infos(daemon)) == 1)
    assert_as_before(daemon)


def test_a_daemon_that_is_killed_too_deletes_the_commit_at_its_next_start(daemon: Daemon) -> None:
    prepared(daemon)
    mine = daemon.start_commit("r", "side")
    with putting(daemon.address, "f") as client:
        wait_for(lambda: len(infos(daemon)) == 3)
        daemon.kill()
        client.kill()
    daemon.start()
    opened = [info.commit.id for info in infos(daemon) if not info.HasField("finished")]
    assert opened == [mine.id], "what a client of 1.5 has started stays"
    daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=mine))
    assert_as_before(daemon)
    assert daemon.stop() == 0
    store = Store(daemon.root)
    try:
        assert list(store.root.db.scan("meta", b"held")) == []
    finally:
        store.close()


def test_a_client_that_lives_on_when_its_daemon_was_killed_fails_and_leaves_nothing(daemon: Daemon) -> None:
    prepared(daemon)
    with putting(daemon.address, "f") as client:
        wait_for(lambda: len(infos(daemon)) == 2)
        daemon.kill()
        daemon.start()
        _, said = client.communicate(b"the rest", timeout=PATIENCE_SECONDS)
    assert client.returncode == 1
    assert b"Traceback" not in said
    assert_as_before(daemon)


def test_a_client_behind_a_cut_network_leaves_nothing_behind(daemon: Daemon) -> None:
    prepared(daemon)
    with silenced(daemon.address) as (address, cut), putting(address, "f"):
        wait_for(lambda: len(infos(daemon)) == 2)
        cut.set()
        wait_for(lambda: is_as_before(daemon) and len(infos(daemon)) == 1)
    assert_as_before(daemon)


def test_what_others_do_to_the_commit_is_respected(daemon: Daemon) -> None:
    prepared(daemon)
    request = pfs_pb2.StartCommitRequest(parent=commit("r", ""), branch="master")
    finished = daemon.store.HoldCommit(request)
    at = next(finished)
    daemon.put(at, "f", b"x")
    daemon.finish_commit(at)
    finished.cancel()
    deleted = daemon.store.HoldCommit(request)
    daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=next(deleted)))
    deleted.cancel()
    with pytest.raises(grpc.RpcError) as failure:
        next(daemon.store.HoldCommit(pfs_pb2.StartCommitRequest(parent=commit("none", ""), branch="master")))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    gone = daemon.store.HoldCommit(request)
    next(gone)
    daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="r"), force=True))
    gone.cancel()
    daemon.create_repo("r")
    assert daemon.stop() == 0
    daemon.start()
    assert infos(daemon) == []
    admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
    (last,) = admin.Fsck(pfsd_pb2.FsckRequest())
    assert last.summary.problems == 0


def test_a_put_that_fails_has_deleted_its_commit_when_it_returns(daemon: Daemon) -> None:
    prepared(daemon)
    result = daemon.pachctl("put-file", "r", "master", "old/below", "-c", stdin=b"x", check=False)
    assert result.returncode == 1
    assert_as_before(daemon)


@contextmanager
def silenced(address: str) -> Iterator[tuple[str, threading.Event]]:
    """A way to a daemon that, once the event is set, passes nothing on in either direction and closes nothing."""
    cut = threading.Event()
    opened: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if not cut.is_set():
                    target.sendall(data)
        except OSError:
            pass
        if not cut.is_set():
            target.close()

    def serve(server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            host, port = address.rsplit(":", 1)
            far = socket.create_connection((host, int(port)))
            opened.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", cut
        finally:
            for each in opened:
                each.close()
