"""Checking tree nodes and chunk lists, and finding the paths at which damaged ones are used."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pfsd.errors import CorruptError, InvalidError
from pfsd.model.root import Root
from pfsd.names import paths
from pfsd.names.paths import Path
from pfsd.trees import entries, tree
from pfsd.trees.entries import Chunk, DirEntry, FileEntry
from pfsd.trees.tree import HASH_BYTES, Measure, Node, Summary
from pfsd.upkeep.checks.findings import HashSet, Tally

AT_ONCE = 256
"""Nodes read in one call."""

_OF_STORED = ("is missing", "is damaged")
"""What is wrong with a node that may be stored anew meanwhile; what else is wrong stays so, as its bytes do."""

_VERBS = ("is ", "does not ", "keeps ")


class Kind(enum.Enum):
    """What a tree's values are."""

    DIRECTORY = enum.auto()
    CHUNKS = enum.auto()

    @property
    def measure(self) -> Measure:
        """What a level-0 value adds to the sums above it."""
        return entries.MEASURE if self is Kind.DIRECTORY else entries.CHUNK_MEASURE


@dataclass(frozen=True, slots=True)
class Reference:
    """A node as something else names it."""

    name: bytes
    kind: Kind
    level: int | None = None
    last_key: bytes | None = None
    sums: Summary | None = None
    """What the place that names it says of it; None where it says nothing."""


class TreeCheck:
    """A walk over trees that looks at every node once."""

    def __init__(self, root: Root, tally: Tally) -> None:
        self._root = root
        self._tally = tally
        self._seen = HashSet()
        self.bad_nodes: dict[bytes, str] = {}
        """What is wrong with which node, as the end of a sentence that begins with the node."""
        self.missing_chunks: set[bytes] = set()
        """Chunks that something refers to and the index does not name."""

    def directory(self, root: bytes) -> None:
        """Check the tree of a directory and all below it."""
        self._walk([Reference(root, Kind.DIRECTORY)])

    def file(self, entry: FileEntry) -> None:
        """Check a file's chunk list, and that its chunks are in the index."""
        self._want([chunk.hash for chunk in entry.chunks])
        if entry.chunk_root is not None:
            self._walk([_list_of(entry, entry.chunk_root)])

    def chunk(self, name: bytes) -> None:
        """Check that a chunk is in the index."""
        self._want([name])

    def rest(self) -> Iterator[bytes]:
        """The names of damaged nodes that no walk has met."""
        for name, data in self._root.db.scan("nodes", b""):
            if self._seen.add(name):
                self._tally.nodes += 1
                if tree.node_hash(data) != name:
                    yield name

    def still_bad(self, name: bytes) -> bool:
        """Whether a node that was found bad is so now."""
        data = self._root.db.get("nodes", name)
        return data is None or tree.node_hash(data) != name or not self.bad_nodes[name].startswith(_OF_STORED)

    def _walk(self, stack: list[Reference]) -> None:
        while stack:
            batch = [stack.pop() for _ in range(min(AT_ONCE, len(stack)))]
            batch = [ref for ref in batch if ref.name != tree.EMPTY and self._seen.add(ref.name)]
            chunks: list[bytes] = []
            for ref, data in zip(batch, self._root.db.get_many("nodes", [ref.name for ref in batch]), strict=True):
                try:
                    node = self._node(ref, data)
                    for item in _below(node, ref.kind):
                        if isinstance(item, Reference):
                            stack.append(item)
                        elif isinstance(item, Chunk):
                            chunks.append(item.hash)
                except CorruptError as error:
                    wrong = str(error)
                    self.bad_nodes[ref.name] = wrong if wrong.startswith(_VERBS) else f"can't be read: {wrong}"
            self._want(chunks)

    def _node(self, ref: Reference, data: bytes | None) -> Node:
        """A node that is as it should be; raises CorruptError with what is wrong."""
        if data is None:
            raise CorruptError("is missing")
        self._tally.nodes += 1
        if tree.node_hash(data) != ref.name:
            raise CorruptError("is damaged: its bytes do not match its hash")
        node = tree.decode_node(data)
        if not node.keys or any(a >= b for a, b in zip(node.keys, node.keys[1:], strict=False)):
            raise CorruptError("does not have its keys in order")
        if ref.level is not None and (node.level != ref.level or node.keys[-1] != ref.last_key):
            raise CorruptError("does not fit the node above it")
        if ref.sums is not None and tree.summarize(node, ref.kind.measure) != ref.sums:
            raise CorruptError("does not have the sizes and counts that are kept above it")
        return node

    def _want(self, names: list[bytes]) -> None:
        for name, row in zip(names, self._root.db.get_many("chunks", names), strict=True):
            if row is None and not is_located(self._root, name):
                self.missing_chunks.add(name)


def is_located(root: Root, name: bytes) -> bool:
    """Whether a chunk is in the index, or stored and not yet entered."""
    try:
        root.chunks.locate(name)
    except CorruptError:
        return False
    return True


def _list_of(entry: FileEntry, chunk_root: bytes) -> Reference:
    return Reference(chunk_root, Kind.CHUNKS, sums=Summary(entry.size, entry.chunk_count, 0))


