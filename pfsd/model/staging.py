"""Staged writes: what was put into a tree under construction and is not folded into its nodes yet.

A staging area is rows in RocksDB below a 16-byte id. A path's rows have the key `id | names joined by 0x00 | 0x00
0x00`, so that they come in the order of the tree, a directory before what it holds:

    key                            one byte: kind (1 file, 2 directory, 0 nothing) | 0x10 when what the base tree has
                                   at the path, and below it, is hidden
    key | number, 8 bytes          a piece of the file: 0x01 | bytes, or 0x02 | entry

A file's pieces are in the order of their numbers, which ascend, with gaps where others were removed or refused.
Every directory above a staged path has a row. The rows are the truth: `fold` turns them and the base tree into a
new tree, and the caller removes them in the batch that makes the new root visible.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pfsd._core import MIN_CHUNK
from pfsd.chunks import content
from pfsd.chunks.chunkstore import ChunkStore
from pfsd.chunks.content import Piece
from pfsd.errors import CorruptError, IsADirectoryPfsError, NotADirectoryPfsError, NotFoundError
from pfsd.local.kv import Batch, Database
from pfsd.names.paths import Path, join
from pfsd.trees import dirs, entries, tree, writing
from pfsd.trees.entries import DirEntry, Entry, FileEntry
from pfsd.trees.nodestore import DatabaseNodes, GatheredNodes

KNOWN_DIRECTORIES = 4096
KNOWN_FILES = 4096

SINGLE_DELETIONS = 64
"""Rows up to which they are removed one by one: RocksDB reads slowly past many removed ranges."""

ROWS_AT_ONCE = 1000
"""Writes whose rows are looked up together."""

AREA_BYTES = 16
"""Length of an area's id."""

NUMBER_BYTES = 8

