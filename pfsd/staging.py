"""Staged writes: what was put into a tree under construction and is not folded into its nodes yet.

A staging area is rows in RocksDB below a 16-byte id. A path's rows have the key `id | names joined by 0x00 | 0x00
0x00`, so that they come in the order of the tree, a directory before what it holds:

    key                            one byte: kind (1 file, 2 directory, 0 nothing) | 0x10 when what the base tree has
                                   at the path, and below it, is hidden
    key | sequence number, 8 bytes a piece of the file: 0x01 | bytes, or 0x02 | entry

Every directory above a staged path has a row. The rows are the truth: `fold` turns them and the base tree into a
new tree, and the caller removes them in the batch that makes the new root visible.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pfsd import content, dirs, entries, tree
from pfsd.chunkstore import ChunkStore
from pfsd.content import Piece
from pfsd.entries import DirEntry, Entry, FileEntry
from pfsd.errors import CorruptError, IsADirectoryPfsError, NotADirectoryPfsError
from pfsd.kv import Batch, Database
from pfsd.nodestore import DatabaseNodes
from pfsd.paths import Path, join

KNOWN_DIRECTORIES = 4096

AREA_BYTES = 16
"""Length of an area's id."""

_HIDDEN = 0x10
_BYTES = b"\x01"
_ENTRY = b"\x02"


class Kind(enum.IntEnum):
    """What is at a path."""

    NOTHING = 0
    FILE = 1
    DIRECTORY = 2


@dataclass(frozen=True, slots=True)
class Write:
    """One step of a write: what happens at a path."""

    path: Path
    pieces: Sequence[Piece] = ()
    """Appended to the file at the path."""
    overwrite: bool = False
    """Whether what the file had before is dropped."""
    directory: DirEntry | None = None
    """Instead of pieces: a directory whose content is put at the path."""
    remove: bool = False
    """Instead of pieces: whether the path goes, with all below it."""


