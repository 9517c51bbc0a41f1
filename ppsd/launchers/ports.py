"""A service's port: connections to it are passed on to where the service's command listens on this machine."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import trio

from pfsd.runtime.apart import apart

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
_BACKLOG = 128


async def serve(
    scope: trio.CancelScope, host: str, external: int, internal: int, complain: Callable[[str], None]
) -> None:
    """Pass connections to port `external` of `host` on to port `internal`, until `scope` is cancelled.

    `complain` is told, once, why the port can't be listened on; it is tried again all the same.
    """
    complained = False
    with scope:
        while True:
            try:
                listeners = await trio.open_tcp_listeners(external, host=host, backlog=_BACKLOG)
            except OSError as error:
                if not complained:
                    complain(f"port {external} of {host} can't be listened on: {error.strerror or error}")
                complained = True
                await trio.sleep(RETRY_SECONDS)
                continue
            logger.info("port %d of %s leads to port %d", external, host, internal)
            handler = functools.partial(apart, f"a connection to port {external}", None, _pass_on, internal)
            await trio.serve_listeners(handler, listeners)


async def _pass_on(internal: int, outer: trio.SocketStream) -> None:
    """One connection, from its beginning to the end of both directions; a client is cut off where nobody listens."""
    async with outer:
        try:
            inner = await trio.open_tcp_stream("127.0.0.1", internal)
        except OSError as error:
            logger.info("port %d is not listened on yet: %s", internal, error)
            return
        async with inner, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, outer, inner, nursery.cancel_scope)
            nursery.start_soon(_copy, inner, outer, nursery.cancel_scope)


async def _copy(source: trio.SocketStream, target: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        async for data in source:
            await target.send_all(data)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):  # one side has gone: so does the other
        both.cancel()
