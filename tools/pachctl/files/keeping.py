"""What is kept of files beside their bytes: as local ones have it, and as the daemon tells it."""

from __future__ import annotations

import errno
import os
import stat

from blake3 import blake3

from pachproto import pfs_pb2
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import LINK_BYTES, Attributes
from pfsd.trees.entries import SpecialEntry, SymlinkEntry

XATTR_PREFIX = b"user."
"""Of the extended attributes that are kept."""

PIPE = stat.S_IFIFO >> entries.KIND_SHIFT

_LINK_CONTEXT = "pachctl 2026-11 hard link v1"
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOENT)


def of_local(path: str, status: os.stat_result, link: bytes = b"") -> bytes:
    """What is kept of a local file or directory, as entries have it; raises OSError.

    `status` is that of `path`, of which no symbolic link is followed unless `status` is of what it leads to.
    """
    mode = stat.S_IMODE(status.st_mode)
    kept = Attributes(
        mode=None if stat.S_ISLNK(status.st_mode) else mode,
        owner=(status.st_uid, status.st_gid) if _keeps_owner(status, mode) else None,
        time_ns=status.st_mtime_ns,
        xattrs=() if stat.S_ISLNK(status.st_mode) else _xattrs(path),
        link=link,
    )
    return attributes.encode(kept)


def _keeps_owner(status: os.stat_result, mode: int) -> bool:
    """Root keeps other owners than itself; itself where a program runs as its owner."""
    return os.geteuid() == 0 and bool(status.st_uid or status.st_gid or mode & (stat.S_ISUID | stat.S_ISGID))


def _xattrs(path: str) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = sorted(name for name in map(os.fsencode, os.listxattr(path)) if name.startswith(XATTR_PREFIX))
        return tuple((name, os.getxattr(path, name)) for name in names)
    except OSError as error:
        if error.errno in _NO_XATTRS:  # such as on file systems without them
            return ()
        raise


class HardLinks:
    """The names that are one file, among those that are put."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], tuple[bytes, int]] = {}
        """Files of which not every name was seen: their link, and how many names are left."""

    def link(self, status: os.stat_result, target: str) -> bytes:
        """The link of the file that is put at `target`: it follows from where its first name is put."""
        if status.st_nlink < 2:
            return b""
        file = status.st_dev, status.st_ino
        link, left = self._waiting.pop(file, (b"", status.st_nlink))
        if not link:
            link = blake3(target.strip("/").encode(), derive_key_context=_LINK_CONTEXT).digest(LINK_BYTES)
        if left > 1:
            self._waiting[file] = link, left - 1
        return link


def of_info(info: pfs_pb2.FileInfo) -> Attributes | None:
    """What the daemon tells of a file; None where it keeps nothing."""
    if not info.HasField("attributes"):
        return None
    told = info.attributes
    return Attributes(
        mode=told.mode if told.HasField("mode") else None,
        owner=(told.uid, told.gid) if told.HasField("uid") else None,
        time_ns=told.modified.ToNanoseconds() if told.HasField("modified") else None,
        xattrs=tuple((each.name, each.value) for each in told.extended),
        link=told.link,
    )


def other_of(info: pfs_pb2.FileInfo) -> SymlinkEntry | SpecialEntry | None:
    """The entry of a symbolic link or special file of which the daemon tells; None for others."""
    encoded = attributes.encode(of_info(info) or attributes.NONE)
    if info.attributes.symlink:
        return SymlinkEntry(info.attributes.symlink, encoded)
    if info.attributes.special_kind:
        return SpecialEntry(info.attributes.special_kind, info.attributes.device, encoded)
    return None
