"""What user code prints, on its way to the pipeline's log."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from pachproto import ppsd_pb2

FLUSH_SECONDS = 0.5
FLUSH_BYTES = 64 << 10
MAX_LINE_BYTES = 16 << 10
"""A longer line is sent in pieces of this size."""
MAX_WAITING_BYTES = 4 << 20
"""So much may wait to be sent, and as much again to be queued for it: then the oldest lines are dropped and counted."""


class Sink(Protocol):
    """Where lines go."""

    waiting_bytes: int

    def put(self, message: ppsd_pb2.FromWorker) -> None:
        """Send a message; never waits."""


class UserLog:
    """Cuts one datum's output into lines and sends them in batches."""

    def __init__(self, job_id: str, datum_id: str, sink: Sink) -> None:
        self._job_id = job_id
        self._datum_id = datum_id
        self._sink = sink
        self._partial: dict[int, bytearray] = {}
        self._lines: deque[ppsd_pb2.LogLine] = deque()
        self._size = 0
        self._dropped = 0

    def feed(self, stream: int, data: bytes) -> None:
        """Take in what was written to a stream (1 or 2). Never waits."""
        partial = self._partial.setdefault(stream, bytearray())
        partial += data
        start = 0
        while True:
            end = partial.find(b"\n", start, start + MAX_LINE_BYTES + 1)
            if end >= 0:
                self._add(partial[start:end])
                start = end + 1
            elif len(partial) - start > MAX_LINE_BYTES:
                self._add(partial[start : start + MAX_LINE_BYTES])
                start += MAX_LINE_BYTES
            else:
                break
        del partial[:start]

    def say(self, text: str) -> None:
        """Add a line of the worker's own."""
        self._append(text, user=False)

    def finish(self) -> None:
        """Send everything, the last lines that have no newline too."""
        for partial in self._partial.values():
            if partial:
                self._add(partial)
        self._partial.clear()
        while self._lines:
            self._send()

    def _add(self, line: bytes | bytearray) -> None:
        self._append(line.decode(errors="replace"))
        if self._size >= FLUSH_BYTES:
            self.flush()
        while self._size > MAX_WAITING_BYTES:
            self._size -= _size(self._lines.popleft())
            self._dropped += 1

    def _append(self, message: str, user: bool = True) -> None:
        line = ppsd_pb2.LogLine(
            job_id=self._job_id, datum_id=self._datum_id, user=user, time_ns=time.time_ns(), message=message
        )
        self._lines.append(line)
        self._size += _size(line)

    def flush(self) -> None:
        """Send what there is, unless much is waiting to be sent already; to be called every `FLUSH_SECONDS`."""
        while self._lines and self._sink.waiting_bytes < MAX_WAITING_BYTES:
            self._send()

    def _send(self) -> None:
        """Send a message of the oldest lines."""
        if self._dropped:
            text = f"{self._dropped} lines were dropped here: they came faster than they can be kept"
            self._dropped = 0
            self._append(text, user=False)
            self._lines.rotate(1)
        message = ppsd_pb2.FromWorker()
        size = 0
        while self._lines and size < FLUSH_BYTES:
            line = self._lines.popleft()
            size += _size(line)
            message.log.append(line)
        self._size -= size
        self._sink.put(message)


def _size(line: ppsd_pb2.LogLine) -> int:
    """About how many bytes a line takes."""
    return len(line.message) + 128
