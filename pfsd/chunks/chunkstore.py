"""Chunks in packs: every chunk is stored once, durably before anything finished refers to it.

New chunks are appended to the growing pack in the spool directory. A full pack is sealed: synced, entered in
the chunk index, moved to the object store. `flush` does the first two for a pack that goes on growing, so the
index only ever names durable bytes: where they are few, they are put into the journal (`pfsd.local.journal`) instead of
synced. Where a sync fails, all that the pack has is written anew, elsewhere. Layouts: ARCHITECTURE.md, "Formats".
"""

from __future__ import annotations

import logging
import os
import pathlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from blake3 import blake3

from pfsd._core import next_cut
from pfsd.chunks.sealing import Sealing
from pfsd.errors import CorruptError, DiskError, PfsError, UnavailableError
from pfsd.local import journal
from pfsd.local.disk import disk_error, make_directory, read_error
from pfsd.local.kv import Database
from pfsd.local.packs import GrowingPack, Location, growing_packs, index_row, location, pack_object, scan, sealed_name
from pfsd.objectstores.objectstore import ObjectStore
from pfsd.runtime.references import References
from pfsd.trees.entries import Chunk

log = logging.getLogger(__name__)

PACK_BYTES = 32 << 20
PACK_CHUNKS = 1 << 16
SEALED_BESIDE = 2
"""Full packs that may wait to be sealed while the next one grows."""
SENT_AT_ONCE = 4
SENT_BESIDE = 64
"""The same two where the object store is remote: packs that travel at a time, and that may wait in the spool."""
SETTLE_SECONDS = 120.0
"""For which a collection waits for the object store."""


