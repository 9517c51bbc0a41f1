"""Trees outside a commit: putting one together, and merging many into a commit."""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pfsd import content, entries, paths, tree, treeobjects
from pfsd.commits import Commits
from pfsd.entries import DirEntry, Entry, FileEntry
from pfsd.errors import NotFoundError, StateError
from pfsd.objects import Tags
from pfsd.paths import Path, join
from pfsd.records import Commit
from pfsd.references import noted
from pfsd.root import Root
from pfsd.staging import Staging, Write
from pfsd.uploads import FileSink

STAGED_AT_ONCE = 1000
"""Writes gathered before they become rows."""

MERGED_AT_ONCE = 256
"""Trees merged in one pass; more are merged in groups first."""


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A tree that has an object."""

    object_hash: bytes
    top: DirEntry
    bytes_written: int = 0


class TreeUpload:
    """A tree under construction. What it stores is found by nobody until `finish`."""

    def __init__(self, root: Root) -> None:
        self.operation = root.references.operation()
        self._root = root
        self._staging = Staging(root.db, root.nodes, root.chunks, uuid.uuid4().bytes, tree.EMPTY)
        self._writes: list[Write] = []
        self._path: Path = ()
        self._sink: FileSink | None = None
        self._bytes = 0

    @noted
    def write(self, path: str, data: bytes) -> None:
        """Append to the file at a path, which is made if need be."""
        parts = paths.parse_file(path)
        if self._sink is None or parts != self._path:
            self._end()
            self._path, self._sink = parts, FileSink(self._root)
        self._sink.write(data)
        self._bytes += len(data)

    @noted
    def zeros(self, path: str, count: int) -> None:
        """Append so many zero bytes to the file at a path, like `write`."""
        self.write(path, b"")
        if self._sink is not None:
            self._sink.zeros(count)
        self._bytes += count

    @noted
    def put(self, path: str, entry: Entry) -> None:
        """Put existing content at a path: a file's is appended to what is there, a directory's is merged in."""
        self._end()
        parts = paths.parse(path)
        if isinstance(entry, DirEntry):
            self._add(Write(parts, directory=entry))
        else:
            self._add(Write(parts, (entry,)))

    @noted
    def finish(self, tag: str) -> StoredTree:
        """Store the tree and let `tag` name its object; raises what a path in the way of another raises."""
        self._end()
        with self._staging.lock:
            self._staging.apply(self._writes)
            root = self._staging.fold()
            object_hash = treeobjects.put(self._root.chunks, root)
            self._root.chunks.flush()
            batch = self._root.db.batch()
            self._staging.discard(batch)
            batch.put("tags", tag.encode(), object_hash)
            self._root.db.write(batch)
        return StoredTree(object_hash, entries.dir_entry(self._root.nodes, root), self._bytes)

    def abandon(self) -> None:
        """Drop what was staged."""
        batch = self._root.db.batch()
        self._staging.discard(batch)
        self._root.db.write(batch)

    def _end(self) -> None:
        if self._sink is not None:
            self._add(Write(self._path, self._sink.finish()))
            self._sink = None

    def _add(self, write: Write) -> None:
        self._writes.append(write)
        if len(self._writes) >= STAGED_AT_ONCE:
            with self._staging.lock:
                self._staging.apply(self._writes)
            self._writes = []


class Trees:
    """The tagged trees of a root."""

    def __init__(self, root: Root, commits: Commits, tags: Tags) -> None:
        self._root = root
        self._commits = commits
        self._tags = tags

    def upload(self) -> TreeUpload:
        """A new tree under construction."""
        return TreeUpload(self._root)

    def merge_into(self, commit: Commit, tags: Sequence[str]) -> StoredTree:
        """Let an open commit's content be the merge of tagged trees, in the order given.

        The same file in several trees is concatenated. Raises NotFoundError for a tag, StateError when the commit is
        finished or when a path is a file in one tree and a directory in another.
        """
        with self._root.references.operation() as operation:
            roots = [treeobjects.read(self._root.chunks, self._tags.get(tag)) for tag in tags]
            for root in roots:
                operation.pin(root)
            if not all(self._tags.present(tags)):
                raise NotFoundError("a tag was deleted while its tree was about to be merged")
            staging = self._commits.open_staging(commit)
            merged = self._merge(roots, ())
            object_hash = treeobjects.put(self._root.chunks, merged)
            with staging.lock:
                self._commits.replace_tree(commit, merged)
        return StoredTree(object_hash, entries.dir_entry(self._root.nodes, merged))

    def _merge(self, roots: Sequence[bytes], path: Path) -> bytes:
        while len(roots) > MERGED_AT_ONCE:
            groups = range(0, len(roots), MERGED_AT_ONCE)
            roots = [self._merge(roots[at : at + MERGED_AT_ONCE], path) for at in groups]
        if len(roots) == 1:
            return roots[0]
        return tree.build(self._root.nodes, self._merged_pairs(roots, path), entries.measure_entry)

    def _merged_pairs(self, roots: Sequence[bytes], path: Path) -> Iterator[tree.Pair]:
        sources = (self._numbered(root, number) for number, root in enumerate(roots))
        for name, group in itertools.groupby(heapq.merge(*sources), key=lambda item: item[0]):
            values = [value for _, _, value in group]
            yield name, values[0] if len(values) == 1 else self._merge_entries(values, (*path, name.decode()))

    def _numbered(self, root: bytes, number: int) -> Iterator[tuple[bytes, int, bytes]]:
        for name, value in tree.items(self._root.nodes, root):
            yield name, number, value

    def _merge_entries(self, values: Iterable[bytes], path: Path) -> bytes:
        found = [entries.decode(value) for value in values]
        files = [entry for entry in found if isinstance(entry, FileEntry)]
        directories = [entry for entry in found if isinstance(entry, DirEntry)]
        if files and directories:
            raise StateError(f"{join(path)} is a file in the output of one datum and a directory in that of another")
        if files:
            return entries.encode(content.concatenate(self._root.nodes, self._root.chunks, files))
        root = self._merge([directory.root for directory in directories], path)
        return entries.encode(entries.dir_entry(self._root.nodes, root))
