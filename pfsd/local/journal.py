"""The journal of growing packs: small additions that are durable before their pack is.

A commit of a few small files would need two syncs, one of the pack and one of the metadata. Instead, the bytes that
were added to the pack are put, as they lie in it, into the write batch that names them; the pack is synced once they
are many. Opening a root writes them back into the packs, where a crash may have lost them. Layout: ARCHITECTURE.md,
"Formats".
"""

from __future__ import annotations

import errno
import os
import pathlib
import stat

from pfsd.errors import CorruptError, shown
from pfsd.local.disk import disk_error, write_all
from pfsd.local.kv import Batch, Database

ROW_BYTES = 64 << 10
"""Additions up to this size are put into the journal."""
PACK_BYTES = 1 << 20
"""Bytes of one pack that the journal holds at most."""

_OFFSET_BYTES = 8
_KEY_BYTES = 16 + _OFFSET_BYTES
_LAST_OFFSET = 1 << 40
"""No pack is so large."""


class PackJournal:
    """What the journal has of one growing pack. To be used under a lock."""

    def __init__(self, pack: str) -> None:
        self._pack = bytes.fromhex(pack)
        self._keys: list[bytes] = []
        self._bytes = 0

    def takes(self, size: int) -> bool:
        """Whether an addition of so many bytes has a place in the journal."""
        return size <= ROW_BYTES and self._bytes + size <= PACK_BYTES

    def put(self, batch: Batch, offset: int, data: bytes) -> None:
        """Keep the bytes that were added to the pack at `offset`."""
        key = self._pack + offset.to_bytes(_OFFSET_BYTES, "big")
        batch.put("journal", key, data)
        self._keys.append(key)
        self._bytes += len(data)

    def drop(self, batch: Batch) -> None:
        """Forget what is kept, now that the pack is synced."""
        for key in self._keys:
            batch.delete("journal", key)
        self._keys = []
        self._bytes = 0


def restore(database: Database, spool: pathlib.Path) -> None:
    """Write what the journal holds back into the packs of the spool, synced, and empty it.

    Rows of packs that are sealed by now, and so no longer in the spool, are dropped; so are those of what is no pack.
    Raises FullError, and DiskError when the disk fails: the journal stays then. CorruptError for a row that can't be of
    a pack.
    """
    batch = database.batch()
    opened: dict[str, int | None] = {}
    try:
        for key, data in database.scan("journal", b""):
            pack, offset = key[:-_OFFSET_BYTES].hex(), int.from_bytes(key[-_OFFSET_BYTES:], "big")
            if len(key) != _KEY_BYTES or offset > _LAST_OFFSET:
                raise CorruptError(f"the journal has a row that belongs to no pack: {shown(key.hex())}")
            if pack not in opened:
                opened[pack] = _open(spool / pack)
            fd = opened[pack]
            if fd is not None:
                write_all(fd, data, offset)
            batch.delete("journal", key)
        for fd in opened.values():
            if fd is not None:
                os.fdatasync(fd)
    except OSError as error:
        raise disk_error(error, f"the packs in {spool} can't be written") from error
    finally:
        for fd in opened.values():
            if fd is not None:
                os.close(fd)
    if opened:
        database.write(batch)


def _open(path: pathlib.Path) -> int | None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None
