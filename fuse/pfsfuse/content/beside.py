"""What a walk through a tree comes to next: small files and directories that are worth fetching along."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from pfsd.trees import entries, tree
from pfsd.trees.entries import Chunk, FileEntry
from pfsd.trees.tree import NodesMissing, Pair
from pfsfuse.content.nodes import NodeCache

SMALL_BYTES = 128 << 10
"""Files up to this size are fetched together with the files that follow them."""

_FIRST_BESIDE = 8
_MOST_BESIDE = 512
_BESIDE_BYTES = 4 << 20
_LOOKED_AT = 4
"""At most so many entries are looked at for each file to be fetched along: most may be large, or directories."""
_REMEMBERED = 1024


class Place(NamedTuple):
    """Where a file or directory stands: the root of its directory, its name there, and where its directory stands."""

    root: bytes
    name: bytes
    outer: Place | None = None


def walk(nodes: NodeCache, place: Place, missing: list[bytes]) -> Iterator[tuple[Place, bytes]]:
    """The entries that a walk in the order of names comes to after `place`, as far as nodes are at hand.

    A directory comes before what is in it. Nodes that are not at hand are added to `missing`, and what depends on them
    is passed over.
    """
    levels: list[tuple[Place, Iterator[Pair]]] = []
    here: Place | None = place
    while here is not None:
        levels.insert(0, (here, tree.items(nodes, here.root, here.name + b"\0")))
        here = here.outer
    while levels:
        (root, _, outer), pairs = levels[-1]
        try:
            key, value = next(pairs)
        except StopIteration:
            levels.pop()
            continue
        except NodesMissing as error:
            missing += error.hashes
            levels.pop()
            continue
        found = Place(root, key, outer)
        if value[0] == 2:
            inside = Place(value[1:33], b"", found)
            levels.append((inside, tree.items(nodes, inside.root, b"")))
        yield found, value


class Beside:
    """Which small files to fetch along with one: more each time a reader asks where the last answer ended."""

    def __init__(self, nodes: NodeCache, prefetch_nodes: Callable[[Iterable[bytes]], None]) -> None:
        self._nodes = nodes
        self._prefetch_nodes = prefetch_nodes
        self._habit = _FIRST_BESIDE
        """How many are fetched along at the beginning of a directory: many, when the last one was read through."""
        self._read: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        """For each directory, up to which name files were fetched along, and how many at a time."""
        self._due: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()
        """The files with which answers ended that did not end a directory, and how many were fetched along."""

    def along(self, place: Place) -> tuple[list[tuple[Place, Chunk]], Iterable[Chunk]]:
        """The chunks of small files after `place`; for someone who reads in order, also those after them."""
        window = self._window(place)
        chunks: list[tuple[Place, Chunk]] = []
        missing: list[bytes] = []
        size, last, due = 0, place, None
        for at, value in islice(walk(self._nodes, place, missing), _LOOKED_AT * window):
            chunk = small_chunk(value)
            if chunk is None:
                continue
            if len(chunks) >= window or size > _BESIDE_BYTES:
                due = at
                break
            chunks.append((at, chunk))
            size += chunk.size
            last = at
        if missing:
            self._prefetch_nodes(missing)
        self._note(place, last, due, window)
        return chunks, () if window == _FIRST_BESIDE else self._later(last)

    def _window(self, place: Place) -> int:
        covered, window = self._read.get(place.root, (b"", 0))
        due = self._due.pop((place.root, place.name), 0)
        if due or (window and place.name > covered):
            return min(max(due, window) * 2, _MOST_BESIDE)
        if not window and self._is_first(place):
            self._habit = max(self._habit // 2, _FIRST_BESIDE)
            return self._habit
        return _FIRST_BESIDE

    def _note(self, place: Place, last: Place, due: Place | None, window: int) -> None:
        if due is not None:
            self._due[due.root, due.name] = window
        if (due is None or due.root != place.root) and window > self._habit:
            self._habit = window
        self._read[last.root] = (last.name, window)
        self._read.move_to_end(last.root)
        for kept in (self._read, self._due):
            if len(kept) > _REMEMBERED:
                kept.popitem(last=False)

    def _is_first(self, place: Place) -> bool:
        """Whether it is the first file of its directory."""
        try:
            return next(key for key, value in tree.items(self._nodes, place.root, b"") if value[0] != 2) == place.name
        except NodesMissing:
            return False

    def _later(self, last: Place) -> Iterator[Chunk]:
        for _, value in walk(self._nodes, last, []):
            chunk = small_chunk(value)
            if chunk is not None:
                yield chunk


def small_chunk(value: bytes) -> Chunk | None:
    """The chunk of a small file, if the entry is one."""
    if value[0] == 2:
        return None
    entry = entries.decode(value)
    if isinstance(entry, FileEntry) and len(entry.chunks) == 1 and entry.size <= SMALL_BYTES:
        return entry.chunks[0]
    return None
