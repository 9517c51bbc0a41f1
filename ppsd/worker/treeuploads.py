"""Stores trees one after the other through one call: a call for each would cost a worker more than most outputs do."""

from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import trio

from pachproto import pfsd_pb2
from pfsd.errors import UnavailableError
from ppsd.storage.grpccalls import error_of

Requests = Iterator[pfsd_pb2.PutTreeRequest]
"""The messages of one tree; made in a thread."""


class _Call:
    """A call of PutTrees."""

    def __init__(self, method: Any) -> None:
        self.trees: queue.SimpleQueue[Requests | None] = queue.SimpleQueue()
        self.answer: pfsd_pb2.TreeInfo | None = None
        self.failure: BaseException | None = None
        """Why it is over, if it is."""
        self.news = trio.Event()
        """Set when there is an answer, or a failure."""
        self.stream = method(self._messages())

    def end(self) -> None:
        """End it: what was not stored yet is not going to be."""
        self.stream.cancel()
        self.trees.put(None)

    def tell(self, answer: pfsd_pb2.TreeInfo | None, failure: BaseException | None) -> None:
        """Take in what came, in the trio thread."""
        if answer is not None:
            self.answer = answer
        else:
            self.failure = failure
        self.news.set()

    def _messages(self) -> Requests:
        # gRPC takes these in a thread of its own and says of an exception only that there was one.
        while (requests := self.trees.get()) is not None:
            try:
                yield from requests
            except Exception as error:
                self.failure = error
                raise


class TreeUploads:
    """Stores trees, one at a time; `open` it first."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self._token = trio.lowlevel.current_trio_token()
        self._threads = trio.CapacityLimiter(1000)
        self._nursery: trio.Nursery | None = None
        self._call: _Call | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, method: Any) -> AsyncIterator[TreeUploads]:
        """For the block, one that calls `method`, PutTrees of a stub."""
        made = cls(method)
        async with trio.open_nursery() as made._nursery:
            try:
                yield made
            finally:
                made._end()

    async def put(self, requests: Requests) -> pfsd_pb2.TreeInfo:
        """Store a tree. Raises the classes of `pfsd.errors`, and what `requests` raises; then nothing is stored."""
        assert self._nursery is not None
        if self._call is not None and self._call.failure is not None:  # it broke meanwhile
            self._end()
        if self._call is None:
            self._call = _Call(self._method)
            self._nursery.start_soon(self._run, self._call)
        call = self._call
        call.trees.put(requests)
        try:
            await call.news.wait()
        except trio.Cancelled:
            self._end()
            raise
        call.news = trio.Event()
        answer, call.answer = call.answer, None
        if answer is not None:
            return answer
        self._end()
        assert call.failure is not None
        raise call.failure

    def _end(self) -> None:
        if self._call is not None:
            self._call.end()
            self._call = None

    async def _run(self, call: _Call) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._pump, call, limiter=self._threads)

    def _pump(self, call: _Call) -> None:
        """Take the answers of a call; in a thread."""
        try:
            for answer in call.stream:
                self._token.run_sync_soon(call.tell, answer, None)
            failure: BaseException = UnavailableError("the file system has ended the call that stores trees")
        except grpc.RpcError as error:
            failure = call.failure or error_of(error)
        except Exception as error:  # noqa: BLE001 (whoever waits for the answer raises it)
            failure = error
        self._token.run_sync_soon(call.tell, None, failure)
