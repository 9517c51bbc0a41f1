"""Connections to other servers that end when the call that wants them is cancelled."""

from __future__ import annotations

import functools
import http.client
import socket
import urllib.request
from typing import Any

from pfsd import cancelling


class Wires:
    """The connections of one piece of work. Cancelling it shuts them down, which ends any waiting for their bytes."""

    def __init__(self) -> None:
        self._twins: list[socket.socket] = []

    def __enter__(self) -> Wires:
        return self

    def __exit__(self, *_: object) -> None:
        for twin in self._twins:
            twin.close()

    def connect(self, address: tuple[str, int], timeout: float, source_address: Any = None) -> socket.socket:
        """Like `socket.create_connection`. Raises GivenUpError when it is cancelled before it begins."""
        stop = cancelling.current.get()
        failure: OSError | None = None
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            cancelling.check()
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(timeout)
                if stop is not None:
                    twin = made.dup()  # `made` gives its descriptor away when TLS begins
                    self._twins.append(twin)
                    stop.interrupts_with(functools.partial(_shut_down, twin))
                if source_address is not None:
                    made.bind(source_address)
                made.connect(place)
            except OSError as error:
                made.close()
                failure = error
            else:
                return made
        raise failure or OSError(f"{address[0]} has no address")

    def handlers(self) -> tuple[urllib.request.BaseHandler, ...]:
        """What urllib opens http and https with, over these connections."""
        return _Http(self), _Https(self)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, wires: Wires) -> None:
        super().__init__()
        self._make = functools.partial(_made, http.client.HTTPConnection, wires)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._make, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, wires: Wires) -> None:
        super().__init__()
        self._make = functools.partial(_made, http.client.HTTPSConnection, wires)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._make, req)


def _made(kind: type[http.client.HTTPConnection], wires: Wires, host: str, **options: Any) -> Any:
    connection = kind(host, **options)
    connection._create_connection = wires.connect  # type: ignore[attr-defined]
    return connection


def _shut_down(twin: socket.socket) -> None:
    try:
        twin.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is not connected, or closed by now: nobody waits for it
        pass
