"""Chunks in packs: every chunk is stored once, durably before anything finished refers to it.

New chunks are appended to the growing pack in the spool directory. A full pack is sealed: synced, entered in
the chunk index, moved to the object store. `flush` does the first two for a pack that goes on growing, so the
index only ever names durable bytes: where they are few, they are put into the journal (`pfsd.journal`) instead of
synced. Layouts: ARCHITECTURE.md, "Formats".
"""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from blake3 import blake3

from pfsd import journal
from pfsd._core import next_cut
from pfsd.disk import write_all
from pfsd.entries import Chunk
from pfsd.errors import CorruptError, FullError, UnavailableError
from pfsd.journal import PackJournal
from pfsd.kv import Database
from pfsd.objectstore import ObjectStore, fsync_directory
from pfsd.references import References
from pfsd.sealing import Sealing

log = logging.getLogger(__name__)

MAGIC = b"PFSPACK1"
RECORD = struct.Struct("<32sII")
INDEX = struct.Struct(">16sQI")
CUT = 1 << 31
"""Set in an index row's size when the chunk's end was decided by its content, not by the end of a file."""

PACK_BYTES = 32 << 20
PACK_CHUNKS = 1 << 16
SEALED_BESIDE = 2
"""Full packs that may wait to be sealed while the next one grows."""
SENT_AT_ONCE = 4
SENT_BESIDE = 64
"""The same two where the object store is remote: packs that travel at a time, and that may wait in the spool."""
SETTLE_SECONDS = 120.0
"""For which a collection waits for the object store."""
WRITE_BYTES = 256 << 10
"""Chunks are written to the pack once they are so many bytes together."""
FREE_CHECK_BYTES = 1 << 20
RESERVE_BYTES = 32 << 20
"""Free space below which no chunk is taken, so that the metadata can always be written."""


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


class _Pack:
    """A growing pack in the spool. Its methods are called under the store's lock."""

    def __init__(self, path: pathlib.Path, size: int) -> None:
        self.path = path
        self.name = path.name
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size = size
        """Bytes, those that still wait in `_pending` included."""
        self.fresh: dict[bytes, bytes] = {}
        """The index rows of the chunks that the index does not name yet."""
        self.durable = 0
        """Bytes from the beginning that are synced or in the journal."""
        self.journal = PackJournal(path.name)
        self.lock = threading.Lock()
        """Held while the descriptor must stay open. Taken before the store's lock."""
        self._pending = bytearray()
        self._checked = -FREE_CHECK_BYTES

    @classmethod
    def create(cls, spool: pathlib.Path) -> _Pack:
        pack = cls(spool / uuid.uuid4().hex, 0)
        pack._pending += MAGIC
        pack.size = len(MAGIC)
        pack.write()
        fsync_directory(spool)
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
        self._pending += data
        self.size += RECORD.size + len(data)
        if len(self._pending) >= WRITE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what waits; raises FullError, and keeps it, when there is no room."""
        try:
            write_all(self.fd, self._pending, self.size - len(self._pending))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _full() from error
            raise
        self._pending = bytearray()

    def read(self, at: Location) -> bytes:
        """A chunk's bytes."""
        if at.offset + at.size > self.size - len(self._pending):
            self.write()
        return os.pread(self.fd, at.size, at.offset)


def _full() -> FullError:
    return FullError("the disk that holds the root is full: free some space and try again; nothing was changed")


