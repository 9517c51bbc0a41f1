"""Folding: staged writes and the tree below them become a new tree, in one pass over their rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pfsd._core import MIN_CHUNK
from pfsd.chunks import content
from pfsd.chunks.chunkstore import ChunkStore
from pfsd.chunks.content import Piece
from pfsd.errors import CorruptError
from pfsd.model.stagedrows import (
    AREA_BYTES,
    BYTES,
    ENTRY,
    HIDDEN,
    KIND,
    NUMBER_BYTES,
    Kind,
    attributes_in,
    row_key,
    split_key,
)
from pfsd.names.paths import join
from pfsd.trees import entries, tree, writing
from pfsd.trees.attributes import without_change
from pfsd.trees.entries import DirEntry, FileEntry, with_attributes
from pfsd.trees.nodestore import DatabaseNodes, GatheredNodes

_EMPTY_FILE = entries.encode(entries.EMPTY_FILE)


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
    attributes: bytes
    update: writing.Update
    run: list[writing.Mutation]
    """What `update` does not have yet."""


class Folding:
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
        if rows.key == row_key(self._area, ()):
            base = tree.EMPTY if rows.value[0] & HIDDEN else base
            rows.advance()
        self._enter(self._area, base, b"")
        while rows.key:
            while not rows.key.startswith(self._open[-1].prefix):
                self._leave()
            self._fold_row(self._open[-1])
        while len(self._open) > 1:
            self._leave()
        top = self._open.pop()
        top.update.apply(top.run)
        return top.update.finish()[0]

    def _enter(self, prefix: bytes, base: bytes, attributes: bytes) -> None:
        self._open.append(_Open(prefix, base, attributes, writing.Update(self._nodes, base, entries.MEASURE), []))

    def _leave(self) -> None:
        """Finish the innermost directory and enter it in the one above."""
        done = self._open.pop()
        done.update.apply(done.run)
        root, sums = done.update.finish()
        above = self._open[-1]
        name = done.prefix[len(above.prefix) : -1]
        self._add(above, name, entries.encode(DirEntry(root, *sums, done.attributes)))

    def _add(self, directory: _Open, name: bytes, value: bytes | None) -> None:
        directory.run.append((name, value))
        if len(directory.run) >= writing.RUN:
            directory.update.apply(directory.run)
            directory.run.clear()

    def _fold_row(self, directory: _Open) -> None:
        """Take in what the next rows say about one name in a directory."""
        key, value = self._rows.key, self._rows.value
        row, attributes = value[0], attributes_in(value)
        start = len(directory.prefix)
        name = key[start:-2]
        if key[-2:] != b"\0\0" or b"\0" in name or not name:
            end = key.find(b"\0\0", AREA_BYTES)
            raise CorruptError(f"staged writes at {join(split_key(key[: end + 2], AREA_BYTES)[0])} have lost their row")
        self._rows.advance()
        old = None
        if directory.base != tree.EMPTY and not row & HIDDEN:
            old = tree.get(self._nodes, directory.base, name)
        kind = row & KIND
        if kind == Kind.DIRECTORY:
            before = None if old is None else entries.decode(old)
            base = before.root if isinstance(before, DirEntry) else tree.EMPTY
            kept = before.attributes if isinstance(before, DirEntry) else b""
            self._enter(key[:-1], base, kept if attributes is None else attributes)
        elif kind == Kind.FILE:
            self._add(directory, name, self._file(key, old, directory.base, attributes))
        else:
            self._add(directory, name, value[1:] if kind == Kind.OTHER else None)

    def _file(self, key: bytes, old: bytes | None, within: bytes, attributes: bytes | None) -> bytes:
        """The entry of the file whose row has this key and whose pieces' rows come next.

        `old` is what the base tree shows there, `within` the base tree's directory.
        """
        before = None if old is None else entries.decode(old)
        pieces = self._rows.pieces(key)
        first = next(pieces, None)
        if not isinstance(before, FileEntry):
            given = attributes or b""
            if first is None:
                return _EMPTY_FILE + given
            second = next(pieces, None)
            if second is None and first[:1] == BYTES and 1 < len(first) <= MIN_CHUNK:
                return entries.encode_chunk(self._chunks.add(first[1:])) + given  # too short to be cut
            if second is None and first[:1] == ENTRY:
                return entries.encode(self._stored(first, key, within)) + given
            known: tuple[FileEntry, ...] = ()
            parts = itertools.chain((first,) if second is None else (first, second), pieces)
        elif first is None:
            return entries.encode(before if attributes is None else with_attributes(before, attributes))
        else:
            given = without_change(before.attributes) if attributes is None else attributes
            known = (before.content,)
            parts = itertools.chain((first,), pieces)
        joined = (self._piece(value, key, within) for value in parts)
        return entries.encode(content.concatenate(self._nodes, self._chunks, itertools.chain(known, joined))) + given

    def _piece(self, value: bytes, key: bytes, within: bytes) -> Piece:
        """A piece, whose chunks are stored."""
        return value[1:] if value[:1] == BYTES else self._stored(value, key, within)

    def _stored(self, value: bytes, key: bytes, within: bytes) -> FileEntry:
        """A piece that is an entry; raises CorruptError where a chunk of it is gone."""
        entry = entries.decode(value[1:])
        if not isinstance(entry, FileEntry):
            raise CorruptError(f"a staged piece of {join(split_key(key, AREA_BYTES)[0])} is no file")
        for chunk in self._new_chunks(entry, key, within):
            if not self._chunks.has(chunk):
                path = join(split_key(key, AREA_BYTES)[0])
                raise CorruptError(f"a part of {path} was lost in a crash: delete the commit and put it again")
        return entry

    def _new_chunks(self, entry: FileEntry, key: bytes, within: bytes) -> Iterator[bytes]:
        """The hashes of the chunks of a piece, but for those that the base tree has in the same place.

        So a large file of which little was changed costs little.
        """
        before = None
        if entry.chunk_root is not None and within != tree.EMPTY:
            value = tree.get(self._nodes, within, split_key(key, AREA_BYTES)[0][-1].encode())
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