_KIND = 0x0F
_HIDDEN = 0x10
_BYTES = b"\x01"
_ENTRY = b"\x02"
_EMPTY_FILE = entries.encode(entries.EMPTY_FILE)


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

    def __init__(
        self,
        database: Database,
        nodes: DatabaseNodes,
        chunks: ChunkStore,
        area: bytes,
        base: bytes,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """`changed` is called whenever something was staged."""
        self._db = database
        self._nodes = nodes
        self._chunks = chunks
        self._area = area
        self._base = entries.dir_entry(nodes, base)
        self._shown: dict[Path, bytes] = {}
        """Directories that have a row, each with the root of what is shown of the base tree there."""
        self._numbers: dict[Path, int] = {}
        """Files that have a row, each with the number of its next piece."""
        self._changed = changed
        self._clean: bool | None = None
        """What `is_clean` tells, where it is known."""
        self._writing = threading.Lock()
        self._gone = False
        self.lock = threading.RLock()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is staged."""
        if self._clean is None:  # a scan is slow after many rows were removed
            self._clean = next(self._db.scan("staging", self._area), None) is None
        return self._clean

    def rebase(self, base: bytes) -> None:
        """Go on over a new base tree, after what was staged was folded into it and removed."""
        self._base = entries.dir_entry(self._nodes, base)
        self._clean = True
        self._forget()

    def apply(self, writes: Iterable[Write]) -> None:
        """Stage writes, all or none. Raises IsADirectoryPfsError, NotADirectoryPfsError where a path is in the way,
        NotFoundError after `close`.
        """
        self._chunks.spill()  # a row may not outlive the chunks that it names
        overlay = _Overlay(self._db, self._area)
        iterator = iter(writes)
        try:
            while some := list(itertools.islice(iterator, ROWS_AT_ONCE)):
                overlay.prefetch([write.path for write in some])
                for write in some:
                    if write.remove:
                        self._remove(overlay, write.path)
                    else:
                        self._apply(overlay, write)
            with self._writing:
                if self._gone:
                    raise NotFoundError("the commit was deleted while it was written to")
                self._db.write(overlay.batch)
            self._clean = None  # only now: who makes the writes may ask while they are taken
            if self._changed is not None:
                self._changed()
            if len(self._numbers) + len(overlay.numbers) > KNOWN_FILES:
                self._numbers.clear()
            self._numbers |= itertools.islice(overlay.numbers.items(), KNOWN_FILES)
        except BaseException:
            self._forget()  # it may tell of rows that were not written
            raise

    def close(self) -> None:
        """From now on nothing is staged here: `apply` raises NotFoundError. Needs no lock, and waits for no fold."""
        with self._writing:
            self._gone = True

    def kind(self, path: Path) -> Kind:
        """What is at a path now."""
        return self._look(_Overlay(self._db, self._area), path)[0]

    def delete(self, path: Path) -> None:
        """Remove a file or a directory with all below it; what is not there is no error."""
        self.apply([Write(path, remove=True)])

    def discard(self, batch: Batch) -> None:
        """Remove all rows, in `batch`."""
        rows = self._db.scan("staging", self._area)
        keys = [key for key, _ in itertools.islice(rows, SINGLE_DELETIONS + 1)]
        if len(keys) > SINGLE_DELETIONS:
            batch.delete_prefix("staging", self._area)
        else:
            for key in keys:
                batch.delete("staging", key)

    def fold(self) -> bytes:
        """The root hash of the base tree with all that is staged; its nodes and chunks are stored.

        Changes no rows. Raises CorruptError when a staged chunk was lost in a crash.
        """
        nodes = self._nodes.gather()
        folding = _Folding(nodes, self._nodes, self._chunks, self._db.scan("staging", self._area), self._area)
        root = folding.run(self._base.root)
        nodes.flush()
        return root

    def _forget(self) -> None:
        self._shown.clear()
        self._numbers.clear()

    # --- staging

    def _remove(self, overlay: _Overlay, path: Path) -> None:
        kind, covers = self._look(overlay, path)
        if kind is Kind.NOTHING:
            return
        row = overlay.row(path)
        if kind is Kind.FILE and row is not None:
            overlay.clear(path, self._next_number(overlay, path))
        elif row is not None or not path:  # without a row, nothing is staged below either
            overlay.wipe(path)
            self._forget()
        if not path:
            overlay.set(path, Kind.DIRECTORY, hidden=True)
        elif covers:
            self._make_parents(overlay, path)
            overlay.set(path, Kind.NOTHING, hidden=True)

    def _apply(self, overlay: _Overlay, write: Write) -> None:
        path = write.path
        self._make_parents(overlay, path)
        if write.directory is not None:
            self._apply_directory(overlay, path, write.directory)
            return
        kind, covers = self._look(overlay, path)
        if kind is Kind.DIRECTORY:
            raise IsADirectoryPfsError(f"{join(path)} is a directory: a file can't take its place")
        row = overlay.row(path)
        hidden = row is not None and bool(row & _HIDDEN)
        if write.overwrite:
            if row is not None:
                overlay.clear(path, self._next_number(overlay, path))
                row = None
            hidden = hidden or covers
        overlay.set(path, Kind.FILE, hidden=hidden)
        if write.pieces:
            overlay.add_pieces(path, 0 if row is None else self._next_number(overlay, path), write.pieces)

    def _next_number(self, overlay: _Overlay, path: Path) -> int:
        """The number of the next piece of a file that may have some."""
        number = overlay.numbers.get(path, self._numbers.get(path))
        if number is not None:
            return number
        last = next(self._db.scan("staging", _key(self._area, path), reverse=True), None)
        sequence = None if last is None else _split(last[0], len(self._area))[1]
        return 0 if sequence is None else sequence + 1

    def _apply_directory(self, overlay: _Overlay, top: Path, directory: DirEntry) -> None:
        for path, entry in dirs.walk(self._nodes, directory, top):
            if isinstance(entry, FileEntry):
                self._apply(overlay, Write(path, (entry,)))
                continue
            kind, _ = self._look(overlay, path)
            if kind is Kind.FILE:
                raise NotADirectoryPfsError(f"{join(path)} is a file: a directory can't take its place")
            if kind is Kind.NOTHING:
                self._make_parents(overlay, path)
                overlay.set(path, Kind.DIRECTORY, hidden=overlay.hidden(path))

    def _make_parents(self, overlay: _Overlay, path: Path) -> None:
        """Give every directory above `path` a row; raises NotADirectoryPfsError when one is a file."""
        depth = len(path) - 1
        while depth > 0 and path[:depth] not in self._shown:
            depth -= 1
        for end in range(depth + 1, len(path)):
            above = path[:end]
            kind, _ = self._look(overlay, above)
            if kind is Kind.FILE:
                raise NotADirectoryPfsError(f"{join(above)} is a file: {join(path)} can't be below it")
            overlay.set(above, Kind.DIRECTORY, hidden=overlay.hidden(above))
            if len(self._shown) >= KNOWN_DIRECTORIES:
                self._shown.clear()
            self._shown[above] = self._shown_at(overlay, above)

    def _look(self, overlay: _Overlay, path: Path) -> tuple[Kind, bool]:
        """What is at a path, and whether it covers something of the base tree, shown or hidden."""
        if not path:
            return Kind.DIRECTORY, True
        above = self._shown_at(overlay, path[:-1])
        base = None if above == tree.EMPTY else tree.get(self._nodes, above, path[-1].encode())
        row = overlay.row(path)
        if row is not None:
            return Kind(row & _KIND), base is not None
        if base is None:  # every directory above a staged path has a row
            return Kind.NOTHING, False
        return (Kind.DIRECTORY if entries.decode(base).is_dir else Kind.FILE), True

    def _shown_at(self, overlay: _Overlay, path: Path) -> bytes:
        """The root of what is shown of the base tree's directory at a path; the empty tree where there is none."""
        depth = len(path)
        while depth and path[:depth] not in self._shown:
            depth -= 1
        if depth:
            root = self._shown[path[:depth]]
        else:
            root = tree.EMPTY if overlay.hidden(()) else self._base.root
        for end in range(depth + 1, len(path) + 1):
            if root == tree.EMPTY:
                break
            value = tree.get(self._nodes, root, path[end - 1].encode())
            entry = None if value is None or overlay.hidden(path[:end]) else entries.decode(value)
            root = entry.root if isinstance(entry, DirEntry) else tree.EMPTY
        return root


class _Overlay:
    """A batch of rows in the making, readable over the rows that are there."""

    def __init__(self, database: Database, area: bytes) -> None:
        self._db = database
        self._area = area
        self._rows: dict[Path, int | None] = {}
        self._wiped: set[Path] = set()
        self.numbers: dict[Path, int] = {}
        """Files that were given pieces, each with the number of the next."""
        self.batch = database.batch()

    def prefetch(self, paths: Sequence[Path]) -> None:
        """Look up the rows of paths together."""
        if self._wiped:
            return
        wanted = [path for path in dict.fromkeys(paths) if path not in self._rows]
        found = self._db.get_many("staging", [_key(self._area, path) for path in wanted])
        for path, value in zip(wanted, found, strict=True):
            self._rows[path] = None if value is None else value[0]

    def row(self, path: Path) -> int | None:
        """The first byte of a path's row, or None."""
        if path in self._rows:
            return self._rows[path]
        if self._wiped and any(path[:depth] in self._wiped for depth in range(len(path) + 1)):
            return None
        value = self._db.get("staging", _key(self._area, path))
        self._rows[path] = row = None if value is None else value[0]
        return row

    def hidden(self, path: Path) -> bool:
        """Whether a path's row hides the base tree."""
        return bool((self.row(path) or 0) & _HIDDEN)

    def set(self, path: Path, kind: Kind, *, hidden: bool) -> None:
        flags = kind | (_HIDDEN if hidden else 0)
        if self.row(path) != flags:
            self._rows[path] = flags
            self.batch.put("staging", _key(self._area, path), bytes((flags,)))

    def wipe(self, path: Path) -> None:
        """Remove the rows of a path and of all below it."""
        self.batch.delete_prefix("staging", _subtree(self._area, path))
        self._wiped.add(path)
        self._rows = {other: row for other, row in self._rows.items() if other[: len(path)] != path}

    def clear(self, path: Path, number: int) -> None:
        """Remove the row of a file and its pieces, whose numbers are below `number`."""
        key = _key(self._area, path)
        if number <= SINGLE_DELETIONS:
            self.batch.delete("staging", key)
            for each in range(number):
                self.batch.delete("staging", key + each.to_bytes(NUMBER_BYTES, "big"))
        else:
            self.batch.delete_prefix("staging", key)
        self._rows[path] = None

    def add_pieces(self, path: Path, number: int, pieces: Iterable[Piece]) -> None:
        """Add rows for pieces of a file, numbered from `number` on."""
        key = _key(self._area, path)
        for piece in pieces:
            value = _ENTRY + entries.encode(piece) if isinstance(piece, FileEntry) else _BYTES + piece
            self.batch.put("staging", key + number.to_bytes(NUMBER_BYTES, "big"), value)
            number += 1
        self.numbers[path] = number


class _Rows:
    """The rows of an area in order, one at a time."""

    def __init__(self, pairs: Iterator[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self.key = b""
        """Of the present row; empty after the last."""
        self.value = b""
        self.advance()

    def advance(self) -> None:
        """Go to the next row."""
        self.key, self.value = next(self._pairs, (b"", b""))

    def pieces(self, key: bytes) -> Iterator[bytes]:
        """The values of the pieces of the file with this key, whose rows come next. To be exhausted before going on."""
        size = len(key) + NUMBER_BYTES
        while len(self.key) == size and self.key.startswith(key):
            value = self.value
            self.advance()
            yield value


@dataclass(slots=True)
class _Open:
    """A directory whose rows are being folded."""

    prefix: bytes
    """What the keys of all below it begin with."""
    base: bytes
    """The root of what is shown of the base tree."""
    update: writing.Update
    run: list[writing.Mutation]
    """What `update` does not have yet."""


class _Folding:
    """One pass over the rows of an area."""

    def __init__(
        self,
        nodes: GatheredNodes,
        stored: DatabaseNodes,
        chunks: ChunkStore,
        pairs: Iterator[tuple[bytes, bytes]],
        area: bytes,
    ) -> None:
        self._nodes = nodes
        self._held = stored.held
        self._chunks = chunks
        self._rows = _Rows(pairs)
        self._area = area
        self._open: list[_Open] = []  # not recursion: paths may be deeper than Python's stack

    def run(self, base: bytes) -> bytes:
        """The root of the tree that `base` becomes."""
        rows = self._rows
        if rows.key == _key(self._area, ()):
            base = tree.EMPTY if rows.value[0] & _HIDDEN else base
            rows.advance()
        self._enter(self._area, base)
        while rows.key:
            while not rows.key.startswith(self._open[-1].prefix):
                self._leave()
            self._fold_row(self._open[-1])
        while len(self._open) > 1:
            self._leave()
        top = self._open.pop()
        top.update.apply(top.run)
        return top.update.finish()[0]

    def _enter(self, prefix: bytes, base: bytes) -> None:
        self._open.append(_Open(prefix, base, writing.Update(self._nodes, base, entries.measure_entry), []))

    def _leave(self) -> None:
        """Finish the innermost directory and enter it in the one above."""
        done = self._open.pop()
        done.update.apply(done.run)
        root, sums = done.update.finish()
        above = self._open[-1]
        name = done.prefix[len(above.prefix) : -1]
        self._add(above, name, entries.encode(DirEntry(root, *sums)))

    def _add(self, directory: _Open, name: bytes, value: bytes | None) -> None:
        directory.run.append((name, value))
        if len(directory.run) >= writing.RUN:
            directory.update.apply(directory.run)
            directory.run.clear()

    def _fold_row(self, directory: _Open) -> None:
        """Take in what the next rows say about one name in a directory."""
        key, row = self._rows.key, self._rows.value[0]
        start = len(directory.prefix)
        name = key[start:-2]
        if key[-2:] != b"\0\0" or b"\0" in name or not name:
            end = key.find(b"\0\0", AREA_BYTES)
            raise CorruptError(f"staged writes at {join(_split(key[: end + 2], AREA_BYTES)[0])} have lost their row")
        self._rows.advance()
        old = None
        if directory.base != tree.EMPTY and not row & _HIDDEN:
            old = tree.get(self._nodes, directory.base, name)
        kind = row & _KIND
        if kind == Kind.DIRECTORY:
            before = None if old is None else entries.decode(old)
            self._enter(key[:-1], before.root if isinstance(before, DirEntry) else tree.EMPTY)
            return
        value = self._file(key, old, directory.base) if kind == Kind.FILE else None
        self._add(directory, name, value)

    def _file(self, key: bytes, old: bytes | None, within: bytes) -> bytes:
        """The entry of the file whose row has this key and whose pieces' rows come next.

        `old` is what the base tree shows there, `within` the base tree's directory.
        """
        before = None if old is None else entries.decode(old)
        pieces = self._rows.pieces(key)
        if not isinstance(before, FileEntry):
            first = next(pieces, None)
            if first is None:
                return _EMPTY_FILE
            second = next(pieces, None)
            if second is None and first[:1] == _BYTES and 1 < len(first) <= MIN_CHUNK:
                return entries.encode_chunk(self._chunks.add(first[1:]))  # too short to be cut
            pieces = itertools.chain((first,) if second is None else (first, second), pieces)
        joined = (self._piece(value, key, within) for value in pieces)
        known = (before,) if isinstance(before, FileEntry) else ()
        return entries.encode(content.concatenate(self._nodes, self._chunks, itertools.chain(known, joined)))

    def _piece(self, value: bytes, key: bytes, within: bytes) -> Piece:
        """A piece, whose chunks are stored."""
        if value[:1] == _BYTES:
            return value[1:]
        entry = entries.decode(value[1:])
        if not isinstance(entry, FileEntry):
            raise CorruptError(f"a staged piece of {join(_split(key, AREA_BYTES)[0])} is no file")
        for chunk in self._new_chunks(entry, key, within):
            if not self._chunks.has(chunk):
                path = join(_split(key, AREA_BYTES)[0])
                raise CorruptError(f"a part of {path} was lost in a crash: delete the commit and put it again")
        return entry

    def _new_chunks(self, entry: FileEntry, key: bytes, within: bytes) -> Iterator[bytes]:
        """The hashes of the chunks of a piece, but for those that the base tree has in the same place.

        So a large file of which little was changed costs little.
        """
        before = None
        if entry.chunk_root is not None and within != tree.EMPTY:
            value = tree.get(self._nodes, within, _split(key, AREA_BYTES)[0][-1].encode())
            before = None if value is None else entries.decode(value)
        if entry.chunk_root is not None and isinstance(before, FileEntry) and before.chunk_root is not None:
            for _, _, new in tree.diff(self._held, before.chunk_root, entry.chunk_root, removals=False):
                if new is not None:
                    yield new[: tree.HASH_BYTES]
            return
        last = b""
        for _, chunk in entries.chunks_from(self._held, entry):
            if chunk.hash != last:  # a hole has the same one many times
                last = chunk.hash
                yield last


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
