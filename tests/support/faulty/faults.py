"""An HTTP proxy in front of an S3 server that does what networks and overloaded servers do."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

KINDS = ("drop", "slow", "500", "503", "503-later", "truncate")
"""The connection ends without an answer; the answer takes SLOW_SECONDS longer; errors, the last of them with the wish
to be left alone for LATER_SECONDS; half of a body comes."""
SLOW_SECONDS = 0.5
LATER_SECONDS = 1
_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")

Choice = Callable[[int, str], str | None]
"""What is done to the request with this number and method: one of KINDS, or None."""


@dataclass(eq=False)
class Faults:
    """What a proxy is to do from now on."""

    endpoint: str
    choose: Choice = lambda number, method: None
    away: threading.Event = field(default_factory=threading.Event)
    """While it is set, every connection is dropped."""
    done: list[str] = field(default_factory=list)
    """What was done."""
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """How many requests have come."""
        return self._number

    def next(self, method: str) -> str | None:
        """What is done to the request that has just come."""
        with self._lock:
            self._number += 1
            kind = "drop" if self.away.is_set() else self.choose(self._number, method)
            if kind is not None:
                self.done.append(kind)
            return kind


class _Proxy(http.server.ThreadingHTTPServer):
    """Sends requests on to the address `behind`, as `faults` lets it."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.stop = threading.Event()
        self.faults = Faults(f"http://127.0.0.1:{self.server_address[1]}")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Proxy
    protocol_version = "HTTP/1.1"
    timeout = 60

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):
            super().handle_one_request()
            return
        self.close_connection = True

    def answer(self) -> None:
        body = self.body()
        kind = self.server.faults.next(self.command)
        if kind == "drop":
            self.drop()
            return
        if kind in ("500", "503", "503-later"):
            name = "InternalError" if kind == "500" else "SlowDown"
            wish = {"Retry-After": str(LATER_SECONDS)} if kind == "503-later" else {}
            self.reply(int(kind[:3]), wish, f"<Error><Code>{name}</Code><Message>tried</Message></Error>".encode())
            return
        if kind == "slow":
            self.server.stop.wait(SLOW_SECONDS)
        answer, data = self.ask(body)
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        if kind == "truncate":
            self.reply(answer.status, kept, data[: len(data) // 2], str(len(data)))
            self.drop()
        else:
            self.reply(answer.status, kept, data, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def ask(self, body: bytes | None) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server behind answers, and the body of that."""
        with contextlib.closing(http.client.HTTPConnection(self.server.behind, timeout=60)) as connection:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            if body is not None:
                headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer, answer.read()

    def body(self) -> bytes | None:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            told = self.headers.get("Content-Length")
            return None if told is None else self.rfile.read(int(told))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def reply(self, status: int, headers: dict[str, str], data: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.wfile.flush()

    def drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def faulty(endpoint: str) -> Iterator[Faults]:
    """A proxy in front of `endpoint`; it lets everything through until it is told otherwise."""
    server = _Proxy(endpoint.removeprefix("http://"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.faults
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