class ChunkStore:
    """All chunks of a root. Safe to use from many threads."""

    def __init__(self, database: Database, store: ObjectStore, spool: pathlib.Path, references: References) -> None:
        self._db = database
        self._store = store
        self._spool = spool
        self._spool.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._packs: dict[str, _Pack] = {}
        self._active: _Pack | None = None
        self._references = references
        threads, depth = (SENT_AT_ONCE, SENT_BESIDE) if store.is_remote else (1, SEALED_BESIDE)
        self.sealing = Sealing(self._seal, threads=threads, depth=depth)
        """Full packs on their way to the object store."""
        self._recover()

    # --- writing

    def add(self, data: bytes | memoryview, *, is_cut: bool = False) -> Chunk:
        """Store a chunk, which is not empty, unless it is there already. Durable after the next `flush`.

        `is_cut` says that `next_cut` ends the chunk where it ends. Raises FullError when the disk has no room,
        UnavailableError when the object store has taken no pack for long.
        """
        name = blake3(data).digest()
        self.sealing.wait_for_room()
        with self._lock:
            self._references.note(name)
            full = self._append(name, data, is_cut) if self._find(name) is None else None
        if full is not None:
            self.sealing.submit(full)
        return Chunk(name, len(data))

    def _append(self, name: bytes, data: bytes | memoryview, is_cut: bool) -> _Pack | None:
        """Add a chunk to the active pack; returns the pack if it is full now, to be sealed. Called under the lock."""
        if self._active is None:
            self._active = _Pack.create(self._spool)
            self._packs[self._active.name] = self._active
        self._active.append(name, data, is_cut)
        if self._active.size < PACK_BYTES and len(self._active.fresh) < PACK_CHUNKS:
            return None
        full, self._active = self._active, None
        return full

    def spill(self) -> None:
        """Hand what was added to the operating system, so that it outlives this process."""
        with self._lock:
            for pack in self._packs.values():
                pack.write()

    def flush(self) -> None:
        """Enter the new chunks in the index; the next synced write to the database makes rows and bytes durable."""
        with self._lock:
            waiting = [pack for pack in self._packs.values() if pack.fresh]
        for pack in waiting:
            with pack.lock:
                if pack.name in self._packs:  # else sealed, and so indexed, meanwhile
                    self._index(pack)

    def send(self) -> list[Future[None]]:
        """Let all that was added so far go to a remote object store; the futures are done once it is there.

        Where the object store is on this machine there is nothing to wait for.
        """
        if not self._store.is_remote:
            return []
        with self._lock:
            grown, self._active = self._active, None
        if grown is not None:
            self.sealing.submit(grown)
        return self.sealing.pending()

    def settle(self) -> None:
        """Flush, synced, and wait until a remote object store has it all; raises UnavailableError after long."""
        self._wait(self.send())
        self.flush()
        self._db.write(self._db.batch(), sync=True)

    def _wait(self, sent: list[Future[None]]) -> None:
        for future in sent:
            try:
                future.result(SETTLE_SECONDS)
            except (TimeoutError, CancelledError):
                reason = self.sealing.trouble or "the object store is slow"
                raise UnavailableError(f"packs can't be stored: {reason}") from None

    def close(self) -> None:
        """Flush and release the packs."""
        self._store.close()  # first, so that nothing is tried again
        self.sealing.close()
        self.flush()
        with self._lock:
            for pack in self._packs.values():
                os.close(pack.fd)
            self._packs.clear()
            self._active = None

    def _index(self, pack: _Pack, *, sync: bool = False) -> None:
        """Enter a pack's new chunks in the index; with `sync`, the pack is synced whatever their size."""
        with self._lock:
            pack.write()
            fresh = list(pack.fresh.items())
            start, end = pack.durable, pack.size
        batch = self._db.batch()
        if not sync and pack.journal.takes(end - start):
            pack.journal.put(batch, start, os.pread(pack.fd, end - start, start))
        else:
            os.fdatasync(pack.fd)
            pack.journal.drop(batch)
        for name, row in fresh:
            batch.put("chunks", name, row)
        self._db.write(batch)
        with self._lock:
            for name, _ in fresh:
                pack.fresh.pop(name, None)
            pack.durable = end

    def _seal(self, pack: _Pack) -> None:
        """Move a pack, to which nothing is appended any more, to the object store."""
        with pack.lock:
            self._index(pack, sync=True)
        self._store.put_file(pack_object(pack.name), pack.path)  # may take long: readers go on with the spool's
        with pack.lock, self._lock:
            del self._packs[pack.name]
            os.close(pack.fd)
        log.info("sealed pack %s: %d bytes", pack.name, pack.size)

    # --- reading

    def locate(self, name: bytes) -> Location:
        """Where a chunk is; raises CorruptError when it is lost."""
        with self._lock:
            row = self._find(name)
        if row is None:
            raise CorruptError(f"chunk {name.hex()} is missing from the store")
        return location(row)

    def sign(self, packs: list[str]) -> list[str]:
        """Addresses at which everybody can read these packs; empty for those that are not in the object store."""
        with self._lock:
            own = [pack in self._packs for pack in packs]
        pairs = zip(packs, own, strict=True)
        return ["" if is_own else self._store.signed(pack_object(pack)) for pack, is_own in pairs]

    def has(self, name: bytes) -> bool:
        """Whether a chunk is stored; a collection under way then leaves it."""
        with self._lock:
            self._references.note(name)
            return self._find(name) is not None

    def read(self, name: bytes) -> bytes:
        """A chunk's bytes; raises CorruptError when they are lost or do not match the hash."""
        at = self.locate(name)
        try:
            data = self._read(at)
        except CorruptError:
            again = self.locate(name)  # a collection may have moved it
            if again == at:
                raise
            data = self._read(again)
        if blake3(data).digest() != name and self._store.forget(pack_object(at.pack), at.offset, at.size):
            data = self._read(at)
        if blake3(data).digest() != name:
            raise CorruptError(f"chunk {name.hex()} in pack {at.pack} does not match its hash")
        return data

    def _read(self, at: Location) -> bytes:
        with self._lock:  # keeps the descriptor from being closed under the read
            pack = self._packs.get(at.pack)
            if pack is not None:
                return pack.read(at)
        return self._store.read(pack_object(at.pack), at.offset, at.size)

    def _find(self, name: bytes) -> bytes | None:
        """A chunk's index row, or None."""
        for pack in self._packs.values():
            if (found := pack.fresh.get(name)) is not None:
                return found
        return self._db.get("chunks", name)

    # --- collecting

    def remove(self, names: list[bytes]) -> int:
        """Forget chunks that a collection found unreachable, but for those that are held; how many went."""
        with self._lock, self._references.lock:
            unheld = [name for name in names if not self._references.is_held(name)]
            batch = self._db.batch()
            for name in unheld:
                batch.delete("chunks", name)
            self._db.write(batch)
        return len(unheld)

    def seal_if(self, wasteful: Callable[[str, int], bool]) -> list[str]:
        """Seal the growing pack if `wasteful(name, size)` says that it is worth it; returns the names of what was."""
        with self._lock:
            pack = self._active
            if pack is None or not wasteful(pack.name, pack.size):
                return []
            self._active = None
        self._wait([self.sealing.submit(pack)])
        return [pack.name]

    def sealed_packs(self) -> list[str]:
        """The packs in the object store, but for those that are still on their way."""
        found = [name.rpartition("/")[2] for name in self._store.names("packs")]
        with self._lock:
            return [pack for pack in found if pack not in self._packs]

    def pack_size(self, pack: str) -> int:
        """Bytes of a sealed pack."""
        return self._store.size(pack_object(pack))

    def move(self, pack: str, names: list[bytes]) -> None:
        """Copy these chunks, all that a sealed pack has to keep, to the growing one; `settle`, then `drop` the old one.

        Raises CorruptError when one of them is damaged: then the pack has to stay.
        """
        for name in names:
            at = self.locate(name)
            if at.pack != pack:
                continue
            data = self.read(name)
            with self._lock:
                full = self._append(name, data, at.is_cut)
            if full is not None:
                self.sealing.submit(full)

    def drop(self, pack: str) -> None:
        """Remove a sealed pack of which nothing is needed any more."""
        self._store.delete(pack_object(pack))

    # --- repairing

    def relocate(self, name: bytes, at: Location) -> None:
        """Let the index name an intact copy of a chunk, durably; what is added of it meanwhile is as good and stays."""
        pack = self._packs.get(at.pack)
        if pack is not None:
            with pack.lock:
                if pack.name in self._packs:  # else sealed, and so synced, meanwhile
                    self._index(pack, sync=True)
        with self._lock:
            if not self._is_fresh(name):
                batch = self._db.batch()
                batch.put("chunks", name, index_row(at.pack, at.offset, at.size, at.is_cut))
                self._db.write(batch, sync=True)

    def forget(self, name: bytes, is_lost: Callable[[bytes], bool]) -> None:
        """Take a chunk out of the index, durably, so that adding its bytes stores them; if `is_lost(row)` still."""
        with self._lock:
            row = self._db.get("chunks", name)
            if row is not None and is_lost(row) and not self._is_fresh(name):
                batch = self._db.batch()
                batch.delete("chunks", name)
                self._db.write(batch, sync=True)

    def _is_fresh(self, name: bytes) -> bool:
        """Whether a chunk is on its way to the index. Called under the lock."""
        return any(name in pack.fresh for pack in self._packs.values())

    # --- start-up

    def _recover(self) -> None:
        """Take up the packs that a former run left in the spool, cutting what a crash tore."""
        journal.restore(self._db, self._spool)
        for path in sorted(self._spool.iterdir()):
            pack = _Pack(path, 0)
            size = os.fstat(pack.fd).st_size
            for name, offset, data in scan(pack.fd):
                pack.size = offset + len(data)
                pack.fresh[name] = index_row(path.name, offset, len(data), next_cut(data) == len(data))
            is_damaged = size > pack.size and self._indexed_end(path.name) > pack.size
            if is_damaged:  # no crash did that: what the index names was synced, and is read chunk by chunk
                log.error("pack %s is damaged at byte %d: run fsck", path.name, pack.size)
                pack.size = size
            elif pack.size == 0:  # a crash before the first chunk
                os.close(pack.fd)
                path.unlink()
                continue
            elif size > pack.size:
                log.warning("pack %s: cut %d torn bytes", path.name, size - pack.size)
                os.ftruncate(pack.fd, pack.size)
            self._packs[path.name] = pack
            if pack.size < PACK_BYTES and self._active is None and not is_damaged:
                self._active = pack
        for pack in list(self._packs.values()):
            if pack is not self._active:
                self._index(pack)
                self.sealing.submit(pack)

    def _indexed_end(self, pack: str) -> int:
        """Where the last chunk that the index names in a pack ends."""
        found = (location(row) for _, row in self._db.scan("chunks", b""))
        return max((at.offset + at.size for at in found if at.pack == pack), default=0)


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
        data = os.pread(fd, size, at)
        if reserved or len(data) != size or blake3(data).digest() != name:
            return
        yield name, at, data
        at += size
