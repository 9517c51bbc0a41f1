"""The metadata store: one RocksDB with a column family per kind of record, all keys and values bytes."""

from __future__ import annotations

import logging
import os
import pathlib
import weakref
from collections.abc import Iterator, Sequence

from rocksdict import (
    BlockBasedOptions,
    ColumnFamily,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from pfsd.errors import CorruptError, DiskError, FullError, PfsError, UnavailableError
from pfsd.runtime.gate import Gate

log = logging.getLogger(__name__)

FAMILIES = (
    "meta",
    "repos",
    "commits",
    "history",
    "branches",
    "downstream",
    "nodes",
    "chunks",
    "journal",
    "staging",
    "tags",
    "objects",
    "records",
)


CLOSE_SECONDS = 3.0
"""For which closing waits for what is under way."""
SCANNED_ROWS = 64
SCANNED_BYTES = 256 << 10
"""Rows that a scan reads at once, at most."""
SPARE_BYTES = 8 << 20
"""Free space, beside that of the write-ahead log, without which a full database is not opened anew."""


class _Handles(dict[str, ColumnFamily]):
    """The handles of an open database by family."""

    def __missing__(self, family: str) -> ColumnFamily:
        raise _stopped()


class Batch:
    """Changes that become visible together."""

    def __init__(self, database: Database) -> None:
        self._handles = database.handles
        self.raw = WriteBatch(raw_mode=True)

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.raw.put(key, value, self._handles[family])

    def delete(self, family: str, key: bytes) -> None:
        self.raw.delete(key, self._handles[family])

    def delete_prefix(self, family: str, prefix: bytes) -> None:
        """Remove every key that begins with `prefix`, which is not empty."""
        self.raw.delete_range(prefix, successor(prefix), self._handles[family])


class Database:
    """An open database. Safe to use from many threads, also while another closes it.

    After `close`, every use raises UnavailableError. After a write that failed, RocksDB takes no more. Where the disk
    was full, the database is opened anew, by the first write that finds room again. Where something else was wrong,
    such as a sync, every write raises DiskError: what was written before, and was not synced, may be lost, and only a
    start reads what there is. Reading goes on in both cases.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Open or create; raises CorruptError when RocksDB can't."""
        self._path = path
        self._gate = Gate(_stopped)
        self._failure: PfsError | None = None
        self._cursors: weakref.WeakSet[_Cursor] = weakref.WeakSet()
        self._families: dict[str, Rdict] = {}
        self.handles = _Handles()
        self._synced = WriteOptions()
        self._synced.sync = True
        self._open()

    def _open(self) -> None:
        try:
            self._db = Rdict(str(self._path), _options(), {name: _options(name) for name in FAMILIES})
            self._families.update((name, self._db.get_column_family(name)) for name in FAMILIES)
        except Exception as error:
            raise CorruptError(f"the metadata in {self._path} can't be opened: {error}") from error
        self.handles.update((name, self._db.get_column_family_handle(name)) for name in FAMILIES)

    def batch(self) -> Batch:
        return Batch(self)

    def write(self, batch: Batch, *, sync: bool = False) -> None:
        """Apply a batch as one step; with `sync` it, and all that was written before, is on disk on return.

        Raises FullError when the disk has no room, DiskError when it failed.
        """
        if self._failure is not None:
            self._recover()
        with self._gate:
            try:
                self._db.write(batch.raw, self._synced if sync else None)
            except Exception as error:
                self._failure = self._failure or _unwritable(error)
                raise _again(self._failure) from error

    @property
    def failure(self) -> PfsError | None:
        """Why no write is taken, where that is so."""
        return self._failure

    def estimated_count(self, family: str) -> int:
        """About how many rows a family has."""
        with self._gate:
            return self._family(family).property_int_value("rocksdb.estimate-num-keys") or 0

    def _recover(self) -> None:
        """Open the database anew where a full disk was all that was wrong, and has room now; else raise that again."""
        with self._gate.alone():
            failure = self._failure
            if failure is None:
                return
            if not isinstance(failure, FullError) or not self._has_room():
                raise _again(failure)
            self._release()
            try:
                self._open()
            except CorruptError as error:
                self._failure = DiskError(f"{error}; start pfsd again")
                raise _again(self._failure) from error
            self._failure = None
            log.warning("the metadata was opened anew: the disk has room again")

    def _has_room(self) -> bool:
        disk = os.statvfs(self._path)
        logged = sum(path.stat().st_size for path in self._path.glob("*.log"))
        return disk.f_bavail * disk.f_frsize >= logged + SPARE_BYTES

    def _family(self, name: str) -> Rdict:
        """To be called within the gate."""
        found = self._families.get(name)
        if found is None:
            raise _again(self._failure or _stopped())
        return found

    def get(self, family: str, key: bytes) -> bytes | None:
        with self._gate:
            try:
                value: bytes | None = self._family(family).get(key)
            except PfsError:
                raise
            except Exception as error:
                raise _unreadable(error) from error
        return value

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order."""
        with self._gate:
            try:
                values: list[bytes | None] = self._family(family).get(list(keys)) if keys else []  # type: ignore[assignment]
            except PfsError:
                raise
            except Exception as error:
                raise _unreadable(error) from error
        return values

    def scan(
        self, family: str, prefix: bytes, start: bytes = b"", *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys begin with `prefix`, in key order from the first not below `start`.

        In reverse: in descending order, from the last below `start` (where given). What is written meanwhile
        is not seen, unless the database was opened anew.
        """
        cursor = _Cursor(family, prefix, start, reverse)
        size = 1
        while True:
            with self._gate:
                self._cursors.add(cursor)
                try:
                    rows = cursor.take(self._family(family), size)
                except PfsError:
                    raise
                except Exception as error:
                    raise _unreadable(error) from error
            yield from rows
            if cursor.is_done:
                return
            size = min(2 * size, SCANNED_ROWS)

    def estimate(self, family: str) -> int:
        """About how many keys a family has."""
        with self._gate:
            return self._family(family).property_int_value("rocksdb.estimate-num-keys") or 0

    def compact(self) -> None:
        """Rewrite every family without what was deleted."""
        for family in FAMILIES:
            with self._gate:
                self._family(family).compact_range(None, None)

    def close(self) -> None:
        """Flush and close; every use raises UnavailableError afterwards.

        What is under way is waited for, for CLOSE_SECONDS. Beyond that the database stays as it is: opening it again,
        in another process, recovers it as after a crash. Closing twice is no error.
        """
        if self._gate.is_closed:
            return
        if self._gate.close(CLOSE_SECONDS, lambda: self._db.cancel_all_background(False)):
            self._release()
        else:
            log.warning("the metadata is still in use, and is recovered by the next start")

    def _release(self) -> None:
        """Close what RocksDB has open. Nobody uses it, or will before `_open`."""
        for cursor in list(self._cursors):
            cursor.drop()  # each keeps the database, and so its lock file, open, as the handles do
        self.handles.clear()
        closing = [*self._families.values(), self._db]
        self._families.clear()
        wrong = ""
        for each in closing:
            try:
                each.close()
            except Exception as error:  # noqa: BLE001 (RocksDB has no class for it; it is closed all the same)
                wrong = str(error)
        if wrong:
            log.warning("the metadata was closed without being written out, and is recovered when opened: %s", wrong)


class _Cursor:
    """A scan's place. To be used within the gate of its database."""

    def __init__(self, family: str, prefix: bytes, start: bytes, reverse: bool) -> None:
        self._prefix = prefix
        self._start = start
        self._reverse = reverse
        self._iterator: RdictIter | None = None
        self._bounds = ReadOptions()
        """Of the iterator, which does not keep them alive itself."""
        self.is_done = False

    def take(self, family: Rdict, count: int) -> list[tuple[bytes, bytes]]:
        """The next rows, at most `count` of them and about SCANNED_BYTES; raises what RocksDB raises."""
        iterator = self._iterator
        if iterator is None:
            iterator = self._iterator = self._seek(family)
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        while len(rows) < count and size < SCANNED_BYTES:
            if not iterator.valid() or (self._reverse and not iterator.key().startswith(self._prefix)):
                iterator.status()  # it may have ended at damaged data: it says so only when asked
                self.is_done = True
                self.drop()
                break
            key, value = iterator.key(), iterator.value()
            rows.append((key, value))
            size += len(value)
            if self._reverse:  # rocksdict heeds no lower bound
                iterator.prev()
            else:
                iterator.next()
        if rows:
            self._start = rows[-1][0] if self._reverse else rows[-1][0] + b"\0"
        return rows

    def drop(self) -> None:
        """Let the database go; where more is taken, it is looked up anew."""
        self._iterator = None

    def _seek(self, family: Rdict) -> RdictIter:
        self._bounds = ReadOptions()
        if self._prefix:
            self._bounds.set_iterate_upper_bound(successor(self._prefix))
        iterator = family.iter(self._bounds)
        if not self._reverse:
            iterator.seek(max(self._prefix, self._start))
        elif self._start:
            iterator.seek_for_prev(self._start)
            if iterator.valid() and iterator.key() == self._start:
                iterator.prev()
        else:
            iterator.seek_to_last()
        return iterator


def _stopped() -> PfsError:
    return UnavailableError("pfsd is being stopped: try again when it serves again")


def _unwritable(error: Exception) -> PfsError:
    """Why RocksDB takes nothing any more."""
    if "No space left" in str(error):
        return FullError("the disk that holds the root is full: free some space and try again; nothing was changed")
    return DiskError(
        f"the metadata can't be written ({' '.join(str(error).split())}), and nothing is taken any more: "
        "check the disk that holds the root, then start pfsd again"
    )


def _again(failure: PfsError) -> PfsError:
    """The same error for one more caller."""
    return type(failure)(*failure.args)


def _unreadable(error: Exception) -> PfsError:
    text = f"the metadata can't be read: {' '.join(str(error).split())}"
    return FullError(f"{text}: give pfsd more (ulimit -n)") if "Too many open files" in text else CorruptError(text)


def successor(prefix: bytes) -> bytes:
    """The smallest key above all that begin with `prefix`, which holds a byte below 0xff."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,))


HASHED = ("chunks", "nodes", "staging", "commits")
"""Families in which keys are looked up that are mostly not there, or not lately used: with Bloom filters."""


def _options(family: str = "") -> Options:
    options = Options(raw_mode=True)
    if family in HASHED:
        table = BlockBasedOptions()
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_max_total_wal_size(256 << 20)
    options.set_write_buffer_size(16 << 20)
    options.set_keep_log_file_num(3)
    options.set_max_open_files(512)
    return options
