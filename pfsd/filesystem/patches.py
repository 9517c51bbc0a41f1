"""Changes parts of a stored file: the cost follows the change, not the size of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pfsd.chunks.content import ChunkWriter, Piece
from pfsd.errors import CorruptError, InvalidError, StateError
from pfsd.local.handedfiles import HandedRange
from pfsd.model.root import Root
from pfsd.names.paths import Path, join
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, ChunkList, FileEntry


class FilePatch:
    """The content of `base`, cut or lengthened with zeros to `size` bytes, as parts of it are written anew.

    Only the chunks around those parts are read and cut again, up to where the cuts agree with the former ones; the
    outcome is the entry that the content has however it was written. The parts come in order: `seek` says where the
    next one begins.
    """

    def __init__(self, root: Root, base: FileEntry, size: int) -> None:
        self._base = base
        self._size = size
        self._nodes = root.nodes.gather()
        self._chunks = root.chunks
        self._writer = ChunkWriter(root.chunks)
        self._list = ChunkList(self._nodes, base)
        self._at = 0
        """Where the next byte goes; all before it is in the writer, or the list has it."""
        self._coming: Iterator[tuple[int, Chunk]] = iter(())
        self._old: tuple[int, Chunk] | None = None
        """The chunk of `base` that holds `_at`, where it is known, and those that follow it."""
        self._read: tuple[bytes, bytes] = (b"", b"")
        """The chunk that was read last: its hash and its bytes."""

    def seek(self, offset: int) -> None:
        """The next part begins at `offset`. Raises InvalidError for an offset before the end of the last one."""
        if offset < self._at or offset > self._size:
            raise InvalidError(f"a part of a file of {self._size} bytes begins at {offset}, after one up to {self._at}")
        self._go_on(offset)

    def write(self, data: bytes) -> None:
        """Let these bytes stand next; raises InvalidError beyond the end."""
        self._need_room(len(data))
        self._put(self._writer.write(data))
        self._at += len(data)

    def pour(self, handed: HandedRange) -> None:
        """Let bytes of a file that was handed over stand next; raises InvalidError beyond the end."""
        self._need_room(handed.size)
        self._put(self._writer.pour(handed.fill, handed.size))
        self._at += handed.size

    def zeros(self, count: int) -> None:
        """Let so many zeros stand next; raises InvalidError beyond the end."""
        self._need_room(count)
        self._put(self._writer.zeros(count))
        self._at += count

    def finish(self) -> tuple[Piece, ...]:
        """The whole content; its nodes and chunks are stored."""
        self._go_on(self._size)
        self._put(self._writer.finish())
        entry = self._list.finish()
        self._nodes.flush()
        return (entry,) if entry.size else ()

    def _need_room(self, count: int) -> None:
        if count > self._size - self._at:
            raise InvalidError(f"a part of a file of {self._size} bytes ends at {self._at + count}")

    def _put(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._list.put(chunk)

    def _go_on(self, target: int) -> None:
        """Take over the content of `base` up to `target`, and zeros where it has ended."""
        while self._at < min(target, self._base.size):
            start, chunk = self._old_chunk()
            if self._at == start and self._is_at_cut() and (stop := self._untouched(target)) > start:
                self._list.keep(stop)
                self._at = stop
                self._old = None
                continue
            end = min(start + chunk.size, target)
            self._put(self._writer.write(self._bytes(chunk)[self._at - start : end - start]))
            self._at = end
        if self._at < target:
            self.zeros(target - self._at)

    def _is_at_cut(self) -> bool:
        if not self._writer.at_cut:
            self._put(self._writer.cut())
        return self._writer.at_cut

    def _untouched(self, target: int) -> int:
        """Up to where the chunks of `base` stay when nothing is written before `target`, where a chunk begins here."""
        base = self._base
        if target >= base.size == self._size:
            return base.size
        # The last chunk was ended by the end of the file, so it does not stay in a longer one.
        return next(entries.chunks_from(self._nodes, base, min(target, base.size - 1)))[0]

    def _old_chunk(self) -> tuple[int, Chunk]:
        if self._old is None:
            self._coming = entries.chunks_from(self._nodes, self._base, self._at)
            self._old = next(self._coming)
        while self._old[0] + self._old[1].size <= self._at:
            self._old = next(self._coming)
        return self._old

    def _bytes(self, chunk: Chunk) -> bytes:
        if self._read[0] != chunk.hash:
            self._read = chunk.hash, self._chunks.read(chunk.hash)
        return self._read[1]


def hold(root: Root, base: FileEntry, path: Path) -> None:
    """Make sure that all of an entry that a client sent for `path` is stored, and stays while the operation lasts.

    Raises StateError when something of it is gone, InvalidError when it is no file's entry.
    """
    chunks, end, count = root.chunks, 0, 0
    try:
        for start, chunk in entries.chunks_from(root.nodes.held, base):
            end, count = end + chunk.size, count + 1
            has_end = start + chunk.size == base.size
            if not chunks.has(chunk.hash) or chunks.locate(chunk.hash).size != chunk.size:
                raise StateError(f"chunk {chunk.hash.hex()} of {join(path)} is not in the store: send its bytes")
            if start + chunk.size != end or not (has_end or chunks.locate(chunk.hash).is_cut):
                raise InvalidError(f"the entry given for {join(path)} is not the one that its content has")
    except (CorruptError, IndexError) as error:
        raise StateError(f"what {join(path)} is based on is not in the store any more: send all of it") from error
    if (end, count) != (base.size, base.chunk_count):
        raise InvalidError(f"the entry given for {join(path)} does not have the {base.size} bytes that it tells of")
