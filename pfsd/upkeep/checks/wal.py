"""Reading RocksDB's write-ahead logs, for what its own repair drops.

RocksDB's repair drops the rows that are only in the log where their column family has no table file yet, and its
recovery stops at the first damaged record. Layouts: "Write Ahead Log File Format" and `write_batch.cc` of RocksDB.
"""

from __future__ import annotations

import logging
import pathlib
import re
import struct
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from pfsd.errors import CorruptError
from pfsd.local.kv import FAMILIES, Batch, Database
from pfsd.trees import varint

log = logging.getLogger(__name__)

BLOCK_BYTES = 32 << 10
_HEADER = struct.Struct("<IHB")
_BATCH_HEADER_BYTES = 12
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MASK_DELTA = 0xA282EAD8

_ADD_FAMILY = re.compile(rb"\xc8\x01(.)\xc9\x01.([a-z]+)", re.DOTALL)
"""In a MANIFEST: the tags "column family" and "column family added" with the family's number and name."""

_OPTIONS_FAMILY = re.compile(rb'\[CFOptions "([a-z]+)"\]')


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def _checksum(data: bytes) -> int:
    """The masked CRC-32C that a record's header holds."""
    table, crc = _CRC, 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Log:
    """What could be read of a log."""

    path: pathlib.Path
    batches: list[bytes]
    """Its write batches in order."""
    damage: int | None
    """Where the first damaged record begins that has intact ones behind it; None where the log is whole, or only
    its end is torn, as a crash leaves it."""
    end: int | None
    """Where the end that can't be read begins; None where all can be."""


def logs(directory: pathlib.Path) -> list[Log]:
    """The logs of a database directory, oldest first."""
    return [read_log(path) for path in sorted(directory.glob("*.log"))]


def read_log(path: pathlib.Path) -> Log:
    """Read a log; after a damaged record goes on at the next block."""
    data = path.read_bytes()
    batches: list[bytes] = []
    damage: int | None = None
    first_damage: int | None = None
    intact = 0
    parts: list[bytes] = []
    at = 0
    while at + _HEADER.size <= len(data):
        room = BLOCK_BYTES - at % BLOCK_BYTES
        if room < _HEADER.size:
            at += room
            continue
        crc, size, kind = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + size]
        if not _FULL <= kind <= _LAST or len(payload) != size or _checksum(data[at + 6 : at + 7] + payload) != crc:
            first_damage = at if first_damage is None else first_damage
            parts = []
            at += room
            continue
        if kind in (_FULL, _FIRST):
            parts = []
        if kind in (_FULL, _FIRST) or parts:
            parts.append(payload)
            if kind in (_FULL, _LAST):
                batches.append(b"".join(parts))
                parts = []
                damage = first_damage
                intact = at + _HEADER.size + size
        at += _HEADER.size + size
    return Log(path, batches, damage, intact if data[intact:].strip(b"\0") else None)


def family_names(directory: pathlib.Path) -> dict[int, str]:
    """The numbers of the column families, from the OPTIONS, which list them in their order, and the MANIFESTs."""
    names: dict[int, str] = {}
    for path in sorted(directory.glob("OPTIONS-*")):
        names.update(enumerate(name.decode() for name in _OPTIONS_FAMILY.findall(path.read_bytes())))
    for path in sorted(directory.glob("MANIFEST-*")):
        for number, name in _ADD_FAMILY.findall(path.read_bytes()):
            if name.decode() in FAMILIES:
                names[number[0]] = name.decode()
    return names


def replay(found: Sequence[Log], names: dict[int, str], database: Database, families: Container[str]) -> int:
    """Apply all changes of these logs to some families of a database, synced; returns how many they were.

    To be given every log there is: then a row ends with its newest value, whatever the database had before.
    """
    count = 0
    for source in found:
        for data in source.batches:
            batch = database.batch()
            try:
                for family, change in _changes(data):
                    if names.get(family) in families:
                        change.apply(batch, names[family], database)
                        count += 1
            except (IndexError, ValueError, CorruptError) as error:
                log.warning("%s holds a batch that can't be read: %s", source.path, error)
                continue
            database.write(batch)
    database.write(database.batch(), sync=True)
    return count


@dataclass(frozen=True, slots=True)
class _Change:
    kind: int
    key: bytes
    value: bytes

    def apply(self, batch: Batch, family: str, database: Database) -> None:
        if self.kind in _PUTS:
            batch.put(family, self.key, self.value)
        elif self.kind in _RANGE_DELETIONS:
            batch.raw.delete_range(self.key, self.value, database.handles[family])
        else:
            batch.delete(family, self.key)


_DELETIONS = {0: False, 7: False, 4: True, 8: True}
_PUTS = {1: False, 5: True}
_RANGE_DELETIONS = {15: False, 14: True}
"""Kinds of changes, and whether the number of a column family follows."""
_LOG_DATA, _NOOP = 3, 13


def _changes(data: bytes) -> Iterator[tuple[int, _Change]]:
    """The changes of a write batch with their families' numbers; raises ValueError for a kind that is not used here."""
    at = _BATCH_HEADER_BYTES
    while at < len(data):
        kind = data[at]
        at += 1
        if kind == _NOOP:
            continue
        if kind == _LOG_DATA:
            _, at = _text(data, at)
            continue
        tables = (_DELETIONS, _PUTS, _RANGE_DELETIONS)
        table = next((table for table in tables if kind in table), None)
        if table is None:
            raise ValueError(f"a change of kind {kind}")
        family = 0
        if table[kind]:
            family, at = varint.decode(data, at)
        key, at = _text(data, at)
        value = b""
        if table is not _DELETIONS:
            value, at = _text(data, at)
        yield family, _Change(kind, key, value)


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = varint.decode(data, at)
    return data[at : at + size], at + size
