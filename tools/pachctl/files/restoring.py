"""Giving local files back what commits keep of them beside their bytes."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable

from pfsd.trees.attributes import DIRECTORY_MODE, FILE_MODE, Attributes
from pfsd.trees.entries import KIND_SHIFT, SpecialEntry, SymlinkEntry

_SOCKET = stat.S_IFSOCK >> KIND_SHIFT
_PIPE = stat.S_IFIFO >> KIND_SHIFT
_AS_OWNER = stat.S_ISUID | stat.S_ISGID
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG, errno.ERANGE)


class Restoring:
    """Gives files what is kept of them. Safe to use from several threads."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` gets a sentence for each thing that can't be given, once."""
        self._warn = warn
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._is_root = os.geteuid() == 0

    def file(self, descriptor: int, kept: Attributes) -> None:
        """Give an open file what was kept of it; raises OSError."""
        self._give(descriptor, kept, FILE_MODE)

    def directory(self, path: str, kept: Attributes) -> None:
        """Give a directory, which is no symbolic link, what was kept of it; raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._give(descriptor, kept, DIRECTORY_MODE)
        finally:
            os.close(descriptor)

    def can_make(self, entry: SymlinkEntry | SpecialEntry) -> bool:
        """Whether a link or special file can be made here; warns where it can't."""
        if isinstance(entry, SpecialEntry) and entry.kind == _SOCKET:
            self._once("sockets are left out: only a program that listens makes one")
            return False
        if isinstance(entry, SpecialEntry) and entry.kind != _PIPE and not self._is_root:
            self._once("devices are left out: only root can make one")
            return False
        return True

    def make(self, path: str, entry: SymlinkEntry | SpecialEntry, kept: Attributes) -> None:
        """Make a link or special file at a path where nothing is; raises OSError."""
        if isinstance(entry, SymlinkEntry):
            os.symlink(entry.target, os.fsencode(path))
        else:
            os.mknod(path, entry.kind << KIND_SHIFT | 0o600, entry.device)
        if self._is_root and kept.owner is not None:
            os.chown(path, *kept.owner, follow_symlinks=False)
        if isinstance(entry, SpecialEntry):
            os.chmod(path, self._mode(kept, FILE_MODE))
        if kept.time_ns is not None:
            os.utime(path, ns=(kept.time_ns, kept.time_ns), follow_symlinks=False)

    def _give(self, descriptor: int, kept: Attributes, default_mode: int) -> None:
        if self._is_root and kept.owner is not None:
            os.fchown(descriptor, *kept.owner)
        for name, value in kept.xattrs:
            self._set_xattr(descriptor, name, value)
        os.fchmod(descriptor, self._mode(kept, default_mode))
        if kept.time_ns is not None:
            os.utime(descriptor, ns=(kept.time_ns, kept.time_ns))

    def _mode(self, kept: Attributes, default_mode: int) -> int:
        mode = default_mode if kept.mode is None else kept.mode
        if default_mode != DIRECTORY_MODE and not (self._is_root and kept.owner is not None):
            return mode & ~_AS_OWNER  # it would run as somebody else
        return mode

    def _set_xattr(self, descriptor: int, name: bytes, value: bytes) -> None:
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
            self._once(f"extended attributes are left out: {error.strerror}")

    def _once(self, sentence: str) -> None:
        with self._lock:
            is_new = sentence not in self._warned
            self._warned.add(sentence)
        if is_new:
            self._warn(sentence)
