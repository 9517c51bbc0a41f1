"""History-independent search trees of content-addressed nodes ("prolly trees").

A tree maps byte-string keys to byte-string values. Its shape, and so the hash of its root, depends only on
the pairs in it, never on the order in which they came: a key ends a *run* of level L when the key's rank is
above L, and the rank comes from the key's own hash (`pfsd._core.rank`, geometric with p = 1/128). A run is a node. So
equal trees have equal roots, a change rewrites one node per level, and two trees are compared by skipping nodes
of equal hash.

Names can be chosen so that none ends a run. So a run that weighs more than `NODE_WEIGHT` (each key weighs its bytes, at
least 256, so 4,096 keys of up to that length) is cut into nodes where its keys differ: between two neighbours of
which the keys of the run that begin with all the bits that these two have in common weigh more than that. No choice
of names makes a node heavier than `NODE_WEIGHT` or what one key weighs, and who changes a key has to look no further
than that to both sides. Of names that nobody chose so, one run in 10 ** 13 is that long.

A node's bytes (all integers unsigned LEB128 unless said otherwise):

    "PT" 0x01 | level, 1 byte | count | count * (key length | key | value length | value)

Values at level 0 are the caller's. Above it a value is `child hash, 32 bytes | summary`, and the key is the last
key below the child. The summary is three integers, sums over the level-0 values below: see `Measure`.
A node's name is the BLAKE3 hash of its bytes in derive-key mode with the context `NODE_CONTEXT`. The empty
tree is the level-0 node without entries; it is never stored.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from blake3 import blake3

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import varint

NODE_CONTEXT = "pfsd 2026-11 tree node v1"
HASH_BYTES = 32

NODE_WEIGHT = 1 << 20
"""What the keys of a node may weigh together (`pfsd._core.weigh`). Part of the format."""

Pair = tuple[bytes, bytes]
Mutation = tuple[bytes, bytes | None]
"""A key with its new value, or with None to remove it."""

Summary = tuple[int, int, int]
NO_SUMMARY: Summary = (0, 0, 0)

Measure = Callable[[bytes], Summary]
"""What a level-0 value adds to the sums kept above it (for a directory: bytes, files, directories)."""


class NodesMissing(Exception):
    """A reader that may not wait lacks these nodes: fetch them and ask again."""

    def __init__(self, hashes: list[bytes]) -> None:
        super().__init__(f"{len(hashes)} tree nodes are not at hand")
        self.hashes = hashes


class NodeReader(Protocol):
    """Where nodes come from."""

    def get(self, node_hash: bytes) -> Node:
        """The node of that name. Raises CorruptError when it is lost, NodesMissing when it must be fetched."""


class NodeStore(NodeReader, Protocol):
    """Where nodes are kept."""

    def put(self, node_hash: bytes, data: bytes) -> None:
        """Keep a node's bytes under its name; a second time does nothing."""


class Node:
    """A decoded node: its level, its keys in order and their values."""

    __slots__ = ("keys", "level", "values")

    def __init__(self, level: int, keys: list[bytes], values: list[bytes]) -> None:
        self.level = level
        self.keys = keys
        self.values = values

    def find(self, key: bytes) -> int:
        """Index of the first key not below `key`; the count where there is none."""
        return bisect_left(self.keys, key)

    def child(self, index: int) -> bytes:
        """The hash of a child; the node's level is above 0."""
        return self.values[index][:HASH_BYTES]


def encode_node(node: Node) -> bytes:
    """The bytes of a node."""
    return _core.encode_node(node.level, node.keys, node.values)


def decode_node(data: bytes) -> Node:
    """The node of these bytes; raises CorruptError when they are not one."""
    try:
        node = Node(*_core.decode_node(data))
    except ValueError as error:
        raise CorruptError(str(error)) from None
    if node.level and (not node.keys or min(map(len, node.values)) <= HASH_BYTES):
        raise CorruptError("a tree node lacks the nodes below it")
    return node


def node_hash(data: bytes) -> bytes:
    """The name of the node with these bytes."""
    return blake3(data, derive_key_context=NODE_CONTEXT).digest()


_EMPTY_NODE = Node(0, [], [])
EMPTY = node_hash(encode_node(_EMPTY_NODE))
"""The root hash of the empty tree."""


def load(nodes: NodeReader, root: bytes) -> Node:
    """The node named `root`, which may be the empty tree's."""
    return _EMPTY_NODE if root == EMPTY else nodes.get(root)


