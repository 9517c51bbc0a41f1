"""A network between a client and an HTTP server of this machine: a round trip takes time, and requests are counted.

    python -m tools.bench.network 127.0.0.1:9000 0.02 [CPU]

prints the address to connect to, then, for each line on standard input, how many requests went by so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

READ_BYTES = 512 << 10
IN_FLIGHT_BYTES = 16 << 20
"""What is on its way in one direction of a connection before no more is read."""


class RequestCounter:
    """Finds the requests in what a client sends over one connection."""

    def __init__(self) -> None:
        self.requests = 0
        self._head = bytearray()
        self._skip = 0
        self._is_chunked = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take the bytes that come next."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            mark = b"\r\n" if self._is_chunked else b"\r\n\r\n"
            self._head += data[at : at + 4096]
            at = min(at + 4096, len(data))
            end = self._head.find(mark)
            if end < 0:
                continue
            at -= len(self._head) - end - len(mark)
            head, self._head = bytes(self._head[:end]), bytearray()
            self._begin_chunk(head) if self._is_chunked else self._begin_request(head)

    def _begin_request(self, head: bytes) -> None:
        self.requests += 1
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._skip = int(value)
            elif name == b"transfer-encoding":
                self._is_chunked = b"chunked" in value

    def _begin_chunk(self, head: bytes) -> None:
        size = int(head.partition(b";")[0], 16)
        self._skip = size + 2  # with the end of its line, or of the trailer, which nobody here sends
        self._is_chunked = size > 0


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, counter: RequestCounter | None
) -> None:
    """Hand on what comes, each piece `delay` seconds after it came."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(1, IN_FLIGHT_BYTES // READ_BYTES))

    async def write() -> None:
        while True:
            due, data = await waiting.get()
            if (pause := due - loop.time()) > 0:
                await asyncio.sleep(pause)
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    async def read() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(READ_BYTES)
            except OSError:
                data = b""
            if counter is not None:
                counter.feed(data)
            await waiting.put((loop.time() + delay, data))

    with contextlib.suppress(OSError):
        await asyncio.gather(read(), write())


async def _serve(host: str, port: int, delay: float) -> None:
    counters: list[RequestCounter] = []
    passing: set[asyncio.Task[None] | None] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counter = RequestCounter()
        counters.append(counter)
        passing.add(asyncio.current_task())  # asyncio itself does not keep it: it could be collected on the way
        await asyncio.sleep(delay)  # what the handshake takes on a line like this
        behind_reader, behind_writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
        try:
            await asyncio.gather(  # both end when either side does
                _pass(reader, behind_writer, delay / 2, counter), _pass(behind_reader, writer, delay / 2, None)
            )
        finally:
            writer.close()
            behind_writer.close()
            passing.discard(asyncio.current_task())

    server = await asyncio.start_server(connect, "127.0.0.1", 0, limit=READ_BYTES)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    while await asked.readline():
        print(sum(counter.requests for counter in counters), flush=True)


@dataclass(frozen=True, slots=True)
class Network:
    """The near end of a slow line."""

    address: str
    _process: subprocess.Popen[str]

    def requests(self) -> int:
        """How many went over it so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def slow_line(server: str, seconds: float, cpu: int) -> Iterator[Network]:
    """A line to `server` (HOST:PORT) whose round trip takes `seconds`; what makes it runs on the core `cpu`."""
    command = [sys.executable, "-m", "tools.bench.network", server, str(seconds), str(cpu)]
    root = pathlib.Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Network(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.communicate()


def main() -> int:
    """Serve until standard input ends."""
    host, _, port = sys.argv[1].rpartition(":")
    if len(sys.argv) > 3:
        os.sched_setaffinity(0, {int(sys.argv[3])})
    asyncio.run(_serve(host, int(port), float(sys.argv[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