class Staging:
    """One staging area over a base tree. Its methods are to be called under `lock`."""

    def __init__(self, database: Database, nodes: DatabaseNodes, chunks: ChunkStore, area: bytes, base: bytes) -> None:
        self._db = database
        self._nodes = nodes
        self._chunks = chunks
        self._area = area
        self._base = entries.dir_entry(nodes, base)
        self._known: set[Path] = set()
        self._sequence = itertools.count(self._last_sequence() + 1)
        self.lock = threading.RLock()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is staged."""
        return next(self._db.scan("staging", self._area), None) is None

    def rebase(self, base: bytes) -> None:
        """Go on over a new base tree, after what was staged was folded into it and removed."""
        self._base = entries.dir_entry(self._nodes, base)
        self._known.clear()

    def apply(self, writes: Iterable[Write]) -> None:
        """Stage writes, all or none. Raises IsADirectoryPfsError, NotADirectoryPfsError where a path is in the way."""
        overlay = _Overlay(self._db, self._area)
        for write in writes:
            if write.remove:
                self._remove(overlay, write.path)
            else:
                self._apply(overlay, write)
        self._db.write(overlay.batch)
        if overlay.wiped or len(self._known) + len(overlay.directories) > KNOWN_DIRECTORIES:
            self._known.clear()
        self._known |= overlay.directories

    def delete(self, path: Path) -> None:
        """Remove a file or a directory with all below it; what is not there is no error."""
        self.apply([Write(path, remove=True)])

    def discard(self, batch: Batch) -> None:
        """Remove all rows, in `batch`."""
        batch.delete_prefix("staging", self._area)

    def fold(self) -> bytes:
        """The root hash of the base tree with all that is staged; its nodes and chunks are stored.

        Changes no rows. Raises CorruptError when a staged chunk was lost in a crash.
        """
        rows = _Rows(self._db.scan("staging", self._area), len(self._area))
        hidden = False
        if rows.path == ():
            hidden = bool(rows.value[0] & _HIDDEN)
            rows.advance()
        root = self._fold(rows, (), tree.EMPTY if hidden else self._base.root)
        if rows.path is not None:
            raise CorruptError(f"staged writes below {join(rows.path)} have lost their directory")
        return root

    # --- staging

    def _remove(self, overlay: _Overlay, path: Path) -> None:
        kind, covers = self._look(overlay, path)
        if kind is Kind.NOTHING:
            return
        overlay.wipe(path)
        if not path:
            overlay.set(path, Kind.DIRECTORY, hidden=True)
        elif covers:
            self._make_parents(overlay, path)
            overlay.set(path, Kind.NOTHING, hidden=True)

    def _apply(self, overlay: _Overlay, write: Write) -> None:
        path = write.path
        self._make_parents(overlay, path)
        kind, covers = self._look(overlay, path)
        if write.directory is not None:
            self._apply_directory(overlay, path, kind, write.directory)
            return
        if kind is Kind.DIRECTORY:
            raise IsADirectoryPfsError(f"{join(path)} is a directory: a file can't take its place")
        hidden = overlay.hidden(path)
        if write.overwrite:
            overlay.batch.delete_prefix("staging", _key(self._area, path))
            hidden = hidden or covers
        overlay.set(path, Kind.FILE, hidden=hidden)
        for piece in write.pieces:
            overlay.add_piece(path, next(self._sequence), piece)

    def _apply_directory(self, overlay: _Overlay, path: Path, kind: Kind, directory: DirEntry) -> None:
        if kind is Kind.FILE:
            raise NotADirectoryPfsError(f"{join(path)} is a file: a directory can't take its place")
        if kind is Kind.NOTHING:
            overlay.set(path, Kind.DIRECTORY, hidden=overlay.hidden(path))
            overlay.directories.add(path)
        for name, entry in dirs.children(self._nodes, directory):
            if isinstance(entry, DirEntry):
                self._apply(overlay, Write((*path, name), directory=entry))
            else:
                self._apply(overlay, Write((*path, name), (entry,)))

    def _make_parents(self, overlay: _Overlay, path: Path) -> None:
        """Give every directory above `path` a row; raises NotADirectoryPfsError when one is a file."""
        for depth in range(len(path) - 1, 0, -1):
            if path[:depth] in overlay.directories or (path[:depth] in self._known and not overlay.wiped):
                break
        else:
            depth = 0
        for end in range(depth + 1, len(path)):
            above = path[:end]
            kind, _ = self._look(overlay, above)
            if kind is Kind.FILE:
                raise NotADirectoryPfsError(f"{join(above)} is a file: {join(path)} can't be below it")
            overlay.set(above, Kind.DIRECTORY, hidden=overlay.hidden(above))
            overlay.directories.add(above)

    def _look(self, overlay: _Overlay, path: Path) -> tuple[Kind, bool]:
        """What is at a path, and whether it covers something of the base tree, shown or hidden."""
        row = overlay.row(())
        base: Entry | None = entries.EMPTY_DIR if row is not None and row & _HIDDEN else self._base
        kind = Kind.DIRECTORY
        covers = True
        for depth in range(1, len(path) + 1):
            base = dirs.child(self._nodes, base, path[depth - 1]) if isinstance(base, DirEntry) else None
            covers = base is not None
            row = overlay.row(path[:depth])
            if row is not None:
                kind = Kind(row & 0x0F)
                base = None if row & _HIDDEN else base
            elif base is None:  # every directory above a staged path has a row
                return Kind.NOTHING, False
            else:
                kind = _kind_of(base)
        return kind, covers

    def _last_sequence(self) -> int:
        """The highest sequence number in the area: what a former run of the daemon staged stays before what comes."""
        last = 0
        for key, _ in self._db.scan("staging", self._area):
            _, sequence = _split(key, len(self._area))
            last = max(last, sequence or 0)
        return last

    # --- folding

    def _fold(self, rows: _Rows, path: Path, base: bytes) -> bytes:
        """The root of the directory at `path`, whose rows come next."""
        return tree.update(self._nodes, base, self._mutations(rows, path, base), entries.measure_entry)

    def _mutations(self, rows: _Rows, path: Path, base: bytes) -> Iterator[tree.Mutation]:
        depth = len(path)
        while (here := rows.path) is not None and len(here) == depth + 1 and here[:depth] == path:
            name = here[depth].encode()
            row = rows.value[0]
            rows.advance()
            old = None if row & _HIDDEN else tree.get(self._nodes, base, name)
            kind = Kind(row & 0x0F)
            if kind is Kind.NOTHING:
                yield name, None
            elif kind is Kind.DIRECTORY:
                before = None if old is None else entries.decode(old)
                root = self._fold(rows, here, before.root if isinstance(before, DirEntry) else tree.EMPTY)
                yield name, entries.encode(entries.dir_entry(self._nodes, root))
            else:
                before_pieces = () if old is None else _file_piece(old)
                pieces = itertools.chain(before_pieces, self._checked(rows.pieces(here), here))
                joined = content.concatenate(self._nodes, self._chunks, pieces)
                yield name, entries.encode(joined)

    def _checked(self, pieces: Iterable[Piece], path: Path) -> Iterator[Piece]:
        for piece in pieces:
            if isinstance(piece, FileEntry):
                for _, chunk in entries.chunks_from(self._nodes.held, piece):
                    if not self._chunks.has(chunk.hash):
                        raise CorruptError(
                            f"a part of {join(path)} was lost in a crash: delete the commit and put it again"
                        )
            yield piece


def _file_piece(value: bytes) -> tuple[Piece, ...]:
    entry = entries.decode(value)
    return (entry,) if isinstance(entry, FileEntry) else ()


def _kind_of(entry: Entry | None) -> Kind:
    if entry is None:
        return Kind.NOTHING
    return Kind.DIRECTORY if entry.is_dir else Kind.FILE


class _Overlay:
    """A batch of rows in the making, readable over the rows that are there."""

    def __init__(self, database: Database, area: bytes) -> None:
        self._db = database
        self._area = area
        self._rows: dict[Path, int] = {}
        self.batch = database.batch()
        self.directories: set[Path] = set()
        self.wiped: set[Path] = set()

    def row(self, path: Path) -> int | None:
        """The first byte of a path's row, or None."""
        if path in self._rows:
            return self._rows[path]
        if self.wiped and any(path[:depth] in self.wiped for depth in range(len(path) + 1)):
            return None
        value = self._db.get("staging", _key(self._area, path))
        return None if value is None else value[0]

    def hidden(self, path: Path) -> bool:
        """Whether a path's row hides the base tree."""
        return bool((self.row(path) or 0) & _HIDDEN)

    def set(self, path: Path, kind: Kind, *, hidden: bool) -> None:
        flags = kind | (_HIDDEN if hidden else 0)
        self._rows[path] = flags
        self.batch.put("staging", _key(self._area, path), bytes((flags,)))

    def wipe(self, path: Path) -> None:
        """Remove the rows of a path and of all below it."""
        self.batch.delete_prefix("staging", _subtree(self._area, path))
        self.wiped.add(path)
        self._rows = {other: row for other, row in self._rows.items() if other[: len(path)] != path}
        self.directories = {other for other in self.directories if other[: len(path)] != path}

    def add_piece(self, path: Path, sequence: int, piece: Piece) -> None:
        value = _ENTRY + entries.encode(piece) if isinstance(piece, FileEntry) else _BYTES + piece
        self.batch.put("staging", _key(self._area, path) + sequence.to_bytes(8, "big"), value)


