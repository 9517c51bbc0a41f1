"""Leases and requests to send, as an attached mount sees them on the wire."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

import pytest

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.calls.attaching import SESSION_KEY, SILENT_SECONDS
from pfsd.model.sessions import LEASE_SECONDS
from tests.support.daemons import Daemon, commit

WAIT_SECONDS = 20


class Client:
    """Something that is attached."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.metadata = ((SESSION_KEY, name),)
        self.messages: queue.SimpleQueue[pfsd_pb2.MountMessage | None] = queue.SimpleQueue()
        self.stream = daemon.store.Attach(iter(self.messages.get, None))
        self.say(attach=pfsd_pb2.Attachment(session=name))
        assert self.told().lease_ms == LEASE_SECONDS * 1000

    def say(self, **message: object) -> None:
        self.messages.put(pfsd_pb2.MountMessage(**message))  # type: ignore[arg-type]

    def told(self) -> pfsd_pb2.MountRequest:
        request: pfsd_pb2.MountRequest = next(self.stream)
        return request

    def look(self) -> pfsd_pb2.CommitTree:
        tree: pfsd_pb2.CommitTree = self.daemon.store.GetCommitTree(commit("r", "master"), metadata=self.metadata)
        return tree

    def end(self) -> None:
        self.messages.put(None)
        self.stream.cancel()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    daemon.create_repo("r")
    daemon.start_commit("r")
    made = Client(daemon, "one")
    yield made
    made.end()


def put(daemon: Daemon) -> threading.Thread:
    thread = threading.Thread(target=daemon.put, args=(commit("r", "master"), "/f", b"x"))
    thread.start()
    return thread


def test_a_change_returns_once_the_lease_is_given_back(daemon: Daemon, client: Client) -> None:
    tree = client.look()
    assert tree.lease > 0
    putting = put(daemon)
    request = client.told()
    assert request.recall == pfs_pb2.Commit(repo=pfs_pb2.Repo(name="r"), id=tree.info.commit.id)
    assert request.number > tree.lease
    assert putting.is_alive()
    client.say(done=request.number)
    putting.join(WAIT_SECONDS)
    assert not putting.is_alive()
    daemon.put(commit("r", "master"), "/g", b"x")  # there is no lease any more, and nothing to wait for
    assert client.look().lease == request.number


def test_a_lease_runs_out_and_then_nobody_waits_for_it(daemon: Daemon, client: Client) -> None:
    before = time.monotonic()
    client.look()
    daemon.put(commit("r", "master"), "/f", b"x")
    assert LEASE_SECONDS * 0.9 < time.monotonic() - before < WAIT_SECONDS
    daemon.put(commit("r", "master"), "/g", b"x")


def test_branches_and_contents_are_recalled_each_for_itself_and_never_from_who_changes_them(
    daemon: Daemon, client: Client
) -> None:
    client.look()
    file = pfs_pb2.File(commit=commit("r", "master"), path="/f")
    daemon.pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=file, value=b"x")]), metadata=client.metadata)
    starting = threading.Thread(target=daemon.start_commit, args=("r", "other"))
    starting.start()
    request = client.told()
    assert request.recall == commit("r", "")
    client.say(done=request.number)
    starting.join(WAIT_SECONDS)


def test_a_finish_waits_for_those_who_write_as_long_as_they_get_on(daemon: Daemon, client: Client) -> None:
    at = client.look().info.commit
    client.say(writes=at.id)
    assert client.told().writes == at.id
    finishing = threading.Thread(target=daemon.finish_commit, args=(at,))
    finishing.start()
    request = client.told()
    assert request.send == at
    until = time.monotonic() + SILENT_SECONDS * 1.5
    while time.monotonic() < until:
        finishing.join(SILENT_SECONDS / 6)
        client.say(busy=request.number)
    assert finishing.is_alive()
    daemon.store.PutFiles(
        iter([pfsd_pb2.PutFilesRequest(commit=at, files=[pfsd_pb2.FilePut(path="/late", data=b"late")])]),
        metadata=client.metadata,
    )
    client.say(done=request.number)
    finishing.join(WAIT_SECONDS)
    assert daemon.get(at, "/late") == b"late"


def test_a_finish_does_not_wait_for_those_who_went_away(daemon: Daemon, client: Client) -> None:
    at = client.look().info.commit
    client.say(writes=at.id)
    assert client.told().writes == at.id
    finishing = threading.Thread(target=daemon.finish_commit, args=(at,))
    finishing.start()
    assert client.told().send == at
    client.end()
    finishing.join(SILENT_SECONDS * 0.9)
    assert not finishing.is_alive()
