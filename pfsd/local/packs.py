"""Packs: the files that chunks lie in, how they are named, those that still grow. Layouts: ARCHITECTURE.md."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import stat
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from blake3 import blake3

from pfsd._core import MAX_CHUNK
from pfsd.errors import FullError, PfsError
from pfsd.local.disk import disk_error, fsync_directory, read_error, write_all
from pfsd.local.journal import PackJournal

log = logging.getLogger(__name__)

MAGIC = b"PFSPACK1"
RECORD = struct.Struct("<32sII")
INDEX = struct.Struct(">16sQI")
CUT = 1 << 31
"""Set in an index row's size when the chunk's end was decided by its content, not by the end of a file."""
WRITE_BYTES = 256 << 10
"""Chunks are written to the pack once they are so many bytes together."""
FREE_CHECK_BYTES = 1 << 20
RESERVE_BYTES = 32 << 20
"""Free space below which no chunk is taken, so that the metadata can always be written."""

_NAME = re.compile("[0-9a-f]{32}")
_OBJECT = re.compile("packs/([0-9a-f]{2})/([0-9a-f]{32})")
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk's bytes lie."""

    pack: str
    """32 hex digits."""
    offset: int
    """Of the chunk's first byte in the pack."""
    size: int
    """Bytes."""
    is_cut: bool
    """Whether its end was decided by its content, not by the end of a file."""


def index_row(pack: str, offset: int, size: int, is_cut: bool) -> bytes:
    """The value of the chunk index for a chunk."""
    return INDEX.pack(bytes.fromhex(pack), offset, size | (CUT if is_cut else 0))


def location(row: bytes) -> Location:
    """What a value of the chunk index says."""
    pack, offset, size = INDEX.unpack(row)
    return Location(pack.hex(), offset, size & ~CUT, bool(size & CUT))


def pack_object(pack: str) -> str:
    """The object name of a sealed pack."""
    return f"packs/{pack[:2]}/{pack}"


def sealed_name(name: str) -> str | None:
    """The pack that has this object name; None, and a word in the log, for an object that is none of ours."""
    found = _OBJECT.fullmatch(name)
    if found is not None and found[2].startswith(found[1]):
        return found[2]
    log.warning("%s among the packs is no pack: it is left alone", name)
    return None


def is_pack(path: pathlib.Path) -> bool:
    """Whether a path has the name of a pack, and is a file."""
    try:
        return bool(_NAME.fullmatch(path.name)) and stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def growing_packs(spool: pathlib.Path) -> list[pathlib.Path]:
    """The packs in a spool directory. What else lies there is left alone, with a word in the log."""
    found: list[pathlib.Path] = []
    for path in sorted(spool.iterdir()) if spool.is_dir() else ():
        if is_pack(path):
            found.append(path)
        elif os.path.lexists(path):  # else sealed just now
            log.warning("%s is no pack: it is left alone", path)
    return found


class GrowingPack:
    """A growing pack in the spool. Its methods are called under the store's lock.

    They raise FullError, and DiskError or CorruptError where the disk fails.
    """

    def __init__(self, path: pathlib.Path, size: int) -> None:
        self.path = path
        self.name = path.name
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise disk_error(error, f"pack {path} can't be opened") from error
        self.size = size
        """Bytes, those that still wait in `_pending` included."""
        self.fresh: dict[bytes, bytes] = {}
        """The index rows of the chunks that the index does not name yet."""
        self.durable = 0
        """Bytes from the beginning that are synced or in the journal."""
        self.journal = PackJournal(path.name)
        self.heir: GrowingPack | None = None
        """The pack that has taken this one's place, after a sync that failed."""
        self.lock = threading.Lock()
        """Held while the descriptor must stay open. Taken before the store's lock."""
        self._pending = bytearray()
        self._checked = -FREE_CHECK_BYTES

    @classmethod
    def create(cls, spool: pathlib.Path) -> GrowingPack:
        """A new pack, whose name is durable."""
        pack = cls(spool / uuid.uuid4().hex, 0)
        pack._pending += MAGIC
        pack.size = len(MAGIC)
        try:
            pack.write()
            fsync_directory(spool)
        except (OSError, PfsError) as error:
            pack.remove()
            if isinstance(error, OSError):
                raise disk_error(error, f"the directory {spool} can't be synced") from error
            raise
        return pack

    def append(self, name: bytes, data: bytes | memoryview, is_cut: bool) -> None:
        """Add a chunk; raises FullError, and leaves the pack as it was, when there is no room."""
        if self.size - self._checked >= FREE_CHECK_BYTES:
            free = os.fstatvfs(self.fd)
            if free.f_bavail * free.f_frsize < RESERVE_BYTES + len(data):
                raise _full()
            self._checked = self.size
        self.fresh[name] = index_row(self.name, self.size + RECORD.size, len(data), is_cut)
        self._pending += RECORD.pack(name, len(data), 0)
        self.size += RECORD.size + len(data)
        if len(data) >= WRITE_BYTES:
            self._write_with(data)
            return
        self._pending += data
        if len(self._pending) >= WRITE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what waits; it goes on waiting where that fails."""
        try:
            write_all(self.fd, self._pending, self.size - len(self._pending))
        except OSError as error:
            raise disk_error(error, f"pack {self.path} can't be written") from error
        self._pending = bytearray()

    def _write_with(self, data: bytes | memoryview) -> None:
        """Write what waits, and `data` after it, which is not copied; where that fails, both wait."""
        start = self.size - len(self._pending) - len(data)
        try:
            write_all(self.fd, self._pending, start)
            write_all(self.fd, data, start + len(self._pending))
        except OSError as error:
            self._pending += data
            raise disk_error(error, f"pack {self.path} can't be written") from error
        self._pending = bytearray()

    def rewrite(self, start: int) -> None:
        """Write what was read from `start` on, and the whole page there, once more, so that the next sync writes it.

        After a sync that failed, the kernel may take pages for written that never were.
        """
        try:
            for at in range(start - start % _PAGE_BYTES, self.size, WRITE_BYTES):
                write_all(self.fd, os.pread(self.fd, min(WRITE_BYTES, self.size - at), at), at)
        except OSError as error:
            raise disk_error(error, f"pack {self.path} can't be written") from error

    def read(self, at: Location) -> bytes:
        """A chunk's bytes."""
        written = self.size - len(self._pending)
        if at.offset >= written:
            return bytes(self._pending[at.offset - written : at.offset - written + at.size])
        try:
            return os.pread(self.fd, at.size, at.offset)
        except OSError as error:
            raise read_error(error, f"pack {self.path} can't be read") from error

    def remove(self) -> None:
        """Close and remove the file; where that fails, the next start finds it."""
        os.close(self.fd)
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _full() -> FullError:
    return FullError("the disk that holds the root is full: free some space and try again; nothing was changed")


def scan(fd: int) -> Iterator[tuple[bytes, int, bytes]]:
    """The chunks of an open pack in order, each with its offset and bytes, up to the first that is torn or damaged."""
    if os.pread(fd, len(MAGIC), 0) != MAGIC:
        return
    at = len(MAGIC)
    while True:
        head = os.pread(fd, RECORD.size, at)
        if len(head) < RECORD.size:
            return
        name, size, reserved = RECORD.unpack(head)
        at += RECORD.size
        data = os.pread(fd, size, at) if size <= MAX_CHUNK else b""
        if reserved or not data or len(data) != size or blake3(data).digest() != name:
            return
        yield name, at, data
        at += size
