"""Directories: looking up, listing and walking paths in a tree of entries.

Names are ordered by their UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from pfsd.errors import CorruptError
from pfsd.names.paths import Path
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry, Entry, FileEntry
from pfsd.trees.tree import NodeReader


def child(nodes: NodeReader, directory: DirEntry, name: str) -> Entry | None:
    """The entry called `name`, or None."""
    value = tree.get(nodes, directory.root, name.encode())
    return None if value is None else entries.decode(value)


def lookup(nodes: NodeReader, top: DirEntry, path: Path) -> Entry | None:
    """The entry at `path` below `top`, or None, also where a part of the path is a file."""
    entry: Entry = top
    for name in path:
        if not isinstance(entry, DirEntry):
            return None
        found = child(nodes, entry, name)
        if found is None:
            return None
        entry = found
    return entry


def children(nodes: NodeReader, directory: DirEntry, start: str = "") -> Iterator[tuple[str, Entry]]:
    """The entries of a directory in order, from the first name not below `start`."""
    for key, value in tree.items(nodes, directory.root, start.encode()):
        yield _name(key), entries.decode(value)


def changes(nodes: NodeReader, old: bytes, new: bytes) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """The names under which two directories, given by the roots of their trees, have something else, in order."""
    for key, before, after in tree.diff(nodes, old, new):
        first, second = (None if value is None else entries.decode(value) for value in (before, after))
        yield _name(key), first, second


def walk(nodes: NodeReader, top: Entry, path: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """`top` itself, which stands at `path`, and all below it, a directory before what it holds."""
    yield path, top
    if not isinstance(top, DirEntry):
        return
    open_directories = [(path, children(nodes, top))]  # not recursion: paths may be deeper than Python's stack
    while open_directories:
        above, rest = open_directories[-1]
        found = next(rest, None)
        if found is None:
            open_directories.pop()
            continue
        name, entry = found
        yield (*above, name), entry
        if isinstance(entry, DirEntry):
            open_directories.append(((*above, name), children(nodes, entry)))


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise CorruptError("a directory holds a name that is not UTF-8") from None


def added_bytes(nodes: NodeReader, old: bytes, new: bytes) -> int:
    """Bytes of the files that are new or changed in the tree `new` against `old`."""
    total = 0
    pairs = [(old, new)]
    while pairs:
        for _, before, after in tree.diff(nodes, *pairs.pop(), removals=False):
            if after is None:
                continue
            entry = entries.decode(after)
            if isinstance(entry, DirEntry):
                source = None if before is None else entries.decode(before)
                pairs.append((source.root if isinstance(source, DirEntry) else tree.EMPTY, entry.root))
            elif not (isinstance(entry, FileEntry) and before is not None and _same(before, entry)):
                total += entry.size
    return total


def _same(value: bytes, entry: FileEntry) -> bool:
    """Whether an encoded entry is a file of the same content."""
    other = entries.decode(value)
    return isinstance(other, FileEntry) and other.content == entry.content
