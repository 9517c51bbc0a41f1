"""Objects, blobs under their own hash, and tags, which are names for them.

An object of one chunk has the chunk's hash, so the chunks of files are objects too. A longer one, and the empty
one, has its content hash and a row in the `objects` column family: its entry. A deleted object of one chunk has an
empty row there until it is put again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pfsd.chunks import content
from pfsd.errors import InvalidError, NotFoundError
from pfsd.filesystem.filesinks import FileSink
from pfsd.local.packs import Location
from pfsd.model import treeobjects
from pfsd.model.root import Root
from pfsd.runtime.references import as_operation
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, FileEntry
from pfsd.trees.tree import HASH_BYTES

_DELETED = b""


def parse_hash(text: str) -> bytes:
    """The hash that an object's name is; raises NotFoundError for what can't be one."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != HASH_BYTES:
        raise NotFoundError(f"object {text} not found: the name of an object is {2 * HASH_BYTES} hex digits")
    return value


class Objects:
    """The objects of a root."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._db = root.db

    def put(self, blocks: Iterable[bytes], tags: Sequence[str] = ()) -> bytes:
        """Store a blob, durably, and tag it; returns its hash."""
        sink = FileSink(self._root)
        for block in blocks:
            sink.write(block)
        return self.keep(sink, tags)

    @as_operation
    def keep(self, sink: FileSink, tags: Sequence[str]) -> bytes:
        """Make an object of what was written to a sink."""
        entry = content.concatenate(self._root.nodes, self._root.chunks, sink.finish())
        self._root.references.note(entries.content_hash(entry))
        chunk = _only_chunk(entry)
        name = chunk.hash if chunk else entries.content_hash(entry)
        self._root.chunks.flush()
        batch = self._db.batch()
        if chunk:
            batch.delete("objects", name)
        else:
            batch.put("objects", name, entries.encode(entry))
        for tag in tags:
            batch.put("tags", _tag_key(tag), name)
        self._db.write(batch, sync=True)
        return name

    def find(self, name: bytes) -> FileEntry | None:
        """An object's content, or None."""
        row = self._db.get("objects", name)
        if row == _DELETED:
            return None
        if row is not None:
            entry = entries.decode(row)
            return entry if isinstance(entry, FileEntry) else None
        if not self._root.chunks.has(name):
            return None
        size = self._root.chunks.locate(name).size
        return FileEntry(size, (Chunk(name, size),), None, 1)

    def get(self, name: bytes) -> FileEntry:
        """An object's content; raises NotFoundError."""
        entry = self.find(name)
        if entry is None:
            raise NotFoundError(f"object {name.hex()} not found")
        return entry

    def hold(self, name: bytes) -> None:
        """Keep an object, and the tree that it may name, for the operation under way; raises NotFoundError."""
        self._root.references.note(name)
        for _, chunk in entries.chunks_from(self._root.nodes.held, self.get(name)):
            if not self._root.chunks.has(chunk.hash):
                raise NotFoundError(f"object {name.hex()} not found")
        try:
            top = treeobjects.read(self._root.chunks, name)
        except InvalidError:
            return
        treeobjects.hold(self._root, top)

    def read(self, names: Sequence[bytes], offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """The bytes of several objects as one stream, from `offset`, `size` of them, or all where it is 0."""
        found = [self.get(name) for name in names]
        left = size or None
        for entry in found:
            if offset >= entry.size:
                offset -= entry.size
                continue
            for block in content.read(self._root.nodes, self._root.chunks, entry, offset, left):
                left = None if left is None else left - len(block)
                yield block
            offset = 0
            if left == 0:
                return

    def location(self, name: bytes) -> Location | None:
        """Where an object of one chunk lies; None for others. Raises NotFoundError."""
        chunk = _only_chunk(self.get(name))
        return self._root.chunks.locate(chunk.hash) if chunk else None

    def list(self) -> Iterator[bytes]:
        """The hashes of all objects."""
        self._root.chunks.flush()
        for name, row in self._db.scan("objects", b""):
            if row != _DELETED:
                yield name
        for name, _ in self._db.scan("chunks", b""):
            if self._db.get("objects", name) is None:
                yield name

    def delete(self, names: Iterable[bytes]) -> None:
        """Forget objects; files that have the same chunk keep it. One that is not there is no error."""
        batch = self._db.batch()
        for name in names:
            if self._root.chunks.has(name):
                batch.put("objects", name, _DELETED)
            else:
                batch.delete("objects", name)
        self._db.write(batch, sync=True)


class Tags:
    """The tags of a root."""

    def __init__(self, root: Root, objects: Objects) -> None:
        self._root = root
        self._db = root.db
        self._objects = objects

    def set(self, name: bytes, tags: Iterable[str]) -> None:
        """Let tags name an object; those that named another move. Raises NotFoundError for the object."""
        with self._root.references.operation():
            self._objects.hold(name)
            batch = self._db.batch()
            for tag in tags:
                batch.put("tags", _tag_key(tag), name)
            self._db.write(batch, sync=True)

    def get(self, tag: str) -> bytes:
        """The hash of the object that a tag names; raises NotFoundError."""
        value = self._db.get("tags", tag.encode())
        if value is None:
            raise NotFoundError(f"tag {tag} not found")
        return value

    def find(self, tags: Sequence[str]) -> dict[str, bytes]:
        """The hashes of the objects that tags name; raises NotFoundError for one that is not there."""
        found = dict(zip(tags, self._db.get_many("tags", [tag.encode() for tag in tags]), strict=True))
        missing = [tag for tag, value in found.items() if value is None]
        if missing:
            raise NotFoundError(f"tag {missing[0]} not found")
        return {tag: value for tag, value in found.items() if value is not None}

    def list(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """The tags that begin with `prefix`, in order, with the hashes that they name."""
        for key, value in self._db.scan("tags", prefix.encode()):
            yield key.decode(), value

    def present(self, tags: Sequence[str]) -> Sequence[bool]:
        """For each tag, whether it is there."""
        return [value is not None for value in self._db.get_many("tags", [tag.encode() for tag in tags])]

    def delete(self, tags: Iterable[str]) -> None:
        """Remove tags; one that is not there is no error."""
        batch = self._db.batch()
        for tag in tags:
            batch.delete("tags", tag.encode())
        self._db.write(batch, sync=True)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every tag that begins with `prefix`, which is not empty."""
        batch = self._db.batch()
        batch.delete_prefix("tags", prefix.encode())
        self._db.write(batch, sync=True)


def _only_chunk(entry: FileEntry) -> Chunk | None:
    return entry.chunks[0] if len(entry.chunks) == 1 else None


def _tag_key(tag: str) -> bytes:
    if not tag:
        raise InvalidError("a tag needs a name")
    return tag.encode()
