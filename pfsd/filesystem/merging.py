"""Merging many trees into one, and merging them again when some have changed: the cost follows the change.

Each tree has an *order*, a text. The merge has the names of all; a file that several have is their content joined in
that order, a directory that several have is the merge of theirs. A file in one and a directory in another can't be
merged.

To be changed later, a merge keeps beside the merged tree who contributed what. *Contributions* are a tree like a
directory's, with the keys

    name 0x00 order    what the tree of this order has under the name: an entry
    name 0x00          where several have a directory under the name: the contributions to it, as a directory's entry

and at the top one name, the empty one, under which each tree has its root directory. Contributions and merged tree
follow from the trees alone, not from the way that led to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pfsd.chunks import content
from pfsd.chunks.chunkstore import ChunkStore
from pfsd.errors import StateError
from pfsd.names.paths import Path, join
from pfsd.trees import entries, tree, writing
from pfsd.trees.attributes import without_change
from pfsd.trees.entries import EMPTY_DIR, DirEntry, Entry, FileEntry, with_attributes
from pfsd.trees.nodestore import GatheredNodes
from pfsd.trees.tree import Pair
from pfsd.trees.writing import Mutation

SORTED_AT_ONCE = 1 << 17
"""Contributions held in memory to be sorted."""

Change = tuple[bytes, bytes | None, bytes | None]
"""A key of contributions with its old and its new value."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge of trees."""

    top: DirEntry
    """The merged tree."""
    contributions: DirEntry
    """What it was made of."""


NOTHING = Merge(EMPTY_DIR, EMPTY_DIR)
"""The merge of no trees."""


def change(
    nodes: GatheredNodes, chunks: ChunkStore, base: Merge, trees: Iterable[tuple[str, DirEntry | None]]
) -> Merge:
    """The merge that `base` becomes when the trees of some orders are replaced, added or (None) left out.

    No order may come twice. Raises StateError when a path is a file in one tree and a directory in another.
    """
    return _Merging(nodes, chunks).top(base, trees)


class _Merging:
    """One change of a merge."""

    def __init__(self, nodes: GatheredNodes, chunks: ChunkStore) -> None:
        self._nodes = nodes
        self._chunks = chunks

    def top(self, base: Merge, trees: Iterable[tuple[str, DirEntry | None]]) -> Merge:
        mutations = (
            (b"\0" + order.encode(), None if entry is None else entries.encode(entry)) for order, entry in trees
        )
        above = DirEntry(writing.build(self._nodes, [(b"", entries.encode(base.top))], entries.MEASURE))
        made = self._directory(Merge(above, base.contributions), mutations, ())
        value = tree.get(self._nodes, made.top.root, b"")
        return Merge(EMPTY_DIR if value is None else _directory_of(value), made.contributions)

    def _directory(self, old: Merge, mutations: Iterable[Mutation], path: Path) -> Merge:
        """What a directory at `path` becomes by mutations of the contributions to it, in any order, no key twice."""
        root = old.contributions.root
        iterator = iter(mutations)
        while run := sorted(itertools.islice(iterator, SORTED_AT_ONCE)):
            root = writing.update(self._nodes, root, run, entries.MEASURE)
        self._nodes.flush()  # what waits is slow to read
        merged, contributions = _Writer(self._nodes, old.top.root), _Writer(self._nodes, root)
        changes = tree.diff(self._nodes, old.contributions.root, root)
        for name, group in itertools.groupby(changes, key=_name):
            former = tree.get(self._nodes, old.contributions.root, name + b"\0")
            value, below = self._entry(_Name(self._nodes, name, old, root, list(group)), former, path)
            merged.put(name, value)
            if below != former:
                contributions.put(name + b"\0", below)
        return Merge(merged.finish(), contributions.finish())

    def _entry(self, name: _Name, former: bytes | None, path: Path) -> tuple[bytes | None, bytes | None]:
        """What the merge has under a name, and the contributions to that where several have a directory there.

        `former` were those of the old merge.
        """
        first = list(itertools.islice(name.contributions(), 2))
        if len(first) < 2:
            return (first[0][1] if first else None), None
        here = (*path, name.name.decode()) if name.name else path
        if not name.agrees():
            a_file, a_directory = (_told(name.first(is_dir)) for is_dir in (False, True))
            raise StateError(
                f"{join(here)} is a file in the output of datum {a_file} and a directory in that of datum {a_directory}"
            )
        leading = entries.decode(first[0][1])
        kept = without_change(leading.attributes)
        if not isinstance(leading, DirEntry):
            return entries.encode(with_attributes(self._joined(here, name.contributions()), kept)), None
        changed: Iterable[Change]
        if former is None:
            old, changed = NOTHING, ((key, None, value) for key, value in name.contributions())  # one had it before
        else:
            old, changed = Merge(name.merged_before(), _directory_of(former)), name.changes
        made = self._directory(old, self._below(changed, len(name.name) + 1), here)
        return entries.encode(with_attributes(made.top, kept)), entries.encode(made.contributions)

    def _joined(self, path: Path, contributions: Iterable[Pair]) -> Entry:
        """What several files become: their content joined. Links and special files have to be the same."""

        def files() -> Iterator[FileEntry]:
            for entry in found:
                if not isinstance(entry, FileEntry):
                    raise StateError(f"{join(path)} is a link or a special file in the output of more than one datum")
                yield entry.content

        found: Iterator[Entry] = (entries.decode(value) for _, value in contributions)
        first = next(found)
        if not isinstance(first, FileEntry):
            if any(entries.plain(entry) != entries.plain(first) for entry in found):
                raise StateError(f"{join(path)} is another link or file in the output of each of several datums")
            return first
        found = itertools.chain((first,), found)
        return content.concatenate(self._nodes, self._chunks, files())

    def _below(self, changes: Iterable[Change], start: int) -> Iterator[Mutation]:
        """What changes of directories mean for the contributions to their merge; orders start there in the keys."""
        for key, before, after in changes:
            old, new = (tree.EMPTY if value is None else _root_of(value) for value in (before, after))
            for name, _, value in tree.diff(self._nodes, old, new):
                yield name + b"\0" + key[start:], value


