"""Directory entries and file contents: what the trees' values mean.

A directory is a tree whose keys are names (UTF-8) and whose values are entries:

    file      0x01 | size | 0x00 | count | count * (chunk hash, 32 bytes | chunk size)
    file      0x01 | size | 0x01 | count | root hash, 32 bytes, of its chunk list
    directory 0x02 | root hash, 32 bytes | size | files | directories

(integers unsigned LEB128). A file of at most `INLINE_CHUNKS` chunks has the first form. A longer chunk list is a
tree whose keys are the chunks' end offsets (8 bytes, big-endian) and whose values are `chunk hash | chunk size`.
Both forms follow from the content alone, so equal entries mean equal content. Sizes are in bytes; a directory's
`size`, `files` and `directories` count all that is below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import tree, varint, writing
from pfsd.trees.tree import HASH_BYTES, NodeReader, NodeStore, Summary

INLINE_CHUNKS = 8

ENTRY_CONTEXT = "pfsd 2026-11 entry v1"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of bytes, stored once under its hash."""

    hash: bytes
    """BLAKE3 of the bytes, 32 bytes."""
    size: int
    """Length in bytes; above 0."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file's content."""

    size: int
    chunks: tuple[Chunk, ...] = ()
    """All chunks, when there are at most `INLINE_CHUNKS`."""
    chunk_root: bytes | None = None
    """Else the root hash of the chunk list."""
    chunk_count: int = 0

    @property
    def is_dir(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class DirEntry:
    """A directory's content."""

    root: bytes
    """Root hash of its tree."""
    size: int = 0
    files: int = 0
    directories: int = 0

    @property
    def is_dir(self) -> bool:
        return True


Entry = FileEntry | DirEntry

EMPTY_FILE = FileEntry(0)
EMPTY_DIR = DirEntry(tree.EMPTY)


def encode(entry: Entry) -> bytes:
    """The bytes of an entry."""
    if isinstance(entry, DirEntry):
        counts = (entry.size, entry.files, entry.directories)
        return b"\x02" + entry.root + b"".join(map(varint.encode, counts))
    head = b"\x01" + varint.encode(entry.size)
    if entry.chunk_root is not None:
        return head + b"\x01" + varint.encode(entry.chunk_count) + entry.chunk_root
    parts = [head, b"\x00", varint.encode(len(entry.chunks))]
    for chunk in entry.chunks:
        parts += (chunk.hash, varint.encode(chunk.size))
    return b"".join(parts)


def decode(data: bytes) -> Entry:
    """The entry of these bytes; raises CorruptError when they are not one."""
    try:
        if data[0] == 2:
            size, at = varint.decode(data, 1 + HASH_BYTES)
            files, at = varint.decode(data, at)
            directories, at = varint.decode(data, at)
            if at == len(data):
                return DirEntry(data[1 : 1 + HASH_BYTES], size, files, directories)
        elif data[0] == 1:
            size, at = varint.decode(data, 1)
            form = data[at]
            count, at = varint.decode(data, at + 1)
            if form == 1 and at + HASH_BYTES == len(data):
                return FileEntry(size, (), data[at:], count)
            if form == 0:
                chunks = []
                for _ in range(count):
                    name = data[at : at + HASH_BYTES]
                    length, at = varint.decode(data, at + HASH_BYTES)
                    chunks.append(Chunk(name, length))
                if at == len(data):
                    return FileEntry(size, tuple(chunks), None, count)
    except IndexError:
        pass
    raise CorruptError("a directory entry can't be decoded")


def encode_chunk(chunk: Chunk) -> bytes:
    """The bytes of the entry of a file that is one chunk."""
    size = varint.encode(chunk.size)
    return b"".join((b"\x01", size, b"\x00\x01", chunk.hash, size))


def content_hash(entry: Entry) -> bytes:
    """32 bytes that are equal exactly when the content (of a directory: all below it) is."""
    return blake3(encode(entry), derive_key_context=ENTRY_CONTEXT).digest()


def measure_entry(value: bytes) -> Summary:
    """Bytes, files and directories that an entry adds to its directory."""
    try:
        return _core.measure_entry(value)
    except ValueError as error:
        raise CorruptError(str(error)) from None


def dir_entry(nodes: NodeReader, root: bytes) -> DirEntry:
    """The entry of the directory whose tree is `root`."""
    return DirEntry(root, *tree.summarize(tree.load(nodes, root), measure_entry))


# --- chunk lists -----------------------------------------------------------------------------------------


def decode_listed(value: bytes) -> Chunk:
    """The chunk that a value of a chunk list names; raises CorruptError when it is none."""
    try:
        return Chunk(value[:HASH_BYTES], varint.decode(value, HASH_BYTES)[0])
    except IndexError:
        raise CorruptError("a list of chunks can't be decoded") from None


def _measure_chunk(value: bytes) -> Summary:
    return decode_listed(value).size, 1, 0


def file_entry(nodes: NodeStore, chunks: Iterable[Chunk]) -> FileEntry:
    """The entry of the file with these chunks, in order; stores the chunk list when it is long."""
    iterator = iter(chunks)
    first = []
    for chunk in iterator:
        first.append(chunk)
        if len(first) > INLINE_CHUNKS:
            break
    else:
        return FileEntry(sum(chunk.size for chunk in first), tuple(first), None, len(first))
    size = count = 0

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        nonlocal size, count
        for source in (first, iterator):
            for chunk in source:
                size += chunk.size
                count += 1
                yield size.to_bytes(8, "big"), chunk.hash + varint.encode(chunk.size)

    root = writing.build(nodes, pairs(), _measure_chunk)
    return FileEntry(size, (), root, count)


class ChunkList:
    """The chunk list that a file's becomes when runs of its chunks are replaced, from the beginning to the end.

    A long list is changed where it differs; what stays is not read.
    """

    def __init__(self, nodes: NodeStore, base: FileEntry) -> None:
        self._nodes = nodes
        self._base = base
        self._end = 0
        """Where what was kept or put ends."""
        self._update = writing.Update(nodes, base.chunk_root or tree.EMPTY, _measure_chunk)
        self._run: list[writing.Mutation] = []
        self._is_short = base.chunk_root is None
        """Whether all of the list is in `_run`."""
        self._old: Iterator[bytes] | None = None
        self._old_key: bytes | None = None
        """The next end of a chunk of `base`, and those after it, while chunks are replaced."""

    def keep(self, end: int) -> None:
        """The chunks of `base` from here to `end`, where one ends, stay."""
        if self._base.chunk_root is None:
            for start, chunk in chunks_from(self._nodes, self._base, self._end):
                if start >= end:
                    break
                self._add((start + chunk.size).to_bytes(8, "big"), chunk)
        self._end = end
        self._old = None

    def put(self, chunk: Chunk) -> None:
        """The next chunk is this one; those of `base` that begin before its end do not stay."""
        self._drop(self._end + chunk.size)
        self._end += chunk.size
        self._add(self._end.to_bytes(8, "big"), chunk)

    def finish(self) -> FileEntry:
        """The entry of the file that ends here; to be called once."""
        self._drop(None)
        if self._is_short and len(self._run) <= INLINE_CHUNKS:
            return self._short((key, value) for key, value in self._run if value is not None)
        self._apply()
        root, (size, count, _) = self._update.finish()
        if count <= INLINE_CHUNKS:
            return self._short(tree.items(self._nodes, root))
        return FileEntry(size, (), root, count)

    def _short(self, pairs: Iterable[tree.Pair]) -> FileEntry:
        chunks = tuple(decode_listed(value) for _, value in pairs)
        return FileEntry(self._end, chunks, None, len(chunks))

    def _drop(self, end: int | None) -> None:
        """Take away what `base` has from here to before `end`, or to its own end."""
        if self._base.chunk_root is None:
            return
        if self._old is None:
            ends = tree.items(self._nodes, self._base.chunk_root, (self._end + 1).to_bytes(8, "big"))
            self._old = (key for key, _ in ends)
            self._old_key = next(self._old, None)
        limit = None if end is None else end.to_bytes(8, "big")
        while self._old_key is not None and (limit is None or self._old_key <= limit):
            if self._old_key != limit:
                self._add(self._old_key, None)
            self._old_key = next(self._old, None)

    def _add(self, key: bytes, chunk: Chunk | None) -> None:
        self._run.append((key, None if chunk is None else chunk.hash + varint.encode(chunk.size)))
        if len(self._run) >= writing.RUN:
            self._apply()

    def _apply(self) -> None:
        self._is_short = False
        self._update.apply(self._run)
        self._run = []


def replace_tail(nodes: NodeStore, entry: FileEntry, kept: int, chunks: Iterable[Chunk]) -> FileEntry:
    """The entry of the file that begins with `entry`'s bytes up to `kept`, where a chunk ends, followed by `chunks`."""
    made = ChunkList(nodes, entry)
    made.keep(kept)
    for chunk in chunks:
        made.put(chunk)
    return made.finish()


def chunks_from(nodes: NodeReader, entry: FileEntry, offset: int = 0) -> Iterator[tuple[int, Chunk]]:
    """The chunks that hold the file's bytes from `offset` on, each with the offset where it begins."""
    if entry.chunk_root is None:
        start = 0
        for chunk in entry.chunks:
            if start + chunk.size > offset:
                yield start, chunk
            start += chunk.size
        return
    for key, value in tree.items(nodes, entry.chunk_root, (offset + 1).to_bytes(8, "big")):
        chunk = decode_listed(value)
        yield int.from_bytes(key, "big") - chunk.size, chunk
