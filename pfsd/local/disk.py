"""Small steps on local files that one system call does not do (write all, sync a directory), and what errors mean."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
from contextlib import suppress

from pfsd.errors import CorruptError, DiskError, FullError, PfsError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at `offset` of an open file, in as many calls as that takes; raises OSError."""
    with memoryview(data) as whole:
        written = 0
        while written < len(whole):
            written += os.pwrite(fd, whole[written:], offset + written)


def fsync_directory(path: pathlib.Path) -> None:
    """Make the names in a directory durable; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: pathlib.Path) -> None:
    """Make a directory, and those above it, durably; raises OSError.

    Its own name is synced even where it is there, for a former run may have been cut off before that; unless the
    directory above may not be read.
    """
    if not path.parent.is_dir():
        make_directory(path.parent)
    path.mkdir(exist_ok=True)
    with suppress(PermissionError):
        fsync_directory(path.parent)


def sync_tree(directory: pathlib.Path) -> None:
    """Make a directory with all that is in it durable, and its name; raises OSError."""
    for above, _, names in os.walk(directory):
        for name in names:
            fd = os.open(os.path.join(above, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        fsync_directory(pathlib.Path(above))
    fsync_directory(directory.parent)


def disk_error(error: OSError, what: str) -> PfsError:
    """What a user is told when something of the root can't be written; `what` says that, without the reason."""
    if error.errno in _FULL:
        return FullError("the disk that holds the root is full: free some space and try again; nothing was changed")
    if error.errno in _LIMITS:
        return FullError(f"{what}: {error.strerror}: give pfsd more (ulimit -n, memory), or do less at a time")
    place = f" ({error.filename})" if error.filename else ""
    return DiskError(f"{what}: {error.strerror}{place}: check the disk that holds the root")


def read_error(error: OSError, what: str) -> PfsError:
    """The same for what can't be read."""
    if error.errno in _LIMITS:
        return disk_error(error, what)
    return CorruptError(f"{what}: {error.strerror}: check the disk that holds the root, then run pachctl fsck")


_libc = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02


def punch(fd: int, start: int, size: int) -> None:
    """Make a hole in an open file, whose length stays; raises OSError, EOPNOTSUPP where its file system has none."""
    mode = _KEEP_SIZE | _PUNCH_HOLE
    if _libc.fallocate(fd, mode, ctypes.c_int64(start), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
