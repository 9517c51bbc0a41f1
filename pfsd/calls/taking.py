"""Taking calls: requests are decoded, calls counted and told in the log, errors answered as statuses."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from pfsd import errors, rpc, statuses
from pfsd.calls.attaching import caller_of, recalled
from pfsd.calls.measuring import measure_of, measured
from pfsd.runtime.apart import known_error
from pfsd.runtime.requestids import request_id, take_id
from pfsd.runtime.threads import client_of_call

log = logging.getLogger(__name__)
calls = logging.getLogger("pfsd.calls")

CALLS_OF_ONE = 20_000
"""Calls that may be open through one connection, those that wait for something included."""

MOST_DETAILS = 2000
"""Bytes of a status's text. Clients refuse metadata of 8 KiB, in which each byte of the text may take three."""


def wrap(method: MethodDescriptor, function: Any) -> Any:
    """`function(request, context)` for the asyncio server, with requests decoded and errors turned into statuses.

    `function` is a coroutine function, or an asynchronous generator function for a method that streams.
    """
    if method.server_streaming:
        assert inspect.isasyncgenfunction(function), method.full_name

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with _call_of(method, context):
                    async for message in function(_decoded(method, request), context):
                        yield message
            except Exception as error:  # noqa: BLE001 (every defect is answered, and logged, here)
                await _abort(context, method, error)

        return stream
    assert inspect.iscoroutinefunction(function), method.full_name

    async def call(request: Any, context: Any) -> Any:
        try:
            with _call_of(method, context), caller_of(context) as caller:
                try:
                    given = _decoded(method, request)
                    return await function(_whole(given, context) if method.client_streaming else given, context)
                finally:
                    await recalled(caller)
        except Exception as error:  # noqa: BLE001 (every defect is answered, and logged, here)
            await _abort(context, method, error)

    return call


def serializer(method: MethodDescriptor) -> Callable[[Any], bytes]:
    """What turns the answers of a method into bytes, and counts them."""
    measure = measure_of(method.full_name)

    def serialize(message: Any) -> bytes:
        data = rpc.serialize(message)
        measure.sent += len(data)
        return data

    return serialize


@contextmanager
def _call_of(method: MethodDescriptor, context: Any) -> Iterator[None]:
    """What the block does is a client's call: bounded, and told in the log, with how it ended and how long it took."""
    client = str(context.peer())
    client_of_call.set(client)  # of this task, which serves no other call
    request_id.set(take_id(context.invocation_metadata()))
    began, said = time.monotonic(), ""
    with measured(method.full_name) as outcome:
        try:
            with _counted(client):
                yield
        except (asyncio.CancelledError, GeneratorExit):
            outcome.status = "CANCELLED"
            raise
        except errors.PfsError as error:
            outcome.status, said = statuses.code(error).name, f", {error}"
            raise
        except BaseException as error:
            outcome.status, said = "INTERNAL", f", {type(error).__name__}: {error}"
            raise
        finally:
            took = time.monotonic() - began
            calls.info("%s from %s: %.3f s, %s%s", method.full_name, client, took, outcome.status, said)


_open_calls: Counter[str] = Counter()


@contextmanager
def _counted(client: str) -> Iterator[None]:
    if _open_calls[client] >= CALLS_OF_ONE:
        raise errors.BusyError(f"{CALLS_OF_ONE} calls of this connection are open: no more are taken until some end")
    _open_calls[client] += 1
    try:
        yield
    finally:
        _open_calls[client] -= 1
        if not _open_calls[client]:
            del _open_calls[client]


def _decoded(method: MethodDescriptor, request: Any) -> Any:
    """A method's request, or the iterator of its requests; raises InvalidError for what can't be decoded."""
    measure = measure_of(method.full_name)
    if not method.client_streaming:
        measure.received += len(request)
        return rpc.decode(method, request)

    async def messages() -> AsyncIterator[Any]:
        async for data in request:
            measure.received += len(data)
            yield rpc.decode(method, data)

    return messages()


async def _whole(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    """A client's messages; raises CancelledError instead of ending when the client went away.

    grpc ends the stream in both cases, and says of the cancellation in another event, which may come later: without
    this, the half of a file that came before would be taken for the whole. Sending the initial metadata (none) is a
    round trip through grpc's queue of events, behind which such an event has come.
    """
    async for message in requests:
        yield message
    await context.send_initial_metadata(())
    if context.cancelled() or context.done():
        raise asyncio.CancelledError


async def _abort(context: Any, method: MethodDescriptor, error: Exception) -> None:
    error = known_error(error) or error
    if isinstance(error, errors.UnavailableError):
        await context.abort(
            statuses.code(error), _details(error), ((statuses.SAID_KEY, "1"), *(context.trailing_metadata() or ()))
        )
    if isinstance(error, errors.PfsError):
        await context.abort(statuses.code(error), _details(error))
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.aio.BaseError) and not isinstance(error, grpc.aio.UsageError | grpc.aio.InternalError):
        log.info("%s was cut off: %s", method.full_name, error)  # the server has stopped under it
        return
    log.error("%s failed", method.full_name, exc_info=error)
    text = f"a defect in pfsd: {type(error).__name__}: {error}"
    await context.abort(grpc.StatusCode.INTERNAL, f"{_cut(text)}; see its log")


def _details(error: errors.PfsError) -> str:
    return _cut(str(error))


def _cut(text: str) -> str:
    """A text that fits into a status."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= MOST_DETAILS else f"{data[:MOST_DETAILS].decode(errors='ignore')}..."
