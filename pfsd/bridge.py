"""Crossing between the asyncio thread, which serves gRPC, and the trio thread, which runs everything else.

No other module knows that there are two loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import outcome
import trio

from pfsd.errors import UnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

Send = Callable[[Any], Awaitable[None]]

STREAM_BUFFER = 16
"""Messages that a trio producer may be ahead of the stream that takes them."""


class Bridge:
    """Runs trio functions for asyncio coroutines. Made in the trio thread, with a nursery for what it runs."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()

    async def in_trio(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await `function(*args)` in the trio thread, from an asyncio coroutine.

        Raises what it raises. Cancelling the coroutine cancels the trio task; UnavailableError when the
        trio side is shutting down.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[outcome.Outcome[T]] = loop.create_future()
        scope = trio.CancelScope()

        def deliver(result: outcome.Outcome[T]) -> None:
            if not future.done():
                future.set_result(result)

        async def task() -> None:
            result: outcome.Outcome[T] = outcome.Error(UnavailableError("the daemon is shutting down"))
            try:
                with scope:
                    found = await outcome.acapture(function, *args)
                    if isinstance(found, outcome.Error) and not isinstance(found.error, Exception):
                        found.unwrap()  # a cancellation belongs to trio
                    result = found
            finally:
                _soon(loop, deliver, result)

        context = contextvars.copy_context()

        def start() -> None:
            try:
                context.run(self._nursery.start_soon, task)
            except RuntimeError:  # it is closed, which only trying shows
                _soon(loop, deliver, outcome.Error(UnavailableError("the daemon is shutting down")))

        self._in_trio_soon(start)
        try:
            return (await future).unwrap()
        except asyncio.CancelledError:
            self._in_trio_soon(scope.cancel)
            raise

    async def in_trio_stream(self, function: Callable[..., Awaitable[None]], *args: Any) -> AsyncIterator[Any]:
        """What `function(*args, send)`, run in the trio thread, passes to `await send(message)`.

        `send` waits while the consumer is `STREAM_BUFFER` messages behind. Closing the iterator cancels the function.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        room = trio.Semaphore(STREAM_BUFFER)
        end = object()

        async def send(message: Any) -> None:
            await room.acquire()
            _soon(loop, queue.put_nowait, message)

        async def produce() -> None:
            try:
                await function(*args, send)
            finally:
                _soon(loop, queue.put_nowait, end)

        producer = asyncio.ensure_future(self.in_trio(produce))
        try:
            while (message := await queue.get()) is not end:
                yield message
                self._in_trio_soon(room.release)
            await producer
        finally:
            producer.cancel()
            producer.add_done_callback(_forget)

    def _in_trio_soon(self, function: Callable[[], Any]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise UnavailableError("the daemon is shutting down") from None


def _forget(producer: asyncio.Future[None]) -> None:
    """Nobody is left who could be told how it ended."""
    if not producer.cancelled() and (error := producer.exception()) is not None:
        log.debug("what was left of a stream has ended: %s", error)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # the loop has closed: nobody is left to be told
        pass