def decode_summary(value: bytes) -> Summary:
    """The sums in a value above level 0; raises CorruptError."""
    try:
        a, at = varint.decode(value, HASH_BYTES)
        b, at = varint.decode(value, at)
        c, at = varint.decode(value, at)
    except IndexError:
        raise CorruptError("a tree node's sums can't be decoded") from None
    return a, b, c


def summarize(node: Node, measure: Measure) -> Summary:
    """The sums over all that lies below `node`."""
    if node.level:
        try:
            return _core.add_summaries(node.values)
        except ValueError as error:
            raise CorruptError(str(error)) from None
    a = b = c = 0
    for value in node.values:
        x, y, z = measure(value)
        a, b, c = a + x, b + y, c + z
    return a, b, c


# --- reading ---------------------------------------------------------------------------------------------


def get(nodes: NodeReader, root: bytes, key: bytes) -> bytes | None:
    """The value of `key`, or None."""
    node = load(nodes, root)
    while True:
        index = node.find(key)
        if index == len(node.keys):
            return None
        if node.level == 0:
            return node.values[index] if node.keys[index] == key else None
        node = nodes.get(node.child(index))


def items(nodes: NodeReader, root: bytes, start: bytes = b"") -> Iterator[Pair]:
    """All pairs whose keys are not below `start`, in key order."""
    cursor = _Cursor(nodes, root)
    cursor.seek(start, 0)
    while not cursor.done:
        node, index = cursor.stack[-1]
        yield from zip(node.keys[index:], node.values[index:], strict=True)
        cursor.next_node()


def descending(nodes: NodeReader, root: bytes, below: bytes | None = None) -> Iterator[Pair]:
    """All pairs whose keys are below `below`, or all where it is None, from the last to the first."""
    stack: list[tuple[Node, int]] = []
    node = load(nodes, root)
    while node.level:
        last = len(node.keys) - 1
        index = last if below is None else min(node.find(below), last)
        stack.append((node, index))
        node = nodes.get(node.child(index))
    end = len(node.keys) if below is None else node.find(below)
    yield from zip(node.keys[:end][::-1], node.values[:end][::-1], strict=True)
    while stack:
        node, index = stack.pop()
        if index == 0:
            continue
        stack.append((node, index - 1))
        node = nodes.get(node.child(index - 1))
        while node.level:
            stack.append((node, len(node.keys) - 1))
            node = nodes.get(node.child(len(node.keys) - 1))
        yield from zip(node.keys[::-1], node.values[::-1], strict=True)


def last(nodes: NodeReader, root: bytes, below: bytes | None = None) -> Pair | None:
    """The pair with the greatest key, of those below `below` where it is given, or None."""
    return next(descending(nodes, root, below), None)


class _Cursor:
    """A position in a tree: the path of (node, index) from the root down to some level."""

    def __init__(self, nodes: NodeReader, root: bytes) -> None:
        self.nodes = nodes
        self.root = load(nodes, root)
        self.stack: list[tuple[Node, int]] = []

    @property
    def done(self) -> bool:
        return not self.stack

    @property
    def node(self) -> Node:
        return self.stack[-1][0]

    def seek(self, key: bytes, level: int) -> None:
        """Go to the node of `level` that holds `key`, or would; done when `key` is above all keys."""
        self.stack = []
        node = self.root
        while True:
            index = node.find(key)
            if index == len(node.keys):
                self.stack = []
                return
            self.stack.append((node, index))
            if node.level <= level:
                return
            node = self.nodes.get(node.child(index))

    def seek_last(self, level: int) -> None:
        """Go to the last node of `level`."""
        self.stack = []
        node = self.root
        while True:
            self.stack.append((node, len(node.keys) - 1))
            if node.level <= level:
                return
            node = self.nodes.get(node.child(len(node.keys) - 1))

    def previous_key(self) -> bytes | None:
        """The last key of the node before, of the same level; None in the first one."""
        for node, index in reversed(self.stack[:-1]):
            if index:
                return node.keys[index - 1]
        return None

    def previous_node(self) -> None:
        """Go to the node before, of the same level, which is there."""
        level = self.stack.pop()[0].level
        while self.stack[-1][1] == 0:
            self.stack.pop()
        node, index = self.stack.pop()
        self.stack.append((node, index - 1))
        while node.level > level:
            node = self.nodes.get(self.stack[-1][0].child(self.stack[-1][1]))
            self.stack.append((node, len(node.keys) - 1))

    def next_node(self) -> None:
        """Go to the first pair of the next node of the same level."""
        level = self.stack.pop()[0].level
        while self.stack:
            node, index = self.stack.pop()
            if index + 1 < len(node.keys):
                self.stack.append((node, index + 1))
                self.descend(level)
                return

    def descend(self, level: int) -> None:
        """Go down to the first pair below the present one, as far as `level`."""
        node, index = self.stack[-1]
        while node.level > level:
            node = self.nodes.get(node.child(index))
            index = 0
            self.stack.append((node, index))


