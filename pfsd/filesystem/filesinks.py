"""The content of one file, stored as it comes: bytes, zeros, and chunks that are stored already."""

from __future__ import annotations

from collections.abc import Iterable

from pfsd.chunks.content import ChunkWriter, Piece
from pfsd.errors import InvalidError, StateError
from pfsd.local.handedfiles import HandedRange
from pfsd.model.root import Root
from pfsd.names import sizes
from pfsd.names.paths import Path, join
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, ChunkList

INLINE_BYTES = 4096
"""Pieces up to this size wait in the staging rows until they are folded; larger ones go to packs at once."""

_ZEROS_AT_ONCE = 1 << 36


class FileSink:
    """Stores the content of one file as it comes: bytes, and chunks that are stored already."""

    def __init__(self, root: Root, path: Path = ()) -> None:
        self._root = root
        self._path = path
        self._size = 0
        self._head = bytearray()
        self._writer: ChunkWriter | None = None
        self._nodes = root.nodes.gather()
        self._list = ChunkList(self._nodes, entries.EMPTY_FILE)
        self._ended = False

    @property
    def is_small(self) -> bool:
        """Whether all that was taken in waits in memory, to become a row."""
        return self._writer is None

    def write(self, data: bytes) -> None:
        """Take in the next bytes."""
        if self._ended and data:
            raise InvalidError("nothing can follow a chunk that the end of a file ended")
        self._size += len(data)
        if self._writer is None and len(self._head) + len(data) <= INLINE_BYTES:
            self._head += data
            return
        self._keep(self._to_writer().write(data))

    def pour(self, handed: HandedRange) -> None:
        """Take in bytes of a file that was handed over. Raises StateError where it has not so many any more."""
        if self._ended and handed.size:
            raise InvalidError("nothing can follow a chunk that the end of a file ended")
        self._size += handed.size
        self._keep(self._to_writer().pour(handed.fill, handed.size))

    def zeros(self, count: int) -> None:
        """Take in so many zero bytes; raises InvalidError where the file would be larger than one with holes may be."""
        if self._ended and count:
            raise InvalidError("nothing can follow a chunk that the end of a file ended")
        if count:
            sizes.check_file_size(self._size + count, join(self._path))
            self._size += count
            for at in range(0, count, _ZEROS_AT_ONCE):
                self._keep(self._to_writer().zeros(min(count - at, _ZEROS_AT_ONCE)))

    def refer(self, chunk: Chunk) -> None:
        """Take in a stored chunk.

        Raises StateError when it is not there, InvalidError when no chunk of that size may stand here.
        """
        store = self._root.chunks
        writer = self._to_writer()
        self._keep(writer.cut())  # first of all: it may be a chunk of the bytes before
        if not store.has(chunk.hash):
            raise StateError(f"chunk {chunk.hash.hex()} of {join(self._path)} is not in the store: send its bytes")
        at = store.locate(chunk.hash)
        if at.size != chunk.size:
            raise InvalidError(f"chunk {chunk.hash.hex()} of {join(self._path)} has {at.size} bytes, not {chunk.size}")
        if self._ended or not writer.at_cut:
            raise InvalidError(
                f"chunk {chunk.hash.hex()} of {join(self._path)} begins where no chunk of that file does"
            )
        self._size += chunk.size
        self._keep([chunk])
        self._ended = not at.is_cut

    def finish(self) -> tuple[Piece, ...]:
        """What was taken in, as pieces."""
        if self._writer is None:
            return (bytes(self._head),) if self._head else ()
        self._keep(self._writer.finish())
        entry = self._list.finish()
        self._nodes.flush()
        return (entry,) if entry.size else ()

    def _to_writer(self) -> ChunkWriter:
        if self._writer is None:
            self._writer = ChunkWriter(self._root.chunks)
            self._keep(self._writer.write(bytes(self._head)))
        return self._writer

    def _keep(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._list.put(chunk)
