"""Making and changing search trees (`pfsd.trees.tree`): only the nodes that a change touches are read and written."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from pfsd import _core
from pfsd.trees.tree import (
    EMPTY,
    HASH_BYTES,
    NO_SUMMARY,
    Cursor,
    Measure,
    Node,
    NodeReader,
    NodeStore,
    Pair,
    Summary,
    decode_summary,
    diff,
    encode_node,
    encode_summary,
    load,
    node_hash,
    summarize,
)

Mutation = tuple[bytes, bytes | None]
"""A key with its new value, or with None to remove it."""

NODE_WEIGHT = 1 << 20
"""What the keys of a node may weigh together (`pfsd._core.weigh`). Part of the format."""

RUN = 1024
"""Mutations that are worth handing to `Update.apply` at once."""


def build(nodes: NodeStore, pairs: Iterable[Pair], measure: Measure) -> bytes:
    """Store the tree of `pairs`, whose keys ascend without repeats; returns its root hash."""
    return update(nodes, EMPTY, pairs, measure)


def update(nodes: NodeStore, root: bytes, mutations: Iterable[Mutation], measure: Measure) -> bytes:
    """Store the tree that `root` becomes by `mutations`, whose keys ascend without repeats.

    Returns the new root hash. Only nodes that a mutation touches are read and written; removing what is
    not there changes nothing.
    """
    changes = Update(nodes, root, measure)
    iterator = iter(mutations)
    while run := list(itertools.islice(iterator, RUN)):
        changes.apply(run)
    return changes.finish()[0]


class Update:
    """A change of a tree in the making, for callers that have their mutations bit by bit.

    Holds about one node of each level, and for each node rewritten a reference in the level above.
    """

    def __init__(self, nodes: NodeStore, root: bytes, measure: Measure) -> None:
        self._nodes = nodes
        self._root = root
        self._measure = measure
        self._leaves = _Level(nodes, root, 0, measure)

    def apply(self, run: Sequence[Mutation]) -> None:
        """Take in mutations whose keys ascend, and are above those of all former runs."""
        self._leaves.apply(run)

    def finish(self) -> tuple[bytes, Summary]:
        """Store the tree; returns its root hash and the sums over it."""
        top = load(self._nodes, self._root).level
        writer = self._leaves
        while above := writer.finish():
            if writer.level >= top:  # all nodes of this level were rewritten: they are all in `above`
                children = [value for _, value in above if value is not None]
                if not children:
                    return EMPTY, NO_SUMMARY
                if len(children) == 1:
                    return _collapse(self._nodes, children[0], writer.level)
            base = self._root if writer.level < top else EMPTY
            writer = _Level(self._nodes, base, writer.level + 1, self._measure)
            writer.apply(above)
        return self._root, summarize(load(self._nodes, self._root), self._measure)


def _collapse(nodes: NodeReader, value: bytes, level: int) -> tuple[bytes, Summary]:
    """The lowest node that holds the whole tree below the child that `value` names, a node of that level; its sums."""
    while level:
        node = nodes.get(value[:HASH_BYTES])
        if len(node.keys) > 1:
            break
        value = node.values[0]
        level = node.level - 1
    return value[:HASH_BYTES], decode_summary(value)


class _Level:
    """Rewrites the nodes of one level that mutations touch, and gathers what the level above must change."""

    def __init__(self, nodes: NodeStore, root: bytes, level: int, measure: Measure) -> None:
        self.level = level
        self._nodes = nodes
        self._measure = measure
        self._base = None if root == EMPTY else Cursor(nodes, root)
        """Stands at the node after `_old`."""
        self._is_top = self._base is not None and self._base.root.level == level
        """Whether no level of the old tree is above, which would go on naming a node that stays as it is."""
        self._old: Node | None = None
        """The node of the old tree whose pairs from `_at` on come next."""
        self._at = 0
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        """The pairs after the last node written, of which the first `_scanned` end no run."""
        self._open = False
        """Whether the pairs at hand begin within a run, of which what is before them stays as it is."""
        self._taken: dict[bytes, Node] = {}
        """Nodes of the old tree whose pairs are at hand, by their last keys."""
        self._ends: list[int] = []
        """Where among the pairs at hand nodes of the old tree ended."""
        self._scanned = 0
        self._above: dict[bytes, bytes | None] = {}

    def apply(self, run: Sequence[Mutation]) -> None:
        at = 0
        while at < len(run):
            if self._base is None:
                kept = [(key, value) for key, value in run if value is not None]
                self._keys += [key for key, _ in kept]
                self._values += [value for _, value in kept]
                at = len(run)
            else:
                if self._old is None:
                    self._base.seek(run[at][0], self.level)
                    if self._base.done:
                        self._base.seek_last(self.level)
                    self._step_back(self._base)
                    self._take(self._base)
                at = self._merge(self._base, run, at)
            self._cut()
            if at < len(run) and self._base is not None:
                self._advance(self._base)

    def finish(self) -> list[Mutation]:
        """Write what is left; returns the mutations of the level above."""
        if self._base is not None:
            beyond = 0  # weight of what comes after the last mutation
            while self._old is not None:
                beyond += _core.weigh(self._old.keys, self._at)
                self._keys += self._old.keys[self._at :]
                self._values += self._old.values[self._at :]
                self._end_old(self._old)
                self._cut()
                if self._base.done:
                    break
                if self._keys and beyond > NODE_WEIGHT:  # the rest of this run stays as it is
                    self._write_run(0, len(self._keys), open_right=True)
                    self._keys, self._values = [], []
                self._advance(self._base)
        if self._keys:
            self._write_run(0, len(self._keys))
        return sorted(self._above.items())

    def _step_back(self, base: Cursor) -> None:
        """Go back within a run that is cut into nodes, as far as a change at the present node may change its cuts."""
        weight = 0
        while (before := base.previous_key()) is not None and _core.rank(before) <= self.level:
            if weight > NODE_WEIGHT:
                self._open = True
                return
            base.previous_node()
            weight += _core.weigh(base.node.keys, 0)

    def _end_old(self, old: Node) -> None:
        """Note that the pairs at hand reach to the end of an old node."""
        if self._keys and self._keys[-1] == old.keys[-1]:
            self._ends.append(len(self._keys))

    def _take(self, base: Cursor) -> None:
        self._old, self._at = base.node, 0
        self._above[self._old.keys[-1]] = None
        self._taken[self._old.keys[-1]] = self._old
        base.next_node()

    def _advance(self, base: Cursor) -> None:
        """Go past the present old node: to the next one, unless the new nodes end where it does."""
        if self._keys:
            self._take(base)
        else:
            self._old = None

    def _merge(self, base: Cursor, run: Sequence[Mutation], at: int) -> int:
        """Merge the old node with the mutations from `at` on that fall into it; returns where they end.

        The last node takes all that is left of the run. The old node is used up unless the run is.
        """
        assert self._old is not None
        old_keys, old_values, index = self._old.keys, self._old.values, self._at
        last_key = old_keys[-1]
        keys, values = self._keys, self._values
        count = len(run)
        while at < count:
            key, value = run[at]
            if key > last_key and not base.done:
                keys += old_keys[index:]
                values += old_values[index:]
                self._end_old(self._old)
                break
            found = bisect_left(old_keys, key, index)
            if found > index:
                keys += old_keys[index:found]
                values += old_values[index:found]
                index = found
            if index < len(old_keys) and old_keys[index] == key:
                index += 1
            if value is not None:
                keys.append(key)
                values.append(value)
            at += 1
        self._at = index
        return at

    def _cut(self) -> None:
        """Write the runs that the pairs at hand complete."""
        start = 0
        while end := _core.next_boundary(self._keys, max(start, self._scanned), self.level):
            self._write_run(start, end)
            self._open = False
            start = end
        if start:
            del self._keys[:start], self._values[:start]
            self._ends = [end - start for end in self._ends if end > start]
        self._scanned = len(self._keys)

    def _write_run(self, start: int, end: int, *, open_right: bool = False) -> None:
        """Write some of the pairs at hand, a run or with `open_right` the beginning of one, as one node or several."""
        keys, values = self._keys[start:end], self._values[start:end]
        ends = [at - start for at in self._ends if start < at] if self._open or open_right else []
        first = 0
        for cut in _core.divide(keys, len(keys), NODE_WEIGHT, self._open, open_right, ends):
            self._write(keys[first:cut], values[first:cut])
            first = cut
        self._taken.clear()

    def _write(self, keys: list[bytes], values: list[bytes]) -> None:
        old = self._taken.get(keys[-1])
        if old is not None and not self._is_top and old.keys == keys and old.values == values:
            del self._above[keys[-1]]
            return
        node = Node(self.level, keys, values)
        data = encode_node(node)
        name = node_hash(data)
        self._nodes.put(name, data)
        self._above[keys[-1]] = name + encode_summary(summarize(node, self._measure))


def merge(
    nodes: NodeStore, one: bytes, other: bytes, join: Callable[[bytes, bytes, bytes], bytes], measure: Measure
) -> bytes:
    """Store the tree of the pairs of two; `join(key, of one, of other)` gives the value where theirs differ.

    Nodes that both trees share are skipped unread, and so are those of `one` that lie between two keys of `other`:
    let `other` be the smaller one.
    """

    def mutations() -> Iterator[Mutation]:
        for key, first, second in diff(nodes, one, other, removals=False):
            if second is not None:
                yield key, second if first is None else join(key, first, second)

    return update(nodes, one, mutations(), measure)
