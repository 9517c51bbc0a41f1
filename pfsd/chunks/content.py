"""File contents: cutting bytes into chunks, joining pieces, reading ranges."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from pfsd._core import MAX_CHUNK, next_cut
from pfsd.chunks.chunkstore import ChunkStore
from pfsd.chunks.zeros import ZERO_CHUNK
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, FileEntry
from pfsd.trees.tree import NodeReader, NodeStore

Piece = bytes | FileEntry
"""Bytes to be stored, or content that is stored already."""


class ChunkWriter:
    """Cuts a stream of bytes into chunks and stores them; holds at most four of the largest chunks."""

    def __init__(self, chunks: ChunkStore) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._block = bytearray()
        """Where `pour` reads to."""

    @property
    def at_cut(self) -> bool:
        """Whether the last byte written ended a chunk."""
        return not self._buffer

    def write(self, data: bytes) -> Iterator[Chunk]:
        """Take bytes in; yields the chunks that they complete. To be exhausted."""
        self._buffer += data
        if len(self._buffer) >= 2 * MAX_CHUNK:
            yield from self.cut()

    def zeros(self, count: int) -> Iterator[Chunk]:
        """Take in so many zeros; yields chunks as `write` does, without work for each that holds nothing else."""
        while count:
            yield from self.cut()
            if self._buffer.count(0) == len(self._buffer):
                whole, rest = divmod(len(self._buffer) + count, ZERO_CHUNK)
                self._buffer[:] = bytes(rest)
                if whole:
                    yield from itertools.repeat(self._chunks.add(bytes(ZERO_CHUNK), is_cut=True), whole)
                return
            step = min(count, MAX_CHUNK)
            self._buffer += bytes(step)
            count -= step

    def pour(self, fill: Callable[[memoryview, int], None], count: int) -> Iterator[Chunk]:
        """Take in `count` bytes, which are read to where they are cut: `fill` writes those after the first so many.

        Yields chunks as `write` does.
        """
        yield from self.cut()
        if not self._block:
            self._block = bytearray(2 * MAX_CHUNK)
        have, done = len(self._buffer), 0
        with memoryview(self._block) as block:
            block[:have] = self._buffer
            while done < count:
                step = min(count - done, len(block) - have)
                with block[have : have + step] as free:
                    fill(free, done)
                have, done, start = have + step, done + step, 0
                with block[:have] as view:
                    while end := next_cut(view, start):
                        with view[start:end] as data:
                            chunk = self._chunks.add(data, is_cut=True)
                        yield chunk
                        start = end
                block[: have - start] = block[start:have]
                have -= start
            self._buffer[:] = block[:have]

    def cut(self) -> Iterator[Chunk]:
        """Yield the chunks whose end is decided by what is buffered."""
        start = 0
        view = memoryview(self._buffer)
        try:
            while end := next_cut(view, start):
                with view[start:end] as data:
                    chunk = self._chunks.add(data, is_cut=True)
                yield chunk
                start = end
        finally:
            view.release()
            del self._buffer[:start]

    def finish(self) -> Iterator[Chunk]:
        """Yield the chunks of all that is buffered."""
        yield from self.cut()
        if self._buffer:
            yield self._chunks.add(bytes(self._buffer))
            self._buffer.clear()


def concatenate(nodes: NodeStore, chunks: ChunkStore, pieces: Iterable[Piece]) -> FileEntry:
    """The entry of the pieces' content, one after the other.

    Reads back only what must be cut anew: from the last chunk of a piece to the first place in the next one where
    the cuts agree again. The first piece's chunk list is shared but for its end.
    """
    first, rest = _head(pieces)
    if rest is None and isinstance(first, FileEntry):
        return first
    if isinstance(first, FileEntry) and first.chunk_count > entries.INLINE_CHUNKS and rest is not None:
        start, last = next(entries.chunks_from(nodes, first, first.size - 1))
        end = FileEntry(last.size, (last,), None, 1)
        return entries.replace_tail(nodes, first, start, _joined(nodes, chunks, itertools.chain((end,), rest)))
    return entries.file_entry(nodes, _joined(nodes, chunks, itertools.chain((first,), rest or ())))


def _head(pieces: Iterable[Piece]) -> tuple[Piece, Iterable[Piece] | None]:
    """The first piece that holds anything, and the others, None where there are none."""
    iterator = (piece for piece in pieces if (piece.size if isinstance(piece, FileEntry) else piece))
    first = next(iterator, entries.EMPTY_FILE)
    second = next(iterator, None)
    if second is None:
        return first, None

    def rest() -> Iterator[Piece]:
        yield second
        yield from iterator

    return first, rest()


def _joined(nodes: NodeReader, chunks: ChunkStore, pieces: Iterable[Piece]) -> Iterator[Chunk]:
    writer = ChunkWriter(chunks)
    for piece in pieces:
        if isinstance(piece, FileEntry):
            yield from _append(nodes, chunks, writer, piece)
        else:
            yield from writer.write(piece)
    yield from writer.finish()


def _append(nodes: NodeReader, chunks: ChunkStore, writer: ChunkWriter, piece: FileEntry) -> Iterator[Chunk]:
    for start, chunk in entries.chunks_from(nodes, piece):
        if not writer.at_cut:
            yield from writer.cut()
        if writer.at_cut and start + chunk.size < piece.size:
            yield chunk  # cut by its own content, so the same in any file in which it begins at a cut
        else:
            yield from writer.write(chunks.read(chunk.hash))


def read(
    nodes: NodeReader, chunks: ChunkStore, entry: FileEntry, offset: int = 0, size: int | None = None
) -> Iterator[bytes]:
    """The file's bytes from `offset`, `size` of them or as many as there are, a chunk or a part of one at a time."""
    end = entry.size if size is None else min(entry.size, offset + size)
    if offset >= end:
        return
    for start, chunk in entries.chunks_from(nodes, entry, offset):
        if start >= end:
            return
        data = chunks.read(chunk.hash)
        yield data[max(0, offset - start) : end - start]