@dataclass(slots=True)
class _Name:
    """A name to which contributions have changed."""

    nodes: GatheredNodes
    name: bytes
    old: Merge
    root: bytes
    """Of the contributions that there are now."""
    changes: list[Change]

    def contributions(self) -> Iterator[Pair]:
        """What there is now, in order."""
        if self.old.contributions.root == tree.EMPTY:
            yield from ((key, value) for key, _, value in self.changes if value is not None)
            return
        prefix = self.name + b"\0"
        for key, value in tree.items(self.nodes, self.root, prefix):
            if not key.startswith(prefix):
                return
            if key != prefix:
                yield key, value

    def agrees(self) -> bool:
        """Whether there are only files now, or only directories."""
        changed = {key: value for key, _, value in self.changes}
        kinds = {entries.decode(value).is_dir for value in changed.values() if value is not None}
        kept = next((value for key, value in self.contributions() if key not in changed), None)
        if kept is not None:  # those that did not change did agree
            kinds.add(entries.decode(kept).is_dir)
        return len(kinds) < 2

    def first(self, is_dir: bool) -> str:
        """The order of the first tree that has a directory, or a file, under the name; there is one."""
        keys = (key for key, value in self.contributions() if entries.decode(value).is_dir == is_dir)
        return next(keys)[len(self.name) + 1 :].decode()

    def merged_before(self) -> DirEntry:
        """The directory that the old merge had under the name."""
        value = tree.get(self.nodes, self.old.top.root, self.name)
        assert value is not None
        return _directory_of(value)


class _Writer:
    """Changes a tree by mutations that come one by one, in order."""

    def __init__(self, nodes: GatheredNodes, root: bytes) -> None:
        self._update = writing.Update(nodes, root, entries.MEASURE)
        self._run: list[Mutation] = []

    def put(self, key: bytes, value: bytes | None) -> None:
        self._run.append((key, value))
        if len(self._run) >= writing.RUN:
            self._update.apply(self._run)
            self._run = []

    def finish(self) -> DirEntry:
        """The directory that it became."""
        self._update.apply(self._run)
        root, sums = self._update.finish()
        return DirEntry(root, *sums)


def _name(change: Change) -> bytes:
    return change[0].partition(b"\0")[0]


def _told(order: str) -> str:
    """An order for people: the paths that it is made of."""
    return order.rstrip("\0").replace("\0", ", ")


def _directory_of(value: bytes) -> DirEntry:
    entry = entries.decode(value)
    assert isinstance(entry, DirEntry)
    return entry


def _root_of(value: bytes) -> bytes:
    """The root of a directory; the empty tree's for a file."""
    entry = entries.decode(value)
    return entry.root if isinstance(entry, DirEntry) else tree.EMPTY
