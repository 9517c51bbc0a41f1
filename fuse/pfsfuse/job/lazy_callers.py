"""What the thread whose request is being answered is about to do with a file.

Before the kernel opens a named pipe it asks for its name and attributes, and it asks exactly the same for a `stat`. The
calling thread waits meanwhile, so /proc says which system call it is in.
"""

from __future__ import annotations

import enum
import os
import platform


class Intent(enum.Enum):
    """What a thread wants of a file."""

    LOOK = enum.auto()
    """Its name or attributes only."""
    READ = enum.auto()
    """To open it for reading, or something that can't be told apart from that."""
    WRITE = enum.auto()
    """To open it for writing."""


_LOOKS = {
    # stat, fstat, lstat, access, readlink, *getxattr and *listxattr, newfstatat, readlinkat, faccessat, statx
    "x86_64": {4, 5, 6, 21, 89, 191, 192, 193, 194, 195, 196, 262, 267, 269, 332, 439},
    "aarch64": {8, 9, 10, 11, 12, 13, 48, 78, 79, 80, 291, 439},
}.get(platform.machine(), set())
_OPENS = {"x86_64": {2: 2, 257: 3}, "aarch64": {56: 3}}.get(platform.machine(), {})
"""System calls that open a file: which word of the line has the flags."""
_COMPAT_OPEN = 5
"""fstat, but in 32-bit programs open, whose first argument is an address."""
_LOWEST_ADDRESS = 0x10000


def intent_of(tid: int) -> Intent:
    """What the thread wants, which waits for the answer to a request of its own."""
    try:
        fd = os.open(f"/proc/{tid}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = os.read(fd, 256).split()
        finally:
            os.close(fd)
        number = int(words[0])
        if number == _COMPAT_OPEN and int(words[1], 16) >= _LOWEST_ADDRESS:
            return Intent.READ
        if number in _LOOKS:
            return Intent.LOOK
        if number in _OPENS and int(words[_OPENS[number]], 16) & os.O_ACCMODE != os.O_RDONLY:
            return Intent.WRITE
    except (OSError, ValueError, IndexError):  # not for us to see, "running", or a kernel without it
        return Intent.READ
    return Intent.READ
