"""Trees outside a commit: putting one together, and merging many into a commit."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pfsd.errors import InvalidError, NotFoundError
from pfsd.filesystem import merging
from pfsd.filesystem.filesinks import FileSink
from pfsd.filesystem.merging import Merge
from pfsd.filesystem.objects import Tags
from pfsd.local.handedfiles import HandedRange
from pfsd.model import treeobjects
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write, put
from pfsd.names import paths
from pfsd.names.paths import Path
from pfsd.runtime.cancelling import GivenUpError
from pfsd.runtime.references import noted
from pfsd.trees import attributes, dirs, entries, tree, writing
from pfsd.trees.entries import DirEntry, Entry
from pfsd.trees.nodestore import GatheredNodes

STAGED_AT_ONCE = 1000
"""Writes gathered before they become rows."""

# What a tree that keeps a merge holds: see `pfsd.filesystem.merging`.
_CONTRIBUTIONS = "contributions"
_MERGED = "merged"


@dataclass(frozen=True, slots=True)
class StoredTree:
    """A tree that has an object."""

    object_hash: bytes
    top: DirEntry
    bytes_written: int = 0


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A change of which trees are merged."""

    order: str
    """Where the tree stands among the others, which come in the order of these texts; not empty."""
    tag: str
    """The tag of the tree that now has this order; empty where there is none any more."""


class TreeUpload:
    """A tree under construction. What it stores is found by nobody until `finish`."""

    def __init__(self, root: Root) -> None:
        self.operation = root.references.operation()
        self._root = root
        self._staging = Staging(root.db, root.nodes, root.chunks, uuid.uuid4().bytes, tree.EMPTY)
        self._writes: list[Write] = []
        self._path: Path = ()
        self._sink: FileSink | None = None
        self._attributes: bytes | None = None
        """Of the file that is being written, where they were given."""
        self._bytes = 0
        self._abandoned = False

    @noted
    def write(self, path: str, data: bytes) -> None:
        """Append to the file at a path, which is made if need be."""
        parts = paths.parse_file(path)
        if self._sink is None or parts != self._path:
            self._end()
            self._path, self._sink = parts, FileSink(self._root, parts)
        self._sink.write(data)
        self._bytes += len(data)

    @noted
    def pour(self, path: str, handed: HandedRange) -> None:
        """Append bytes of a file that was handed over to the file at a path, like `write`."""
        self.write(path, b"")
        if self._sink is not None:
            self._sink.pour(handed)
        self._bytes += handed.size

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
        self._add(put(paths.parse(path), entry))

    @noted
    def set_attributes(self, path: str, given: bytes) -> None:
        """Give attributes to what is at the path: the file that was written last, or else a directory."""
        parts = paths.parse(path)
        if self._sink is not None and parts == self._path:
            self._attributes = attributes.checked(given, attributes.FILE_MODE, path)
        elif parts:
            self._end()
            checked = attributes.checked(given, attributes.DIRECTORY_MODE, path)
            self._add(Write(parts, directory=entries.EMPTY_DIR, attributes=checked))

    @noted
    def finish(self, tag: str) -> StoredTree:
        """Store the tree and let `tag` name its object; raises what a path in the way of another raises."""
        self._end()
        with self._staging.lock:
            self._stage()
            root = self._staging.fold()
            object_hash = treeobjects.put(self._root.chunks, root)
            self._root.chunks.flush()
            batch = self._root.db.batch()
            self._staging.discard(batch)
            batch.put("tags", tag.encode(), object_hash)
            self._root.db.write(batch)
        return StoredTree(object_hash, entries.dir_entry(self._root.nodes, root), self._bytes)

    def abandon(self) -> None:
        """Drop what was staged, also by a thread that is still at it: nothing more can be written then."""
        with self._staging.lock:
            self._abandoned = True
            batch = self._root.db.batch()
            self._staging.discard(batch)
            self._root.db.write(batch)

    def _end(self) -> None:
        if self._sink is not None:
            self._add(Write(self._path, self._sink.finish(), attributes=self._attributes))
            self._sink, self._attributes = None, None

    def _add(self, write: Write) -> None:
        self._writes.append(write)
        if len(self._writes) >= STAGED_AT_ONCE:
            with self._staging.lock:
                self._stage()

    def _stage(self) -> None:
        """Let what was added become rows. The caller holds the staging lock."""
        if self._abandoned:
            raise GivenUpError("this tree was given up")
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

    def merge_into(self, commit: Commit, changes: Sequence[TreeChange], base: str = "", result: str = "") -> StoredTree:
        """Let an open commit's content be a merge of tagged trees.

        It is the merge that was kept under the tag `base`, of no trees where that is empty, changed by `changes`, of
        which no two have the same order. It is kept under the tag `result`, where that is given. The same file in
        several trees is concatenated. Raises NotFoundError for a tag, InvalidError where a base is none, StateError
        when the commit is finished or when a path is a file in one tree and a directory in another.
        """
        tags = [change.tag for change in changes if change.tag]
        with self._root.references.operation() as operation:
            former = None if not base else treeobjects.read(self._root.chunks, self._tags.get(base))
            roots = {tag: treeobjects.read(self._root.chunks, name) for tag, name in self._tags.find(tags).items()}
            for root in (former, *roots.values()):
                if root is not None:
                    operation.pin(root)
            if not all(self._tags.present([base, *tags] if base else tags)):
                raise NotFoundError("a tag was deleted while its tree was about to be merged")
            staging = self._commits.open_staging(commit)
            nodes = self._root.nodes.gather()
            trees = (
                (change.order, entries.dir_entry(nodes, roots[change.tag]) if change.tag else None)
                for change in changes
            )
            merged = merging.change(nodes, self._root.chunks, self._kept(former), trees)
            kept = self._keep(nodes, merged) if result else None
            nodes.flush()
            object_hash = treeobjects.put(self._root.chunks, merged.top.root)
            with staging.lock:
                self._commits.replace_tree(commit, merged.top.root)
            if kept is not None:
                batch = self._root.db.batch()
                batch.put("tags", result.encode(), kept)
                self._root.db.write(batch)
        return StoredTree(object_hash, merged.top)

    def _kept(self, root: bytes | None) -> Merge:
        """The merge that `_keep` stored; raises InvalidError when it is none."""
        if root is None:
            return merging.NOTHING
        found = [dirs.child(self._root.nodes, DirEntry(root), name) for name in (_MERGED, _CONTRIBUTIONS)]
        if not all(isinstance(entry, DirEntry) for entry in found):
            raise InvalidError("the base of a merge has to be the result of one")
        top, contributions = found
        assert isinstance(top, DirEntry)
        assert isinstance(contributions, DirEntry)
        return Merge(top, contributions)

    def _keep(self, nodes: GatheredNodes, merged: Merge) -> bytes:
        """Store a merge as a tree, so that it is kept like any; returns the hash of the tree's object."""
        named = {_CONTRIBUTIONS: merged.contributions, _MERGED: merged.top}
        pairs = [(name.encode(), entries.encode(entry)) for name, entry in sorted(named.items())]
        return treeobjects.put(self._root.chunks, writing.build(nodes, pairs, entries.MEASURE))
