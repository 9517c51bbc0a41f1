"""The metadata store: one RocksDB with a column family per kind of record, all keys and values bytes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

from rocksdict import (
    BlockBasedOptions,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from pfsd.errors import CorruptError, FullError

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
    """An open database. Safe to use from many threads."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open or create; raises CorruptError when RocksDB can't."""
        options = _options()
        try:
            self._db = Rdict(str(path), options, {name: _options(name) for name in FAMILIES})
            self._families = {name: self._db.get_column_family(name) for name in FAMILIES}
        except Exception as error:
            raise CorruptError(f"the metadata in {path} can't be opened: {error}") from error
        self.handles = {name: self._db.get_column_family_handle(name) for name in FAMILIES}
        self._synced = WriteOptions()
        self._synced.sync = True

    def batch(self) -> Batch:
        return Batch(self)

    def write(self, batch: Batch, *, sync: bool = False) -> None:
        """Apply a batch as one step; with `sync` it, and all that was written before, is on disk on return.

        Raises FullError when the disk has no room.
        """
        try:
            self._db.write(batch.raw, self._synced if sync else None)
        except Exception as error:
            if "No space left" in str(error):
                raise FullError("the disk that holds the root is full: nothing was changed") from error
            raise CorruptError(f"the metadata can't be written: {error}") from error

    def get(self, family: str, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise _unreadable(error) from error
        return value

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order."""
        try:
            values: list[bytes | None] = self._families[family].get(list(keys)) if keys else []  # type: ignore[assignment]
        except Exception as error:
            raise _unreadable(error) from error
        return values

    def scan(
        self, family: str, prefix: bytes, start: bytes = b"", *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys begin with `prefix`, in key order from the first not below `start`.

        In reverse: in descending order, from the last below `start` (where given). What is written meanwhile
        is not seen.
        """
        bounds = ReadOptions()
        if prefix:
            bounds.set_iterate_upper_bound(successor(prefix))
        iterator = self._families[family].iter(bounds)
        if not reverse:
            iterator.seek(max(prefix, start))
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.next()
            _check(iterator)
            return
        if start:
            iterator.seek_for_prev(start)
            if iterator.valid() and iterator.key() == start:
                iterator.prev()
        else:
            iterator.seek_to_last()
        while iterator.valid() and iterator.key().startswith(prefix):  # rocksdict heeds no lower bound
            yield iterator.key(), iterator.value()
            iterator.prev()
        _check(iterator)

    def estimate(self, family: str) -> int:
        """About how many keys a family has."""
        return self._families[family].property_int_value("rocksdb.estimate-num-keys") or 0

    def compact(self) -> None:
        """Rewrite every family without what was deleted."""
        for family in self._families.values():
            family.compact_range(None, None)

    def close(self) -> None:
        """Flush and close; the object can't be used afterwards."""
        self.handles.clear()  # each keeps the database, and so its lock file, open
        for family in self._families.values():
            family.close()
        self._db.close()


def _check(iterator: RdictIter) -> None:
    """Raise CorruptError when an iterator has ended at damaged data: it says so only when asked."""
    try:
        iterator.status()
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> CorruptError:
    return CorruptError(f"the metadata can't be read: {' '.join(str(error).split())}")


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
