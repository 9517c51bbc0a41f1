"""What files in /pfs/out are beside their content: read from the disk as attributes of entries, and laid out again."""

from __future__ import annotations

import errno
import os
import stat
from hashlib import blake2b

from pfsd.errors import InvalidError
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import LINK_BYTES, MOST_XATTR_BYTES, Attributes
from pfsd.trees.entries import Entry, SymlinkEntry

_USERS = b"user."
_SHOWN_BY_MOUNTS = b"user.pfs."
"""What mounts say of files; `cp -a` takes it along."""
_NONE_HERE = (errno.ENOTSUP, errno.EPERM, errno.ENODATA)


class Links:
    """The files of one output that have several names: what their entries have in common."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], tuple[bytes, int]] = {}

    def of(self, found: os.stat_result, path: str) -> bytes:
        """The link of a file at a path, which follows from the path at which it was first met; none for one name."""
        if found.st_nlink < 2 or stat.S_ISDIR(found.st_mode):
            return b""
        key = found.st_dev, found.st_ino
        link, left = self._links.pop(key, (b"", found.st_nlink))
        link = link or blake2b(path.encode(), digest_size=LINK_BYTES).digest()
        if left > 1:
            self._links[key] = link, left - 1
        return link


def kept(real: str, found: os.stat_result, user: int, named: str, link: bytes = b"") -> bytes:
    """The attributes of what lies at `real`, as entries have them, its owner if that is not `user`.

    Raises InvalidError, which calls it `named`, where it has more extended attributes than are kept.
    """
    is_link = stat.S_ISLNK(found.st_mode)
    default = attributes.DIRECTORY_MODE if stat.S_ISDIR(found.st_mode) else attributes.FILE_MODE
    mode = stat.S_IMODE(found.st_mode)
    return attributes.encode(
        Attributes(
            mode=None if is_link or mode == default else mode,
            owner=None if found.st_uid == user else (found.st_uid, found.st_gid),
            time_ns=found.st_mtime_ns,
            xattrs=() if is_link else _xattrs(real, named),
            link=link,
        )
    )


def _xattrs(real: str, named: str) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = sorted(map(os.fsencode, os.listxattr(real)))
        pairs = [(name, os.getxattr(real, name)) for name in names if _is_kept(name)]
    except OSError as error:
        if error.errno in _NONE_HERE:
            return ()
        raise
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > MOST_XATTR_BYTES:
        raise InvalidError(
            f"{named} has {size} bytes of extended attributes: at most {MOST_XATTR_BYTES} can be stored, remove some"
        )
    return tuple(pairs)


def _is_kept(name: bytes) -> bool:
    return name.startswith(_USERS) and not name.startswith(_SHOWN_BY_MOUNTS)


def restore(real: bytes, entry: Entry) -> None:
    """Give what lies at `real` the attributes of an entry, as far as this user may and the disk can."""
    found = entries.attributes_of(entry)
    is_link = isinstance(entry, SymlinkEntry)
    for name, value in found.xattrs:
        try:
            os.setxattr(real, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NONE_HERE:
                raise
    if found.owner is not None:
        try:
            os.chown(real, *found.owner, follow_symlinks=False)
        except PermissionError:
            pass
    if not is_link:
        os.chmod(real, entries.default_mode(entry) if found.mode is None else found.mode)
    if found.time_ns is not None:
        os.utime(real, ns=(found.time_ns, found.time_ns), follow_symlinks=False)