class ChunkStore:
    """All chunks of a root. Safe to use from many threads."""

    def __init__(self, database: Database, store: ObjectStore, spool: pathlib.Path, references: References) -> None:
        self._db = database
        self._store = store
        self._spool = spool
        try:
            make_directory(self._spool)
        except OSError as error:
            raise disk_error(error, f"the directory {self._spool} can't be made") from error
        self._failure: PfsError | None = None
        """Why nothing is taken any more."""
        self._lock = threading.Lock()
        self._packs: dict[str, GrowingPack] = {}
        self._active: GrowingPack | None = None
        self._references = references
        threads, depth = (SENT_AT_ONCE, SENT_BESIDE) if store.is_remote else (1, SEALED_BESIDE)
        self.sealing = Sealing(self._seal, threads=threads, depth=depth)
        """Full packs on their way to the object store."""
        self._recover()

    # --- writing

    def add(self, data: bytes | memoryview, *, is_cut: bool = False) -> Chunk:
        """Store a chunk, which is not empty, unless it is there already. Durable after the next `flush`.

        `is_cut` says that `next_cut` ends the chunk where it ends. Raises FullError when the disk has no room,
        UnavailableError when the object store has taken no pack for long, DiskError when the disk failed.
        """
        name = blake3(data).digest()
        self.sealing.wait_for_room()
        with self._lock:
            self._references.note(name)
            full = self._append(name, data, is_cut) if self._find(name) is None else None
        if full is not None:
            self.sealing.submit(full)
        return Chunk(name, len(data))

    def _append(self, name: bytes, data: bytes | memoryview, is_cut: bool) -> GrowingPack | None:
        """Add a chunk to the active pack; returns the pack if it is full now, to be sealed. Called under the lock."""
        self._check()
        if self._active is None:
            self._active = GrowingPack.create(self._spool)
            self._packs[self._active.name] = self._active
        self._active.append(name, data, is_cut)
        if self._active.size < PACK_BYTES and len(self._active.fresh) < PACK_CHUNKS:
            return None
        full, self._active = self._active, None
        return full

    @property
    def failure(self) -> PfsError | None:
        """Why no chunk is taken, where that is so."""
        return self._failure

    def spill(self) -> None:
        """Hand what was added to the operating system, so that it outlives this process."""
        with self._lock:
            self._check()
            for pack in self._packs.values():
                pack.write()

    def flush(self) -> None:
        """Enter the new chunks in the index; the next synced write to the database makes rows and bytes durable.

        Raises DiskError when the disk has failed, and what was added may be lost.
        """
        with self._lock:
            self._check()
            waiting = [pack for pack in self._packs.values() if pack.fresh]
        for pack in waiting:
            with pack.lock:
                if pack.name in self._packs:  # else sealed, and so indexed, meanwhile
                    self._index(pack)

    def _check(self) -> None:
        """Raise why nothing is taken any more. Called under the lock."""
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)

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
        """Flush and release the packs; adding or reading afterwards raises UnavailableError."""
        self._store.close()  # first, so that nothing is tried again
        self.sealing.close()
        try:
            self.flush()
        except PfsError as error:
            log.error("what was put into open commits last may be lost: %s", error)
        with self._lock:
            self._failure = UnavailableError("pfsd is being stopped: try again when it serves again")
            for pack in self._packs.values():
                os.close(pack.fd)
            self._packs.clear()
            self._active = None

    def _index(self, pack: GrowingPack, *, sync: bool = False) -> None:
        """Enter a pack's new chunks in the index; with `sync`, the pack is synced whatever their size.

        The caller holds the pack's lock.
        """
        with self._lock:
            self._check()
            pack.write()
            fresh = list(pack.fresh.items())
            start, end = pack.durable, pack.size
        batch = self._db.batch()
        if not sync and pack.journal.takes(end - start):
            try:
                pack.journal.put(batch, start, os.pread(pack.fd, end - start, start))
            except OSError as error:
                raise read_error(error, f"pack {pack.path} can't be read") from error
        else:
            try:
                os.fdatasync(pack.fd)
            except OSError as error:
                self._rescue(pack, error)
                return
            pack.journal.drop(batch)
        for name, row in fresh:
            batch.put("chunks", name, row)
        self._db.write(batch)
        with self._lock:
            for name, _ in fresh:
                pack.fresh.pop(name, None)
            pack.durable = end

    def _rescue(self, pack: GrowingPack, reason: OSError) -> None:
        """Write all that a pack has to a new one, synced, and let it take the place: a sync of the pack has failed.

        The kernel has dropped what it could not write, or shows it although it is not on disk, and a second sync would
        succeed. Where something that is not in the index yet can't be read, or the new pack can't be synced either,
        nothing is taken any more: raises DiskError then, as everything that adds or flushes will. The caller holds the
        pack's lock.
        """
        log.error("pack %s can't be synced (%s): all that it has is written anew", pack.path, reason.strerror)
        with self._lock:
            try:
                heir = self._copy(pack)
            except (OSError, PfsError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                self._failure = DiskError(
                    f"what was put can't be kept on disk ({pack.path} can't be synced: {reason.strerror}; {why}), "
                    "and nothing is taken any more: check the disk that holds the root, start pfsd again, "
                    "and put again what open commits lack"
                )
                log.error("%s", self._failure)
                raise DiskError(*self._failure.args) from error
            pack.heir = heir
            del self._packs[pack.name]
            self._packs[heir.name] = heir
            if self._active is pack:
                self._active = heir
            pack.remove()

    def _copy(self, pack: GrowingPack) -> GrowingPack:
        """A new pack that has all chunks of another, synced and named by the index. Called under the lock.

        What the index names already and can't be read stays as it is: that was lost before. Raises OSError, and
        PfsError where something else is lost, too.
        """
        rows = {name: row for name, row in self._db.scan("chunks", b"") if location(row).pack == pack.name}
        heir = GrowingPack.create(self._spool)
        try:
            for name, row in sorted((rows | pack.fresh).items(), key=lambda item: location(item[1]).offset):
                at = location(row)
                data = pack.read(at)
                if blake3(data).digest() == name:
                    heir.append(name, data, at.is_cut)
                elif name in pack.fresh:
                    raise CorruptError(f"chunk {name.hex()} is lost")
                else:
                    log.error("chunk %s in pack %s is damaged: run fsck", name.hex(), pack.path)
            heir.write()
            os.fdatasync(heir.fd)
            batch = self._db.batch()
            for name, row in heir.fresh.items():
                batch.put("chunks", name, row)
            pack.journal.drop(batch)
            self._db.write(batch, sync=True)
        except BaseException:
            heir.remove()
            raise
        heir.fresh = {}
        heir.durable = heir.size
        return heir

    def _seal(self, pack: GrowingPack) -> None:
        """Move a pack, to which nothing is appended any more, to the object store."""
        while True:
            with pack.lock:
                if pack.heir is None:
                    self._index(pack, sync=True)
                if pack.heir is None:
                    break
            pack = pack.heir
        try:
            self._store.put_file(pack_object(pack.name), pack.path)  # may take long: readers go on with the spool's
        except OSError as error:
            raise disk_error(error, f"pack {pack.path} can't be stored") from error
        with pack.lock, self._lock:
            if self._packs.pop(pack.name, None) is not None:  # else a sync failed meanwhile, and another took its place
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
            if isinstance(self._failure, UnavailableError):
                self._check()
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
        found = [sealed_name(name) for name in self._store.names("packs")]
        with self._lock:
            return [pack for pack in found if pack is not None and pack not in self._packs]

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
                if pack.heir is not None:  # which has an intact copy too
                    return
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
        for path in growing_packs(self._spool):
            try:
                pack, is_damaged = self._take_up(path)
            except (CorruptError, DiskError) as error:
                log.error("%s: what it holds is missing until it can be", error)
                continue
            if pack is None:
                continue
            self._packs[path.name] = pack
            if pack.size < PACK_BYTES and self._active is None and not is_damaged:
                self._active = pack
        for pack in list(self._packs.values()):
            if pack is not self._active:
                with pack.lock:
                    self._index(pack)
                self.sealing.submit(pack)

    def _take_up(self, path: pathlib.Path) -> tuple[GrowingPack | None, bool]:
        """A pack of the spool, None where it has nothing, and whether it is damaged; raises what reading raises."""
        pack = GrowingPack(path, 0)
        try:
            size = os.fstat(pack.fd).st_size
            for name, offset, data in scan(pack.fd):
                pack.size = offset + len(data)
                pack.fresh[name] = index_row(path.name, offset, len(data), next_cut(data) == len(data))
            self._rewrite(pack)
            is_damaged = size > pack.size and self._indexed_end(path.name) > pack.size
            if is_damaged:  # no crash did that: what the index names was synced, and is read chunk by chunk
                log.error("pack %s is damaged at byte %d: run fsck", path.name, pack.size)
                pack.size = size
            elif pack.size == 0:  # a crash before the first chunk
                pack.remove()
                return None, False
            elif size > pack.size:
                log.warning("pack %s: cut %d torn bytes", path.name, size - pack.size)
                os.ftruncate(pack.fd, pack.size)
        except OSError as error:
            os.close(pack.fd)
            raise read_error(error, f"pack {path} can't be read") from error
        except PfsError:
            os.close(pack.fd)
            raise
        return pack, is_damaged

    def _rewrite(self, pack: GrowingPack) -> None:
        """Write once more what the index does not name yet: a sync of it may have failed in the former run."""
        names = list(pack.fresh)
        known = self._db.get_many("chunks", names)
        unknown = [pack.fresh[name] for name, row in zip(names, known, strict=True) if row != pack.fresh[name]]
        if unknown:
            pack.rewrite(min(location(row).offset for row in unknown))

    def _indexed_end(self, pack: str) -> int:
        """Where the last chunk that the index names in a pack ends."""
        found = (location(row) for _, row in self._db.scan("chunks", b""))
        return max((at.offset + at.size for at in found if at.pack == pack), default=0)
