"""Small steps on local files that the system calls leave to their callers."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    """Write all of `data` at `offset` of an open file, in as many calls as that takes; raises OSError."""
    with memoryview(data) as whole:
        written = 0
        while written < len(whole):
            written += os.pwrite(fd, whole[written:], offset + written)
