"""The gRPC server: grpc's asyncio server in a thread of its own."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from concurrent.futures import Future
from typing import Any

import grpc

from pachproto import grpc_health_pb2
from pfsd import rpc
from pfsd.calls.taking import serializer, wrap
from pfsd.errors import InvalidError, UnavailableError
from pfsd.services.about import ProbeService

GRACE_SECONDS = 1.0
"""How long calls that are under way may go on once the server stops."""

OPTIONS = [
    *rpc.CHANNEL_OPTIONS,
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # no limit: calls that wait are to be heard of too
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_time_ms", 10000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),  # a minute otherwise, whatever the line above says
]


class Server:
    """A server of generic handlers, and of the health that probes ask for, listening from `start` to `stop`."""

    def __init__(self, listen: str) -> None:
        self._listen = listen
        self._handlers: list[grpc.GenericRpcHandler[Any, Any]] = []
        self._names: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._server: grpc.aio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="grpc", daemon=True)
        self.address = listen
        """Where it listens; the port is the real one once it has started."""
        self.add(((grpc_health_pb2.DESCRIPTOR.services_by_name["Health"], ProbeService(self._names)),))

    def add(self, services: rpc.Services) -> None:
        """Serve these; before `start`."""
        for descriptor, implementation in services:
            self._names.add(descriptor.full_name)
            self._handlers.append(rpc.handler(descriptor, implementation, wrap, serializer))

    def add_handler(self, handler: grpc.GenericRpcHandler[Any, Any]) -> None:
        """Serve what this handler knows and none before it does; before `start`."""
        self._handlers.append(handler)

    def start(self) -> None:
        """Listen. Raises InvalidError for an address that can't be, UnavailableError for one that is taken."""
        self._thread.start()
        self._call(self._start())

    def stop(self) -> None:
        """Stop listening, give calls `GRACE_SECONDS`, end them. Blocks until done."""
        if self._thread.is_alive():
            self._call(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _call(self, coroutine: object) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)  # type: ignore[arg-type]
        future.result()

    async def _start(self) -> None:
        host, _, port = self._listen.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise InvalidError(f"the address {self._listen} is not HOST:PORT")
        _check_free(host.strip("[]"), int(port), self._listen)
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(tuple(self._handlers))
        try:
            bound = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise _taken(self._listen) from error
        self.address = f"{host}:{bound}"
        await self._server.start()

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(GRACE_SECONDS)


def _check_free(host: str, port: int, listen: str) -> None:
    """Raise UnavailableError where nothing can listen at an address: grpc says so in lines of its own, too."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError) as error:
        raise _taken(listen) from error
    failures = []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
            return
        except OSError as error:
            failures.append(error)
    raise _taken(listen) from failures[0]


def _taken(listen: str) -> UnavailableError:
    return UnavailableError(f"can't listen on {listen}: the address is taken or not of this machine")