class _Rows:
    """The rows of an area in order, one at a time."""

    def __init__(self, pairs: Iterator[tuple[bytes, bytes]], skip: int) -> None:
        self._pairs = pairs
        self._skip = skip
        self.path: Path | None = None
        self.sequence: int | None = None
        self.value = b""
        self.advance()

    def advance(self) -> None:
        """Go to the next row; `path` is None after the last."""
        pair = next(self._pairs, None)
        if pair is None:
            self.path = None
        else:
            self.path, self.sequence = _split(pair[0], self._skip)
            self.value = pair[1]

    def pieces(self, path: Path) -> Iterator[Piece]:
        """The pieces of the file at `path`, whose rows come next. To be exhausted before going on."""
        while self.path == path and self.sequence is not None:
            form, data = self.value[:1], self.value[1:]
            self.advance()
            if form == _BYTES:
                yield data
            else:
                entry = entries.decode(data)
                if isinstance(entry, FileEntry):
                    yield entry


def _key(area: bytes, path: Path) -> bytes:
    return area + "\0".join(path).encode() + b"\0\0"


def _subtree(area: bytes, path: Path) -> bytes:
    """What the keys of a path and of all below it begin with."""
    return area + "\0".join(path).encode() + b"\0" if path else area


def _split(key: bytes, skip: int) -> tuple[Path, int | None]:
    end = key.index(b"\0\0", skip)
    path = tuple(key[skip:end].decode().split("\0")) if end > skip else ()
    return path, int.from_bytes(key[end + 2 :], "big") if len(key) > end + 2 else None


def staged_entries(database: Database) -> Iterator[Entry]:
    """The entries that are staged anywhere: content that is stored and waits for being folded in."""
    for key, value in database.scan("staging", b""):
        _, sequence = _split(key, AREA_BYTES)
        if sequence is not None and value[:1] == _ENTRY:
            yield entries.decode(value[1:])
