"""Passing calls on to the daemon as they are, so that the pipeline service's address serves everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from pfsd.rpc import CHANNEL_OPTIONS
from ppsd.storage.grpccalls import RECONNECT_OPTIONS

_OWN_METADATA = ("user-agent", "te", "content-type", "grpc-")


class Forwarder(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A handler for every method there is: the messages go to `address` and come back undecoded."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = handler_call_details.method

        async def forward(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            call = self._connected().stream_stream(method, None, None)(
                requests, metadata=_passed_on(context.invocation_metadata()), timeout=context.time_remaining()
            )
            try:
                async for message in call:
                    yield message
                code = await call.code()
                context.set_trailing_metadata(_passed_on(await call.trailing_metadata()))
                if code is not grpc.StatusCode.OK:
                    await context.abort(code, await call.details())
            except grpc.aio.AioRpcError as error:
                context.set_trailing_metadata(_passed_on(error.trailing_metadata()))
                await context.abort(error.code(), error.details() or "")
            finally:
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(forward)

    def _connected(self) -> grpc.aio.Channel:
        # Made in the server's loop, to which it belongs.
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, [*CHANNEL_OPTIONS, *RECONNECT_OPTIONS])
        return self._channel


def _passed_on(metadata: Any) -> list[tuple[str, Any]]:
    """One side's metadata without what belongs to its own connection."""
    return [(key, value) for key, value in metadata or () if not key.startswith(_OWN_METADATA)]