# --- writing ---------------------------------------------------------------------------------------------


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


RUN = 1024
"""Mutations that are worth handing to `Update.apply` at once."""


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
                    return _collapse(self._nodes, children[0][:HASH_BYTES], writer.level), decode_summary(children[0])
            base = self._root if writer.level < top else EMPTY
            writer = _Level(self._nodes, base, writer.level + 1, self._measure)
            writer.apply(above)
        return self._root, summarize(load(self._nodes, self._root), self._measure)


def _collapse(nodes: NodeReader, root: bytes, level: int) -> bytes:
    """The lowest node that holds the whole tree below `root`, a node of that level."""
    while level:
        node = nodes.get(root)
        if len(node.keys) > 1:
            return root
        root = node.child(0)
        level = node.level - 1
    return root


class _Level:
    """Rewrites the nodes of one level that mutations touch, and gathers what the level above must change."""

    def __init__(self, nodes: NodeStore, root: bytes, level: int, measure: Measure) -> None:
        self.level = level
        self._nodes = nodes
        self._measure = measure
        self._base = None if root == EMPTY else _Cursor(nodes, root)
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

    def _step_back(self, base: _Cursor) -> None:
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

    def _take(self, base: _Cursor) -> None:
        self._old, self._at = base.node, 0
        self._above[self._old.keys[-1]] = None
        self._taken[self._old.keys[-1]] = self._old
        base.next_node()

    def _advance(self, base: _Cursor) -> None:
        """Go past the present old node: to the next one, unless the new nodes end where it does."""
        if self._keys:
            self._take(base)
        else:
            self._old = None

    def _merge(self, base: _Cursor, run: Sequence[Mutation], at: int) -> int:
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
        summary = summarize(node, self._measure)
        self._above[keys[-1]] = name + b"".join(map(varint.encode, summary))


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


# --- comparing -------------------------------------------------------------------------------------------


def diff(
    nodes: NodeReader, old: bytes, new: bytes, *, removals: bool = True
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """The keys whose values differ, in order, each with its old and its new value (None: not there).

    Nodes that both trees share are skipped unread. Without `removals`, keys that only the old tree has are left
    out, and nodes that hold nothing else need not be read.
    """
    if old == new:
        return
    a, b = _Walk(nodes, old), _Walk(nodes, new)
    while not (a.done or b.done):
        if a.level == b.level and a.pair == b.pair:
            a.skip()
            b.skip()
        elif not removals and not b.level and a.pair[0] < b.pair[0]:
            a.skip()
        elif a.level or b.level:
            deeper = max(a.level, b.level)
            if a.level == deeper:
                a.down()
            if b.level == deeper and b.level:
                b.down()
        else:
            (key_a, value_a), (key_b, value_b) = a.pair, b.pair
            if key_a <= key_b:
                a.skip()
            if key_b <= key_a:
                b.skip()
            if key_a == key_b:
                yield key_a, value_a, value_b
            elif key_a < key_b:
                yield key_a, value_a, None
            else:
                yield key_b, None, value_b
    if removals:
        for key, value in a.rest():
            yield key, value, None
    for key, value in b.rest():
        yield key, None, value


class _Walk:
    """A walk over a tree that can pass a whole child at once."""

    def __init__(self, nodes: NodeReader, root: bytes) -> None:
        self.nodes = nodes
        node = load(nodes, root)
        self.stack: list[tuple[Node, int]] = [(node, 0)] if node.keys else []

    @property
    def done(self) -> bool:
        return not self.stack

    @property
    def level(self) -> int:
        return self.stack[-1][0].level

    @property
    def pair(self) -> Pair:
        node, index = self.stack[-1]
        return node.keys[index], node.values[index]

    def down(self) -> None:
        """Go to the first pair of the present child."""
        node, index = self.stack[-1]
        self.stack.append((self.nodes.get(node.child(index)), 0))

    def skip(self) -> None:
        """Go past the present pair and all that is below it."""
        node, index = self.stack.pop()
        while index + 1 == len(node.keys):
            if not self.stack:
                return
            node, index = self.stack.pop()
        self.stack.append((node, index + 1))

    def rest(self) -> Iterator[Pair]:
        """The level-0 pairs from the present position on."""
        while not self.done:
            if self.level:
                self.down()
                continue
            node, index = self.stack[-1]
            yield from zip(node.keys[index:], node.values[index:], strict=True)
            self.stack[-1] = node, len(node.keys) - 1
            self.skip()
