"""Directory entries and file contents: what the trees' values mean.

A directory is a tree whose keys are names (UTF-8) and whose values are entries:

    file      0x01 | size | 0x00 | count | count * (chunk hash, 32 bytes | chunk size)
    file      0x01 | size | 0x01 | count | root hash, 32 bytes, of its chunk list
    directory 0x02 | root hash, 32 bytes | size | files | directories
    symlink   0x03 | length | target
    special   0x04 | kind, 1 byte | device number

each followed by its attributes, if it has any (`pfsd.trees.attributes`; integers unsigned LEB128). The kind of a
special file is the part of its mode that tells it, shifted by 12 bits: 1 for a named pipe, 2 and 6 for devices, 12 for
a socket.

The *plain* form of an entry has no attributes but whether a file can be executed by anybody (mode 0755); a directory's
has the root that its tree has when all entries below are plain.

A file of at most `INLINE_CHUNKS` chunks has the first form. A longer chunk list is a
tree whose keys are the chunks' end offsets (8 bytes, big-endian) and whose values are `chunk hash | chunk size`.
Both forms follow from the content alone, so equal plain entries mean equal content. Sizes are in bytes; a directory's
`size`, `files` and `directories` count all that is below it, links and special files as files of no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from blake3 import blake3

from pfsd import _core
from pfsd.errors import CorruptError, InvalidError
from pfsd.trees import attributes, tree, varint, writing
from pfsd.trees.attributes import Attributes
from pfsd.trees.tree import HASH_BYTES, Measure, NodeReader, NodeStore, Summary

INLINE_CHUNKS = 8

FILE, DIRECTORY, SYMLINK, SPECIAL = 1, 2, 3, 4
"""What encoded entries begin with."""

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
    attributes: bytes = b""
    """As they are encoded; see `attributes_of`."""

    @property
    def is_dir(self) -> bool:
        return False

    @property
    def content(self) -> FileEntry:
        """The same without attributes."""
        return replace(self, attributes=b"") if self.attributes else self


@dataclass(frozen=True, slots=True)
class DirEntry:
    """A directory's content."""

    root: bytes
    """Root hash of its tree."""
    size: int = 0
    files: int = 0
    directories: int = 0
    links: int = 0
    """How many names below it have a link."""
    plain: bytes = b""
    """Root hash of its tree without attributes; empty where it is the same."""
    attributes: bytes = b""
    """As they are encoded; see `attributes_of`."""

    @property
    def is_dir(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SymlinkEntry:
    """A symbolic link."""

    target: bytes
    attributes: bytes = b""

    @property
    def is_dir(self) -> bool:
        return False

    @property
    def size(self) -> int:
        """Bytes of content, of which it has none of its own."""
        return 0


@dataclass(frozen=True, slots=True)
class SpecialEntry:
    """A named pipe, a socket or a device."""

    kind: int
    """The part of its mode that tells what it is, shifted by `KIND_SHIFT`."""
    device: int = 0
    attributes: bytes = b""

    @property
    def is_dir(self) -> bool:
        return False

    @property
    def size(self) -> int:
        """Bytes of content, of which it has none."""
        return 0


KIND_SHIFT = 12

Entry = FileEntry | DirEntry | SymlinkEntry | SpecialEntry

EMPTY_FILE = FileEntry(0)
EMPTY_DIR = DirEntry(tree.EMPTY)

MOST_TARGET_BYTES = 4095
"""Longest target of a symbolic link, as the kernel has it."""

_SPECIAL_KINDS = (1, 2, 6, 12)


def attributes_of(entry: Entry) -> Attributes:
    """What an entry keeps beside its content."""
    return attributes.decode(entry.attributes)


def default_mode(entry: Entry) -> int:
    """The permission bits of an entry of that kind without a mode."""
    if isinstance(entry, DirEntry):
        return attributes.DIRECTORY_MODE
    return attributes.SYMLINK_MODE if isinstance(entry, SymlinkEntry) else attributes.FILE_MODE


def with_attributes(entry: Entry, encoded: bytes) -> Entry:
    """The entry with other attributes."""
    return replace(entry, attributes=encoded)


def encode(entry: Entry) -> bytes:
    """The bytes of an entry."""
    bare = _encode_bare(entry)
    if isinstance(entry, DirEntry):
        below = b"\x06" + varint.encode(entry.links) if entry.links else b""
        return b"".join((bare, entry.attributes, below, b"\x07" + entry.plain if entry.plain else b""))
    return bare + entry.attributes if entry.attributes else bare


def encode_one_chunk(size: int, digest: bytes) -> bytes:
    """The bytes of a file that is one chunk, without attributes."""
    length = varint.encode(size)
    return b"".join((b"\x01", length, b"\x00\x01", digest, length))


def _encode_bare(entry: Entry) -> bytes:
    if isinstance(entry, FileEntry):
        head = b"\x01" + varint.encode(entry.size)
        if entry.chunk_root is not None:
            return head + b"\x01" + varint.encode(entry.chunk_count) + entry.chunk_root
        parts = [head, b"\x00", varint.encode(len(entry.chunks))]
        for chunk in entry.chunks:
            parts += (chunk.hash, varint.encode(chunk.size))
        return b"".join(parts)
    if isinstance(entry, DirEntry):
        counts = (entry.size, entry.files, entry.directories)
        return b"\x02" + entry.root + b"".join(map(varint.encode, counts))
    if isinstance(entry, SymlinkEntry):
        return b"\x03" + varint.encode(len(entry.target)) + entry.target
    return b"\x04" + bytes((entry.kind,)) + varint.encode(entry.device)


def decode(data: bytes) -> Entry:
    """The entry of these bytes; raises CorruptError when they are not one."""
    try:
        end = _core.entry_end(data)
    except ValueError as error:
        raise CorruptError(str(error)) from None
    if data[0] == FILE:
        return _decode_file(data, data[end:])
    if data[0] == DIRECTORY:
        return _decode_directory(data, end)
    if data[0] == SYMLINK:
        size, at = varint.decode(data, 1)
        return SymlinkEntry(data[at : at + size], data[end:])
    return SpecialEntry(data[1], varint.decode(data, 2)[0], data[end:])


def _decode_file(data: bytes, encoded: bytes) -> FileEntry:
    size, at = varint.decode(data, 1)
    form = data[at]
    count, at = varint.decode(data, at + 1)
    if form == 1:
        return FileEntry(size, (), data[at : at + HASH_BYTES], count, encoded)
    chunks = []
    for _ in range(count):
        name = data[at : at + HASH_BYTES]
        length, at = varint.decode(data, at + HASH_BYTES)
        chunks.append(Chunk(name, length))
    return FileEntry(size, tuple(chunks), None, count, encoded)


def _decode_directory(data: bytes, end: int) -> DirEntry:
    size, at = varint.decode(data, 1 + HASH_BYTES)
    files, at = varint.decode(data, at)
    directories, _ = varint.decode(data, at)
    root = data[1 : 1 + HASH_BYTES]
    if end == len(data):
        return DirEntry(root, size, files, directories)
    links, plain, last = attributes.split_below(data, end)
    return DirEntry(root, size, files, directories, links, plain, data[end:last])


def check(entry: Entry, what: str) -> Entry:
    """An entry as a client sent it for `what`, its attributes in their one form; raises InvalidError.

    What a file's or directory's content is based on is not looked at.
    """
    if isinstance(entry, SymlinkEntry) and (not 0 < len(entry.target) <= MOST_TARGET_BYTES or b"\0" in entry.target):
        raise InvalidError(f"{what} can't be a symbolic link: its target has 1 to {MOST_TARGET_BYTES} bytes, none NUL")
    if isinstance(entry, SpecialEntry) and entry.kind not in _SPECIAL_KINDS:
        raise InvalidError(f"{what} can't be a special file of kind {entry.kind}")
    return with_attributes(entry, attributes.checked(entry.attributes, default_mode(entry), what))


def encode_chunk(chunk: Chunk) -> bytes:
    """The bytes of the entry of a file that is one chunk."""
    size = varint.encode(chunk.size)
    return b"".join((b"\x01", size, b"\x00\x01", chunk.hash, size))


def plain(entry: Entry) -> bytes:
    """The bytes of an entry's plain form, which are equal exactly when the content is, and whether it is executable."""
    return plain_bytes(encode(entry))


def plain_bytes(value: bytes) -> bytes:
    """The plain form of an encoded entry; raises CorruptError."""
    try:
        return _core.plain_entry(value)
    except ValueError as error:
        raise CorruptError(str(error)) from None


def content_hash(entry: Entry) -> bytes:
    """32 bytes that are equal exactly when the content is; of a directory, when the plain forms of all below it are."""
    data = plain(entry) if isinstance(entry, DirEntry) else _encode_bare(entry)
    return blake3(data, derive_key_context=ENTRY_CONTEXT).digest()


def plain_hash(entry: Entry) -> bytes:
    """32 bytes that are equal exactly when the plain forms of entries are: their content, and whether it is executable.

    The same as `content_hash` but for executable files.
    """
    return blake3(plain(entry), derive_key_context=ENTRY_CONTEXT).digest()


def _sums(value: bytes) -> Summary:
    try:
        return Summary(*_core.measure_entry(value))
    except ValueError as error:
        raise CorruptError(str(error)) from None


MEASURE = Measure(_sums, has_attributes=True)
"""Of the trees of directories."""


def dir_entry(nodes: NodeReader, root: bytes) -> DirEntry:
    """The entry of the directory whose tree is `root`."""
    return DirEntry(root, *tree.summarize(tree.load(nodes, root), MEASURE))


# --- chunk lists -----------------------------------------------------------------------------------------


def decode_listed(value: bytes) -> Chunk:
    """The chunk that a value of a chunk list names; raises CorruptError when it is none."""
    try:
        return Chunk(value[:HASH_BYTES], varint.decode(value, HASH_BYTES)[0])
    except IndexError:
        raise CorruptError("a list of chunks can't be decoded") from None


def _measure_chunk(value: bytes) -> Summary:
    return Summary(decode_listed(value).size, 1, 0)


CHUNK_MEASURE = Measure(_measure_chunk)
"""Of chunk lists."""


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

    root = writing.build(nodes, pairs(), CHUNK_MEASURE)
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
        self._update = writing.Update(nodes, base.chunk_root or tree.EMPTY, CHUNK_MEASURE)
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
        root, sums = self._update.finish()
        size, count = sums.size, sums.files
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
