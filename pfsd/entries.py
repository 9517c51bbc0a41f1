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

from pfsd import _core, tree, varint
from pfsd.errors import CorruptError
from pfsd.tree import HASH_BYTES, NodeReader, NodeStore, Summary

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

    root = tree.build(nodes, pairs(), _measure_chunk)
    return FileEntry(size, (), root, count)


def replace_tail(nodes: NodeStore, entry: FileEntry, kept: int, chunks: Iterable[Chunk]) -> FileEntry:
    """The entry of the file that begins with `entry`'s bytes up to `kept`, where a chunk ends, followed by `chunks`.

    A long chunk list is changed from there on, and its beginning is not read; `entry` keeps more chunks than are
    listed in an entry itself.
    """
    assert entry.chunk_root is not None
    size, count = kept, entry.chunk_count
    old = tree.items(nodes, entry.chunk_root, (kept + 1).to_bytes(8, "big"))
    old_key = next(old, (None,))[0]

    def mutations() -> Iterator[tree.Mutation]:
        nonlocal size, count, old_key
        for chunk in chunks:
            size += chunk.size
            key = size.to_bytes(8, "big")
            while old_key is not None and old_key <= key:
                if old_key < key:
                    yield old_key, None
                count -= 1
                old_key = next(old, (None,))[0]
            yield key, chunk.hash + varint.encode(chunk.size)
            count += 1
        while old_key is not None:
            yield old_key, None
            count -= 1
            old_key = next(old, (None,))[0]

    root = tree.update(nodes, entry.chunk_root, mutations(), _measure_chunk)
    assert count > INLINE_CHUNKS
    return FileEntry(size, (), root, count)


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
