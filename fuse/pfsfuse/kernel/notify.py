"""Tells the kernel of many names at once, also what pyfuse3 can't tell it: that a name has to be looked up again before
its time is over.

Unlike an invalidation, that leaves the name to those who use what it stood for: `getcwd` goes on working.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

_DEVICE = "/dev/fuse"
_INVALIDATE_ENTRY = 3
_EXPIRE_ONLY = 1
"""Before Linux 6.2, the name is invalidated instead."""
_HEADER = struct.Struct("=IiQ")
_ENTRY = struct.Struct("=QII")


def session_descriptor() -> int:
    """The descriptor of this process's FUSE session."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == _DEVICE:
                return int(name)
        except FileNotFoundError:  # the one that lists them
            continue
    raise FileNotFoundError(f"no {_DEVICE} is open")


def expire(session: int, names: Iterable[tuple[int, bytes]]) -> None:
    """Have the kernel ask again for names, each with the number of its directory; it need not know them.

    Waits for requests under way that change those directories: not to be called in the loop that answers them.
    """
    _tell(session, names, _EXPIRE_ONLY)


def drop(session: int, names: Iterable[tuple[int, bytes]]) -> None:
    """Have the kernel forget names, each with the number of its directory, and what nobody uses of what they stand for.

    Waits like `expire`.
    """
    _tell(session, names, 0)


def _tell(session: int, names: Iterable[tuple[int, bytes]], flags: int) -> None:
    for directory, name in names:
        size = _HEADER.size + _ENTRY.size + len(name) + 1
        message = _HEADER.pack(size, _INVALIDATE_ENTRY, 0) + _ENTRY.pack(directory, len(name), flags)
        try:
            os.write(session, message + name + b"\0")
        except (FileNotFoundError, NotADirectoryError):
            continue
