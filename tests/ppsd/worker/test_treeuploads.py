"""Trees that are stored one after the other through one call."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import InvalidError, PfsError
from ppsd.storage.grpccalls import open_channel
from ppsd.worker.treeuploads import TreeUploads
from tests.support.daemons import Daemon


def tree(tag: str, *paths: str) -> Iterator[pfsd_pb2.PutTreeRequest]:
    """A file at each path, each in a message of its own."""
    yield pfsd_pb2.PutTreeRequest(tag=tag)
    for path in paths:
        yield pfsd_pb2.PutTreeRequest(writes=[pfsd_pb2.TreeWrite(path=path, data=b"x")])
    yield pfsd_pb2.PutTreeRequest(last=True)


def tags(daemon: Daemon) -> list[str]:
    objects = rpc.Stub(daemon.channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])
    return [found.tag for found in objects.ListTags(pfs_pb2.ListTagsRequest())]


def uploading(daemon: Daemon, body: Callable[[TreeUploads], Awaitable[None]]) -> None:
    async def run() -> None:
        with open_channel(daemon.address) as channel:
            store = rpc.Stub(channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
            async with TreeUploads.open(store.PutTrees) as uploads:
                await body(uploads)

    trio.run(run)


def test_trees_are_stored_one_after_the_other(daemon: Daemon) -> None:
    async def body(uploads: TreeUploads) -> None:
        assert [(await uploads.put(tree(f"{number}", *"abc"[:number]))).files for number in range(4)] == [0, 1, 2, 3]

    uploading(daemon, body)
    assert tags(daemon) == ["0", "1", "2", "3"]


def test_a_tree_that_can_not_be_stored_leaves_nothing_and_the_next_one_is(daemon: Daemon) -> None:
    def failing() -> Iterator[pfsd_pb2.PutTreeRequest]:
        yield pfsd_pb2.PutTreeRequest(tag="failing")
        raise InvalidError("a socket")

    async def body(uploads: TreeUploads) -> None:
        for number, bad in enumerate((failing(), tree("conflict", "a", "a/b"), tree(""))):
            with pytest.raises(PfsError, match=r"a socket|/a is a file|has to hold a tag"):
                await uploads.put(bad)
            await uploads.put(tree(f"good-{number}", "a"))

    uploading(daemon, body)
    assert tags(daemon) == ["good-0", "good-1", "good-2"]


def test_a_tree_whose_upload_is_called_off_is_not_stored_and_the_next_one_is(daemon: Daemon) -> None:
    begun, go_on = trio.Event(), threading.Event()

    def slow(token: trio.lowlevel.TrioToken) -> Iterator[pfsd_pb2.PutTreeRequest]:
        yield pfsd_pb2.PutTreeRequest(tag="slow")
        token.run_sync_soon(begun.set)
        go_on.wait()
        yield pfsd_pb2.PutTreeRequest(last=True)

    async def body(uploads: TreeUploads) -> None:
        await uploads.put(tree("first"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uploads.put, slow(trio.lowlevel.current_trio_token()))
            await begun.wait()
            nursery.cancel_scope.cancel()
        await uploads.put(tree("second"))
        go_on.set()
        await uploads.put(tree("third"))

    try:
        uploading(daemon, body)
    finally:
        go_on.set()
    assert tags(daemon) == ["first", "second", "third"]


def test_a_daemon_that_was_restarted_is_found_again(daemon: Daemon) -> None:
    async def body(uploads: TreeUploads) -> None:
        await uploads.put(tree("before"))
        await trio.to_thread.run_sync(daemon.stop)
        await trio.to_thread.run_sync(daemon.start)
        with trio.fail_after(60):
            while True:
                try:
                    await uploads.put(tree("after"))
                    return
                except PfsError:  # the channel has not connected again yet
                    await trio.sleep(0.1)

    uploading(daemon, body)
    assert tags(daemon) == ["after", "before"]
