"""gRPC calls to the daemon, awaited by trio tasks.

gRPC statuses become the classes of `pfsd.errors` here and nowhere else in this package.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import trio

from pfsd.errors import PfsError, UnavailableError
from pfsd.rpc import CHANNEL_OPTIONS
from pfsd.runtime.requestids import telling
from pfsd.statuses import from_status

T = TypeVar("T")

RECONNECT_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # the patience of one try, not the pause between two
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
]
"""A daemon that was restarted is found again within a second."""

_STREAM_THREADS = 1000


def open_channel(address: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel to a daemon; connects when it is first used, and again when the connection breaks."""
    return telling(grpc.insecure_channel(address, options=[*CHANNEL_OPTIONS, *RECONNECT_OPTIONS, *options]))


def error_of(failure: grpc.RpcError) -> PfsError:
    """The error that a failed call stands for."""
    call: Any = failure  # every failure that grpc raises is a call too
    if call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return UnavailableError(f"the file system does not answer: {call.details()}")
    return from_status(call.code(), call.details())


async def call(method: Any, request: Any) -> Any:
    """Await a call with a single answer; cancelling it cancels the call. Raises the classes of `pfsd.errors`."""
    future = method.future(request)
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def wake(_: object) -> None:
        try:
            token.run_sync_soon(done.set)
        except trio.RunFinishedError:  # nobody waits any more
            pass

    future.add_done_callback(wake)
    try:
        await done.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    try:
        return future.result()
    except grpc.RpcError as failure:
        raise error_of(failure) from None
    except grpc.FutureCancelledError:
        raise UnavailableError("the file system's call was cancelled") from None


class Messages:
    """Takes the messages of streams in threads, so that trio tasks can await them."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_STREAM_THREADS)

    async def collect(self, stream: Any, take: Callable[[Any], Iterable[T]]) -> list[T]:
        """All that `take` makes of the messages of a stream, to its end."""

        def work() -> list[T]:
            return [item for message in stream for item in take(message)]

        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except grpc.RpcError as failure:
            raise error_of(failure) from None
        finally:
            stream.cancel()

    @asynccontextmanager
    async def open(self, stream: Any) -> AsyncIterator[trio.MemoryReceiveChannel[Any]]:
        """The messages of a stream as they come; when it breaks, the body is cancelled and the error raised."""
        sender, receiver = trio.open_memory_channel[Any](0)
        closing = False

        def pump() -> None:
            for message in stream:
                trio.from_thread.run(sender.send, message)

        async def run() -> None:
            with sender:
                try:
                    await trio.to_thread.run_sync(pump, limiter=self._threads)
                except trio.BrokenResourceError:  # nobody takes messages any more
                    pass
                except grpc.RpcError as failure:
                    if not closing:
                        raise error_of(failure) from None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                with receiver:
                    yield receiver
            finally:
                closing = True
                nursery.cancel_scope.cancel()
                stream.cancel()
