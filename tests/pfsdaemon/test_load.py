"""Whatever some clients have the daemon do or wait for, others are answered, and it ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.calls import attaching as sessions_api
from tests.support.daemons import Daemon, commit, running

SECONDS = 60
"""Whatever takes longer hangs."""
END_SECONDS = 10
"""The daemon gives itself five; a busy machine gets more."""
SLOW_PUTS = 64
ROWS = 60_000


class DripServer:
    """An HTTP server that sends a byte now and then, and knows which of its clients are still there."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/f"
        self.changed = threading.Condition()
        self.open = 0
        self.begun = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            self._count(1)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                connection.settimeout(0.5)
                while True:
                    connection.sendall(b"x")
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(1):
                            return
            except OSError:
                return
            finally:
                self._count(-1)

    def _count(self, change: int) -> None:
        with self.changed:
            self.open += change
            self.begun += change > 0
            self.changed.notify_all()

    def wait(self, condition: Callable[[DripServer], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), SECONDS)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def drip() -> Iterator[DripServer]:
    server = DripServer()
    yield server
    server.close()


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon through a connection of its own: another client."""
    other = Daemon(daemon.root)
    other.address = daemon.address
    other._channel = grpc.insecure_channel(
        daemon.address, options=[*rpc.CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    )
    try:
        yield other
    finally:
        other._channel.close()


def put_url(daemon: Daemon, at: pfs_pb2.Commit, path: str, url: str) -> Any:
    request = pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=path), url=url)
    return daemon.pfs.PutFile.future(iter([request]))


def answers(daemon: Daemon) -> None:
    """Each kind of short call is answered, of a client that waits for nobody else."""
    with connected(daemon) as other:
        name = f"other{time.monotonic_ns()}"
        repo = pfs_pb2.Repo(name=name)
        other.pfs.CreateRepo(pfs_pb2.CreateRepoRequest(repo=repo), timeout=SECONDS)
        at = other.start_commit(name)
        other.put(at, "f", b"x" * 3_000_000)
        other.finish_commit(at)
        assert other.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=repo), timeout=SECONDS).size_bytes == 3_000_000
        assert other.get(at, "f") == b"x" * 3_000_000
        assert other.list(at) == ["f"]


def ends(daemon: Daemon) -> None:
    """SIGTERM ends the daemon."""
    assert daemon.process is not None
    daemon.process.terminate()
    assert daemon.process.wait(END_SECONDS) == 0
    assert "Traceback" not in daemon.log()
    assert "a defect" not in daemon.log()


def filled(daemon: Daemon, rows: int = ROWS) -> pfs_pb2.Commit:
    """An open commit whose next reader has to fold many rows."""
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.store.PutFiles(
        pfsd_pb2.PutFilesRequest(
            commit=at,
            files=[pfsd_pb2.FilePut(path=f"d/{number:06d}", data=b"x") for number in range(start, start + 500)],
        )
        for start in range(0, rows, 500)
    )
    return at


# --- waiting for other servers


def test_slow_urls_stop_nobody_and_their_puts_end_with_their_clients(daemon: Daemon, drip: DripServer) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    for _ in range(2):  # a second time: what the first ones took is free again
        begun = drip.begun
        with connected(daemon) as slow, connected(daemon) as slower:
            puts = [
                put_url(client, at, f"f{number}", drip.url)
                for number, client in enumerate((slow, slower) * (SLOW_PUTS // 2))
            ]
            drip.wait(lambda server: server.open >= SLOW_PUTS)
            answers(daemon)
            assert not any(put.done() for put in puts)
        drip.wait(lambda server: server.open == 0)  # the daemon has let go of them, though bytes were still to come
        assert drip.begun == begun + SLOW_PUTS
    assert daemon.list(at) == []
    ends(daemon)


def test_one_client_leaves_places_to_fetch_for_others(daemon: Daemon, drip: DripServer) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    with connected(daemon) as greedy, connected(daemon) as modest:
        puts = [put_url(greedy, at, f"f{number}", drip.url) for number in range(4 * SLOW_PUTS)]
        drip.wait(lambda server: server.open >= SLOW_PUTS // 2)
        put = put_url(modest, at, "modest", drip.url + "?modest")
        seen = drip.begun
        drip.wait(lambda server: server.begun > seen or server.open > SLOW_PUTS // 2)
        assert not put.done()
        for call in puts[: 3 * SLOW_PUTS]:
            call.cancel()  # those that wait and those that run: the rest go on at once
        drip.wait(lambda server: server.open >= SLOW_PUTS // 2)
    drip.wait(lambda server: server.open == 0)


def test_slow_urls_do_not_keep_the_daemon_from_ending(daemon: Daemon, drip: DripServer) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    puts = [put_url(daemon, at, f"f{number}", drip.url) for number in range(SLOW_PUTS)]
    drip.wait(lambda server: server.open >= SLOW_PUTS // 2)
    ends(daemon)
    assert all(put.exception(SECONDS) is not None for put in puts)


# --- waiting for a commit


def test_writers_that_wait_for_a_commit_stop_nobody_and_all_get_in(daemon: Daemon) -> None:
    at = filled(daemon)
    fold = daemon.store.GetCommitTree.future(at)
    puts = [
        daemon.pfs.PutFile.future(
            iter([pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=f"w{number}"), value=b"x")])
        )
        for number in range(100)
    ]
    answers(daemon)
    for put in puts:
        put.result(SECONDS)
    assert fold.result(SECONDS).files >= ROWS
    assert len(daemon.list(at)) == 101


def test_writers_that_leave_while_they_wait_change_nothing(daemon: Daemon) -> None:
    at = filled(daemon)
    fold = daemon.pfs.FinishCommit.future(pfs_pb2.FinishCommitRequest(commit=at))
    with connected(daemon) as leaving:
        for number in range(100):
            request = pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=f"w{number}"), value=b"x")
            leaving.pfs.PutFile.future(iter([request])).cancel()
    fold.result(SECONDS)
    assert daemon.list(at) == ["d"]


def test_a_fold_and_those_who_wait_for_it_do_not_keep_the_daemon_from_ending(daemon: Daemon) -> None:
    at = filled(daemon)
    calls = [daemon.pfs.FinishCommit.future(pfs_pb2.FinishCommitRequest(commit=at))]
    calls += [
        daemon.pfs.PutFile.future(
            iter([pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=f"w{number}"), value=b"x")])
        )
        for number in range(100)
    ]
    ends(daemon)
    for call in calls:
        call.exception(SECONDS)
    daemon._close()
    daemon.start()
    if calls[0].exception() is None:
        assert daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=at)).HasField("finished")
    assert len(daemon.list(at, "d")) == ROWS  # nothing that was answered is lost


# --- computing, waiting for changes


def test_a_long_list_and_a_split_stop_nobody_and_the_daemon_ends_beside_them(daemon: Daemon) -> None:
    at = filled(daemon)
    daemon.finish_commit(at)
    split = daemon.start_commit("r", "split")
    sent = threading.Event()

    def lines() -> Iterator[pfs_pb2.PutFileRequest]:
        file = pfs_pb2.File(commit=split, path="f")
        for number in range(400):
            yield pfs_pb2.PutFileRequest(file=file, value=b"%d\n" % number * 50_000, delimiter=pfs_pb2.LINE)
            if number == 1:
                sent.set()

    put = daemon.pfs.PutFile.future(lines())
    globs = [daemon.pfs.GlobFile.future(pfs_pb2.GlobFileRequest(commit=at, pattern="/d/*")) for _ in range(20)]
    assert sent.wait(SECONDS)
    answers(daemon)
    ends(daemon)
    assert put.exception(SECONDS) is not None
    for glob in globs:
        glob.exception(SECONDS)


def test_subscribers_and_mounts_stop_nobody_and_do_not_keep_the_daemon_from_ending(daemon: Daemon) -> None:
    daemon.create_repo("r")
    first = daemon.commit_files("r", {"f": b"x"})
    subscribe = pfs_pb2.SubscribeCommitRequest(repo=pfs_pb2.Repo(name="r"), branch="master")
    streams = [daemon.pfs.SubscribeCommit(subscribe) for _ in range(200)]
    mounts = [daemon.store.Attach(_attached(f"m{number}")) for number in range(20)]
    assert all(next(stream).commit == first for stream in streams)
    assert all(next(mount).lease_ms for mount in mounts)
    answers(daemon)
    second = daemon.commit_files("r", {"g": b"x"})
    assert all(next(stream).commit == second for stream in streams)
    ends(daemon)


def _attached(name: str) -> Iterator[pfsd_pb2.MountMessage]:
    yield pfsd_pb2.MountMessage(attach=pfsd_pb2.Attachment(session=name))
    threading.Event().wait(SECONDS)


def test_a_flush_wakes_for_repos_below_its_own_also_for_new_ones(daemon: Daemon) -> None:
    daemon.create_repo("a")
    daemon.create_repo("b", "a")
    source = daemon.commit_files("a", {"f": b"x"})
    flush = daemon.pfs.FlushCommit(pfs_pb2.FlushCommitRequest(commits=[source]))
    daemon.create_repo("unrelated")
    daemon.create_repo("c", "a")
    for name in "bc":
        request = pfs_pb2.StartCommitRequest(parent=commit(name, ""), branch="master", provenance=[source])
        daemon.finish_commit(daemon.pfs.StartCommit(request))
    assert {info.commit.repo.name for info in flush} == {"b", "c"}


def test_a_flush_ends_when_what_it_waits_for_goes(daemon: Daemon) -> None:
    daemon.create_repo("a")
    daemon.create_repo("b", "a")
    source = daemon.commit_files("a", {"f": b"x"})
    flush = daemon.pfs.FlushCommit(pfs_pb2.FlushCommitRequest(commits=[source]), timeout=SECONDS)
    daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="b")))
    assert list(flush) == []


# --- bounds, and what is said


def test_a_mount_that_takes_no_requests_is_told_no_more() -> None:
    async def fill() -> None:
        requests = sessions_api._Requests()
        for number in range(sessions_api.QUEUED + 10):
            requests.add(pfsd_pb2.MountRequest(number=number))
        assert requests.is_over
        told = [await requests.get() for _ in range(sessions_api.QUEUED)]
        assert [request.number for request in told if request] == list(range(sessions_api.QUEUED))
        assert await requests.get() is None

    asyncio.run(fill())


def test_a_mount_that_says_that_it_writes_to_countless_commits_is_refused(daemon: Daemon) -> None:
    messages = [pfsd_pb2.MountMessage(attach=pfsd_pb2.Attachment(session="m"))]
    messages += [pfsd_pb2.MountMessage(writes=f"{number:032x}") for number in range(10_001)]
    with pytest.raises(grpc.RpcError, match="more than 10000 open commits"):
        for _ in daemon.store.Attach(iter(messages), timeout=SECONDS):
            pass
    answers(daemon)


def test_verbose_tells_each_call_with_its_client_and_outcome(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("r")
        with pytest.raises(grpc.RpcError):
            daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="absent")))
        stream = daemon.store.WatchChanges(Empty())
        next(stream)
        stream.cancel()
        daemon.stop()
        lines = [line for line in daemon.log().splitlines() if "pfsd.calls" in line]
    said = {line.split(": ", 1)[1].split(" ", 1)[0]: line for line in lines}
    assert re.search(r"s, OK \(request [0-9a-f]{16}\)$", said["pfs.API.CreateRepo"])
    assert "NOT_FOUND" in said["pfs.API.InspectRepo"]
    assert "repo absent not found" in said["pfs.API.InspectRepo"]
    assert "CANCELLED" in said["pfsd.Store.WatchChanges"]
    assert all(" from ipv4:127.0.0.1:" in line for line in lines)