@dataclass(frozen=True, slots=True)
class _Named:
    """Something below a directory's node, with its name."""

    name: str
    item: Reference | FileEntry


def _below(node: Node, kind: Kind) -> Iterator[Reference | Chunk]:
    """The nodes and chunks that a node names; raises CorruptError for a value that can't be decoded."""
    if kind is Kind.DIRECTORY and not node.level:
        for key, value in zip(node.keys, node.values, strict=True):
            _check_form(value, key.decode(errors="replace"))
    for named in _named_below(node, kind):
        if isinstance(named, Chunk | Reference):
            yield named
        elif isinstance(named.item, Reference):
            yield named.item
        else:
            yield from named.item.chunks
            if named.item.chunk_root is not None:
                yield _list_of(named.item, named.item.chunk_root)


def _named_below(node: Node, kind: Kind) -> Iterator[Reference | Chunk | _Named]:
    for key, value in zip(node.keys, node.values, strict=True):
        if node.level:
            yield Reference(value[:HASH_BYTES], kind, node.level - 1, key, tree.decode_summary(value))
        elif kind is Kind.CHUNKS:
            yield entries.decode_listed(value)
        else:
            entry = entries.decode(value)
            name = key.decode(errors="replace")
            if isinstance(entry, DirEntry):
                sums = Summary(entry.size, entry.files, entry.directories, entry.links, entry.plain)
                yield _Named(name, Reference(entry.root, Kind.DIRECTORY, sums=sums))
            elif isinstance(entry, FileEntry):
                yield _Named(name, entry)


def _check_form(value: bytes, name: str) -> None:
    """Raises CorruptError for an entry with attributes or a target that no client can have sent."""
    entry = entries.decode(value)
    if entry.attributes or not isinstance(entry, FileEntry | DirEntry):
        try:
            is_sound = entries.check(entry, name) == entry
        except InvalidError:
            is_sound = False
        if not is_sound:
            raise CorruptError(f"keeps of {name} what can't be kept of a file")


# --- finding paths ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """A node on the way down."""

    name: bytes
    path: Path
    kind: Kind
    items: Iterator[Reference | Chunk | _Named]
    is_clean: bool = True


@dataclass(slots=True)
class PathSearch:
    """Finds where nodes and chunks are used. A subtree that uses none is walked once, however many share it."""

    root: Root
    nodes: Iterable[bytes]
    chunks: Iterable[bytes]
    _clean: HashSet = field(default_factory=HashSet)

    def __post_init__(self) -> None:
        self.nodes = frozenset(self.nodes)
        self.chunks = frozenset(self.chunks)

    def directory(self, top: bytes, found: Callable[[bytes, str], None]) -> None:
        """Call `found(node or chunk, path)` for each use below a directory, each path once per node or chunk."""
        stack: list[_Frame] = []
        self._enter(stack, Reference(top, Kind.DIRECTORY), (), found)
        self._run(stack, found)

    def file(self, entry: FileEntry, found: Callable[[bytes, str], None]) -> None:
        """The same for one file, whose path is the empty one."""
        stack = [_Frame(b"", (), Kind.DIRECTORY, iter(()))]
        self._file(stack, entry, (), found)
        self._run(stack, found)

    def _run(self, stack: list[_Frame], found: Callable[[bytes, str], None]) -> None:
        while stack:
            frame = stack[-1]
            item = next(frame.items, None)
            if item is None:
                stack.pop()
                if frame.is_clean:
                    self._clean.add(frame.name)
                elif stack:
                    stack[-1].is_clean = False
            elif isinstance(item, Reference):
                self._enter(stack, item, frame.path, found)
            elif isinstance(item, Chunk):
                self._chunk(stack, item, frame.path, found)
            elif isinstance(item.item, Reference):
                self._enter(stack, item.item, (*frame.path, item.name), found)
            else:
                self._file(stack, item.item, (*frame.path, item.name), found)

    def _enter(self, stack: list[_Frame], ref: Reference, path: Path, found: Callable[[bytes, str], None]) -> None:
        if ref.name == tree.EMPTY or ref.name in self._clean:
            return
        if ref.name in self.nodes:
            if stack:
                stack[-1].is_clean = False
            found(ref.name, paths.join(path))
            return
        data = self.root.db.get("nodes", ref.name)
        if data is not None:  # else it went meanwhile: what names it is gone too
            stack.append(_Frame(ref.name, path, ref.kind, _named_below(tree.decode_node(data), ref.kind)))

    def _file(self, stack: list[_Frame], entry: FileEntry, path: Path, found: Callable[[bytes, str], None]) -> None:
        for chunk in dict.fromkeys(entry.chunks):
            self._chunk(stack, chunk, path, found)
        if entry.chunk_root is not None:
            self._enter(stack, _list_of(entry, entry.chunk_root), path, found)

    def _chunk(self, stack: list[_Frame], chunk: Chunk, path: Path, found: Callable[[bytes, str], None]) -> None:
        if chunk.hash in self.chunks:
            stack[-1].is_clean = False
            found(chunk.hash, paths.join(path))
