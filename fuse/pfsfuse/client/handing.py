"""Handing open files over to a daemon on this machine, so that their bytes need not be sent.

Whoever can't reach the daemon's socket, which is in a directory of the daemon's own user, sends the bytes instead.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator

from pachproto import pfsd_pb2
from pfsd.local.handedfiles import ANSWER_BYTES, ANSWER_YES, HANDED, SOCKET

log = logging.getLogger(__name__)

LARGE_BYTES = 256 << 10
"""Files from this size on are handed over."""

_TICKET_BYTES = 16
_SECONDS = 2.0
_AGAIN_SECONDS = 5.0
"""After which it is tried again where nothing could be handed over."""
_RANGE_BYTES = 32 << 20
_AT_ONCE = 8
"""Files of one output that wait to be read."""


class Handed:
    """A file that the daemon may read until `close`."""

    def __init__(self, connection: socket.socket, fd: int, size: int, holder: bytes, ticket: bytes) -> None:
        self.holder = holder
        self.size = size
        self._connection = connection
        self._fd = os.dup(fd)
        self._ticket = ticket
        self._lock = threading.Lock()

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, pfsd_pb2.HandedRange]]:
        """The bytes [start, end), as ranges of which each fits a message, with their offsets."""
        for at in range(start, end, _RANGE_BYTES):
            size = min(_RANGE_BYTES, end - at)
            yield at, pfsd_pb2.HandedRange(ticket=self._ticket, offset=at, size=size)

    def progress(self) -> int:
        """Where in the file the daemon is."""
        with self._lock:
            return os.lseek(self._fd, 0, os.SEEK_CUR) if self._fd >= 0 else 0

    def close(self) -> None:
        """The daemon closes it, too."""
        self._connection.close()
        with self._lock:
            os.close(self._fd)
            self._fd = -1


class Handing:
    """Hands files over to one daemon."""

    def __init__(self, directory: str = "") -> None:
        self.holder = secrets.token_bytes(_TICKET_BYTES)
        self.directory = directory
        """What the daemon tells; empty where it takes none."""
        self._again = 0.0

    def hand_over(self, fd: int, size: int) -> Handed | None:
        """Let the daemon read the first `size` bytes of a file; None where it can't."""
        if not self.directory or size < LARGE_BYTES or time.monotonic() < self._again:
            return None
        ticket = secrets.token_bytes(_TICKET_BYTES)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(_SECONDS)
            _connect(connection, self.directory)
            socket.send_fds(connection, [HANDED.pack(self.holder, ticket, size)], [fd])
            answer = connection.recv(ANSWER_BYTES)
            if answer == ANSWER_YES:
                return Handed(connection, fd, size, self.holder, ticket)
            log.info("a file is not taken at %s: %s", self.directory, answer.decode(errors="replace"))
        except OSError as error:
            log.info("a file can't be handed over at %s: %s", self.directory, error)
            self._again = time.monotonic() + _AGAIN_SECONDS
        connection.close()
        return None


class HandedOutput:
    """Files that are handed over one after the other, to be read in this order; closed at the end of a block."""

    def __init__(self, handing: Handing) -> None:
        self.holder = handing.holder
        self._handing = handing
        self._files: list[Handed] = []

    def __enter__(self) -> HandedOutput:
        return self

    def __exit__(self, *_: object) -> None:
        for handed in self._files:
            handed.close()
        self._files = []

    def hand_over(self, fd: int, size: int) -> Handed | None:
        """Hand a file over, unless several that the daemon has not read yet are."""
        while self._files and self._files[0].progress() >= self._files[0].size:
            self._files.pop(0).close()
        if len(self._files) >= _AT_ONCE:
            return None
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # whose position nobody else moves
        try:
            handed = self._handing.hand_over(own, size)
        finally:
            os.close(own)
        if handed is not None:
            self._files.append(handed)
        return handed


def _connect(connection: socket.socket, directory: str) -> None:
    """Connect to the socket in a directory, whose path may be longer than that of a socket can be."""
    top = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{top}/{SOCKET}")
    finally:
        os.close(top)
