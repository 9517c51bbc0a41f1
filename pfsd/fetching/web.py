"""Reading what an http or https URL points to, with a bound on every wait.

A user and a password in the URL are used to sign in (RFC 7617), also after a redirection to the same server. They are
never sent to another one.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import os
import select
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from pfsd.errors import InvalidError, NotFoundError, SourceError
from pfsd.fetching.reach import ANYWHERE, Reach
from pfsd.redact import redacted_url

BLOCK_BYTES = 1 << 20

HEAD_SECONDS = 60.0
"""For which a server may take to answer, its redirections included."""

SILENT_SECONDS = 30.0
"""How long a server may stay silent, and how long a connection may take."""

SLOW_SECONDS = 60.0
SLOW_BYTES = 4096
"""An answer that brings less in that time is given up."""

LOOK_SECONDS = 0.2
"""How often who waits looks whether he is still wanted."""

_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"
"""Left as they are; others are percent-encoded on the way."""


class StoppedError(SourceError):
    """Nobody wants the answer any more."""


def blocks(url: str, stop: threading.Event, reach: Reach = ANYWHERE) -> Iterator[bytes]:
    """The bytes behind an http or https URL, some at a time, where it and all that it redirects to are within reach.

    Raises InvalidError for what is no URL, NotFoundError where the server says that there is nothing, SourceError where
    it says no, or nothing, or breaks off, or takes too long, and within a second after `stop` was set.
    """
    shown = redacted_url(url)
    waiting = _Waiting(stop, reach, shown)
    try:
        with _opened(_Address.of(url, shown), waiting) as response:
            yield from _body(response, waiting, shown)
    except urllib.error.HTTPError as error:
        raise _refused(shown, error) from error
    except urllib.error.URLError as error:
        raise SourceError(f"the URL {shown} does not answer: {_reason(error.reason)}") from error
    except http.client.InvalidURL as error:
        raise InvalidError(f"the URL {shown} can't be used: it is malformed, or leads to one that is") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"the URL {shown} broke off: {_reason(error)}") from error
    except ValueError as error:
        # What it says may quote a part of the URL that is to be seen by nobody.
        raise InvalidError(f"the URL {shown} can't be used: it is malformed, or leads to one that is") from error
    finally:
        waiting.close()


def _body(response: Any, waiting: _Waiting, shown: str) -> Iterator[bytes]:
    waiting.until = None
    began, came = time.monotonic(), 0
    while block := response.read1(BLOCK_BYTES):
        came += len(block)
        now = time.monotonic()
        if now - began >= SLOW_SECONDS:
            if came < SLOW_BYTES:
                raise SourceError(f"the URL {shown} sends too slowly: {came} bytes in {SLOW_SECONDS:.0f} seconds")
            began, came = now, 0
        yield block
    if response.length:
        raise SourceError(f"the URL {shown} broke off {response.length} bytes before its end: try again")


def _refused(shown: str, error: urllib.error.HTTPError) -> Exception:
    with error:
        if error.code in (404, 410):
            return NotFoundError(f"the URL {shown} answers {error.code} {error.reason}")
        way_out = ": it wants a user and a password, or others than the URL's" if error.code in (401, 403) else ""
        return SourceError(f"the URL {shown} answers {error.code} {error.reason}{way_out}")


def _reason(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "it takes too long"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return str(reason).lower() or type(reason).__name__


@dataclass(frozen=True, slots=True)
class _Address:
    """A URL without user and password, and what these sign in with."""

    url: str
    authorization: str = ""

    @staticmethod
    def of(url: str, shown: str) -> _Address:
        """The parts of a URL; raises InvalidError."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidError(f"the URL {shown} can't be used: it is malformed") from error
        if not host:
            raise InvalidError(f"the URL {shown} can't be used: it names no host")
        userinfo, at, _ = parts.netloc.rpartition("@")
        place = f"[{host}]" if ":" in host else host
        netloc = place if port is None else f"{place}:{port}"
        clean = quote(urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")), safe=_URL_CHARACTERS)
        if not at:
            return _Address(clean)
        user, _, password = userinfo.partition(":")
        token = base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode()
        return _Address(clean, f"Basic {token}")

    @property
    def origin(self) -> tuple[str, str | None, int | None]:
        """The server that the credentials are for."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname, parts.port


class _Waiting:
    """The waits of one fetch: each ends in time, and soon after `stop` is set."""

    def __init__(self, stop: threading.Event, reach: Reach, shown: str) -> None:
        self._stop = stop
        self._reach = reach
        self._shown = shown
        self._proxies = {urlsplit(proxy).hostname for proxy in urllib.request.getproxies().values()}
        self._sockets: list[socket.socket] = []
        self.until: float | None = time.monotonic() + HEAD_SECONDS
        """When the present step has to be done, by the monotonic clock; None for no limit but that on silence."""

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """A connection, as `socket.create_connection` makes one. Raises InvalidError where it is not to go there."""
        failure: OSError = OSError("its name leads to no address")
        for family, kind, protocol, _name, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            if address[0] not in self._proxies and not self._reach.permits(str(place[0])):
                raise self._reach.refusal(self._shown)
            made = socket.socket(family, kind, protocol)
            self._sockets.append(made)
            try:
                made.setblocking(False)
                made.connect_ex(place)
                self.ready(made, select.POLLOUT)
                if code := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
                made.settimeout(SILENT_SECONDS)  # of a proxy's answer and TLS's greetings
            except OSError as error:
                failure = error
                continue
            return made
        raise failure

    def check_host(self, host: str | None) -> None:
        """Raise InvalidError for one that a proxy is not to be asked for."""
        if not self._reach.permits_host(host or ""):
            raise self._reach.refusal(self._shown)

    def ready(self, connection: socket.socket, event: int) -> None:
        """Return once a socket can be read or written; raises TimeoutError, StoppedError."""
        poll = select.poll()
        poll.register(connection, event)
        end = time.monotonic() + SILENT_SECONDS
        end = end if self.until is None else min(end, self.until)
        while True:
            if self._stop.is_set():
                raise StoppedError("nobody waits for it any more")
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if poll.poll(min(left, LOOK_SECONDS) * 1000):
                return

    def keep(self, connection: socket.socket) -> socket.socket:
        """A connection that is closed in the end."""
        self._sockets.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection that was made."""
        for made in self._sockets:
            made.close()


class _Stream(io.RawIOBase):
    """A connection as http.client uses one: a socket, and a file that reads from it."""

    def __init__(self, connection: socket.socket, waiting: _Waiting) -> None:
        self._socket = waiting.keep(connection)
        self._socket.setblocking(False)
        self._waiting = waiting

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._patiently(lambda: self._socket.send(view), select.POLLOUT) :]  # noqa: B023 (called at once)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._patiently(lambda: self._socket.recv_into(buffer), select.POLLIN)

    def close(self) -> None:
        """Nothing: http.client closes what it still reads from. `_Waiting.close` closes the socket."""

    def _patiently(self, step: Callable[[], int], event: int) -> int:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._waiting.ready(self._socket, select.POLLIN)
            except ssl.SSLWantWriteError:
                self._waiting.ready(self._socket, select.POLLOUT)
            except BlockingIOError:
                self._waiting.ready(self._socket, event)


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, waiting: _Waiting, **options: Any) -> None:
        super().__init__(host, **options)
        self._waiting = waiting
        self._create_connection = waiting.connect

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Stream(self.sock, self._waiting)


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, waiting: _Waiting, **options: Any) -> None:
        super().__init__(host, **options)
        self._waiting = waiting
        self._create_connection = waiting.connect

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Stream(self.sock, self._waiting)


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, waiting: _Waiting) -> None:
        super().__init__()
        self._waiting = waiting

    https_request = urllib.request.HTTPHandler.do_request_

    def http_open(self, request: urllib.request.Request) -> Any:
        self._waiting.check_host(urlsplit(request.full_url).hostname)
        return self.do_open(functools.partial(_Connection, waiting=self._waiting), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        self._waiting.check_host(urlsplit(request.full_url).hostname)
        context = ssl.create_default_context()
        return self.do_open(functools.partial(_SecureConnection, waiting=self._waiting), request, context=context)


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows them, signing in on the server that the credentials are for, or with those that a redirection names."""

    def __init__(self, address: _Address) -> None:
        self._address = address

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        address = _Address.of(newurl, redacted_url(newurl))
        if not address.authorization and address.origin == self._address.origin:
            address = replace(address, authorization=self._address.authorization)
        made = super().redirect_request(req, fp, code, msg, headers, address.url)
        if made is not None and address.authorization:
            made.add_unredirected_header("Authorization", address.authorization)
        return made


def _opened(address: _Address, waiting: _Waiting) -> Any:
    """The answer of what an address leads to, over http and https alone."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(waiting),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirections(address),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(address.url)
    if address.authorization:  # not a header that urllib sends on after a redirection
        request.add_unredirected_header("Authorization", address.authorization)
    return opener.open(request, timeout=SILENT_SECONDS)
