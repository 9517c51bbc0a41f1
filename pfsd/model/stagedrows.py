"""The rows of staged writes, and batches of them in the making.

A staging area is rows in RocksDB below a 16-byte id. A path's rows have the key `id | names joined by 0x00 | 0x00
0x00`, so that they come in the order of the tree, a directory before what it holds:

    key                            one byte: kind (1 file, 2 directory, 3 another entry, 0 nothing) | 0x10 when what
                                   the base tree has at the path, and below it, is hidden | 0x20 when attributes follow;
                                   then the attributes, which replace those of the base tree, or the other entry
    key | number, 8 bytes          a piece of the file: 0x01 | bytes, or 0x02 | entry

A file's pieces are in the order of their numbers, which ascend, with gaps where others were removed or refused.
Every directory above a staged path has a row.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence

from pfsd.chunks.content import Piece
from pfsd.errors import CorruptError
from pfsd.local.kv import Database
from pfsd.names.paths import Path
from pfsd.trees import attributes, entries
from pfsd.trees.entries import DirEntry, Entry, FileEntry

SINGLE_DELETIONS = 64
"""Rows up to which they are removed one by one: RocksDB reads slowly past many removed ranges."""

AREA_BYTES = 16
"""Length of an area's id."""

NUMBER_BYTES = 8
"""Length of a piece's number."""

KIND = 0x0F
"""The part of a path's row that says what is there."""
HIDDEN = 0x10
"""The part of it that hides the base tree."""
ATTRIBUTES = 0x20
"""The part of it that says that attributes follow."""
BYTES = b"\x01"
"""What the row of a piece begins with that is bytes."""
ENTRY = b"\x02"
"""What the row of a piece begins with that is an entry."""


class Kind(enum.IntEnum):
    """What is at a path."""

    NOTHING = 0
    FILE = 1
    DIRECTORY = 2
    OTHER = 3
    """A symbolic link or a special file."""


class Overlay:
    """A batch of rows in the making, readable over the rows that are there."""

    def __init__(self, database: Database, area: bytes) -> None:
        self._db = database
        self._area = area
        self._rows: dict[Path, bytes | None] = {}
        self._named: dict[Path, set[str]] = {}
        """The names in directories that were given rows here."""
        self._wiped: set[Path] = set()
        self.shown: dict[Path, bytes] = {}
        """Directories that have rows with these, each with the root of what is shown of the base tree there."""
        self.numbers: dict[Path, int] = {}
        """Files that were given pieces, each with the number of the next."""
        self.batch = database.batch()

    def prefetch(self, paths: Sequence[Path]) -> None:
        """Look up the rows of paths together."""
        if self._wiped:
            return
        wanted = [path for path in dict.fromkeys(paths) if path not in self._rows]
        found = self._db.get_many("staging", [row_key(self._area, path) for path in wanted])
        for path, value in zip(wanted, found, strict=True):
            self._rows[path] = value

    def row(self, path: Path) -> int | None:
        """The first byte of a path's row, or None."""
        value = self._row(path)
        return None if value is None else value[0]

    def _row(self, path: Path) -> bytes | None:
        if path in self._rows:
            return self._rows[path]
        if self._wiped and any(path[:depth] in self._wiped for depth in range(len(path) + 1)):
            return None
        self._rows[path] = value = self._db.get("staging", row_key(self._area, path))
        return value

    def attributes(self, path: Path) -> bytes | None:
        """The attributes in a path's row, or None where it has none."""
        return attributes_in(self._row(path) or b"\0")

    def entry(self, path: Path) -> bytes | None:
        """The entry in a path's row, where that is a link's or a special file's."""
        value = self._row(path)
        return value[1:] if value is not None and value[0] & KIND == Kind.OTHER else None

    def has_below(self, path: Path) -> bool:
        """Whether something is right below a path that was given a row here."""
        rows = (self.row((*path, name)) for name in self._named.get(path, ()))
        return any(row is not None and row & KIND != Kind.NOTHING for row in rows)

    def hidden(self, path: Path) -> bool:
        """Whether a path's row hides the base tree."""
        return bool((self.row(path) or 0) & HIDDEN)

    def set(self, path: Path, kind: Kind, *, hidden: bool, attributes: bytes | None = None, entry: bytes = b"") -> None:
        """Give a path a row; `entry` for the kind `OTHER`, attributes for a file or a directory that gets new ones."""
        flags = kind | (HIDDEN if hidden else 0) | (0 if attributes is None else ATTRIBUTES)
        value = bytes((flags,)) + (entry if attributes is None else attributes)
        if self._row(path) != value:
            self._rows[path] = value
            if path:
                self._named.setdefault(path[:-1], set()).add(path[-1])
            self.batch.put("staging", row_key(self._area, path), value)

    def wipe(self, path: Path) -> None:
        """Remove the rows of a path and of all below it."""
        self.batch.delete_prefix("staging", subtree(self._area, path))
        self._wiped.add(path)
        self.shown.clear()
        self._rows = {other: row for other, row in self._rows.items() if other[: len(path)] != path}

    def clear(self, path: Path, number: int) -> None:
        """Remove the row of a file and its pieces, whose numbers are below `number`."""
        key = row_key(self._area, path)
        if number <= SINGLE_DELETIONS:
            self.batch.delete("staging", key)
            for each in range(number):
                self.batch.delete("staging", key + each.to_bytes(NUMBER_BYTES, "big"))
        else:
            self.batch.delete_prefix("staging", key)
        self._rows[path] = None

    def add_pieces(self, path: Path, number: int, pieces: Iterable[Piece]) -> None:
        """Add rows for pieces of a file, numbered from `number` on."""
        key = row_key(self._area, path)
        for piece in pieces:
            value = ENTRY + entries.encode(piece) if isinstance(piece, FileEntry) else BYTES + piece
            self.batch.put("staging", key + number.to_bytes(NUMBER_BYTES, "big"), value)
            number += 1
        self.numbers[path] = number


def attributes_in(value: bytes) -> bytes | None:
    """The attributes in the row of a file or a directory, or None where it has none."""
    return value[1:] if value[0] & ATTRIBUTES else None


def is_sound(value: bytes) -> bool:
    """Whether a path's row can be read."""
    try:
        kind = Kind(value[0] & KIND)
        if kind is Kind.OTHER:
            return not isinstance(entries.decode(value[1:]), FileEntry | DirEntry)
        attributes.decode(attributes_in(value) or b"")
    except (IndexError, ValueError, CorruptError):
        return False
    return True


def row_key(area: bytes, path: Path) -> bytes:
    """The key of a path's row, with which those of its pieces begin."""
    return area + "\0".join(path).encode() + b"\0\0"


def subtree(area: bytes, path: Path) -> bytes:
    """What the keys of a path and of all below it begin with."""
    return area + "\0".join(path).encode() + b"\0" if path else area


def split_key(key: bytes, skip: int) -> tuple[Path, int | None]:
    """The path of a row whose area's id has `skip` bytes, and its number where it is a piece's."""
    end = key.index(b"\0\0", skip)
    path = tuple(key[skip:end].decode().split("\0")) if end > skip else ()
    return path, int.from_bytes(key[end + 2 :], "big") if len(key) > end + 2 else None


def staged_entries(database: Database) -> Iterator[Entry]:
    """The entries that are staged anywhere: content that is stored and waits for being folded in."""
    for key, value in database.scan("staging", b""):
        _, sequence = split_key(key, AREA_BYTES)
        if sequence is not None and value[:1] == ENTRY:
            yield entries.decode(value[1:])
