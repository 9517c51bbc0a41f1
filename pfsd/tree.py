"""History-independent search trees of content-addressed nodes ("prolly trees").

A tree maps byte-string keys to byte-string values. Its shape, and so the hash of its root, depends only on
the pairs in it, never on the order in which they came: a key ends a node of level L when the key's rank is
above L, and the rank comes from the key's own hash (`pfsd._core.rank`, geometric with p = 1/128). So equal
trees have equal roots, a change rewrites one node per level, and two trees are compared by skipping nodes
of equal hash.

A node's bytes (all integers unsigned LEB128 unless said otherwise):

    "PT" 0x01 | level, 1 byte | count | count * (key length | key | value length | value)

Values at level 0 are the caller's. Above it a value is `child hash, 32 bytes | summary`, and the key is the last
key below the child. The summary is three integers, sums over the level-0 values below: see `Measure`.
A node's name is the BLAKE3 hash of its bytes in derive-key mode with the context `NODE_CONTEXT`. The empty
tree is the level-0 node without entries; it is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from blake3 import blake3

from pfsd import varint
from pfsd._core import rank
from pfsd.errors import CorruptError

NODE_CONTEXT = "pfsd 2026-11 tree node v1"
HASH_BYTES = 32

Pair = tuple[bytes, bytes]
Mutation = tuple[bytes, bytes | None]
"""A key with its new value, or with None to remove it."""

Summary = tuple[int, int, int]
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
        low, high = 0, len(self.keys)
        while low < high:
            middle = (low + high) // 2
            if self.keys[middle] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def child(self, index: int) -> bytes:
        """The hash of a child; the node's level is above 0."""
        return self.values[index][:HASH_BYTES]


def encode_node(node: Node) -> bytes:
    """The bytes of a node."""
    parts = [b"PT\x01", bytes((node.level,)), varint.encode(len(node.keys))]
    for key, value in zip(node.keys, node.values, strict=True):
        parts += (varint.encode(len(key)), key, varint.encode(len(value)), value)
    return b"".join(parts)


def decode_node(data: bytes) -> Node:
    """The node of these bytes; raises CorruptError when they are not one."""
    try:
        if data[:3] != b"PT\x01":
            raise CorruptError("a tree node does not begin with its signature")
        level = data[3]
        count, at = varint.decode(data, 4)
        keys, values = [], []
        for _ in range(count):
            size, at = varint.decode(data, at)
            keys.append(data[at : at + size])
            at += size
            size, at = varint.decode(data, at)
            values.append(data[at : at + size])
            at += size
    except IndexError:
        at = -1
    if at != len(data):
        raise CorruptError("a tree node's length is wrong")
    return Node(level, keys, values)


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
    """The sums in a value above level 0."""
    a, at = varint.decode(value, HASH_BYTES)
    b, at = varint.decode(value, at)
    c, at = varint.decode(value, at)
    return a, b, c


def summarize(node: Node, measure: Measure) -> Summary:
    """The sums over all that lies below `node`."""
    of = decode_summary if node.level else measure
    a = b = c = 0
    for value in node.values:
        x, y, z = of(value)
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
    top = load(nodes, root).level
    level = 0
    while True:
        base = _Cursor(nodes, root) if level <= top and root != EMPTY else None
        above = _update_level(nodes, base, level, mutations, measure)
        if not above:
            return root
        if level >= top:  # all nodes of this level were rewritten: they are all in `above`
            children = [value for _, value in above if value is not None]
            if not children:
                return EMPTY
            if len(children) == 1:
                return _collapse(nodes, children[0][:HASH_BYTES])
        mutations = above
        level += 1


def _update_level(
    nodes: NodeStore, base: _Cursor | None, level: int, mutations: Iterable[Mutation], measure: Measure
) -> list[Mutation]:
    """Rewrite the nodes of one level that `mutations` touch; returns the mutations of the level above."""
    writer = _Writer(nodes, level, measure)
    queue = iter(mutations)
    change = next(queue, None)
    if base is None:
        while change is not None:
            if change[1] is not None:
                writer.add(change[0], change[1])
            change = next(queue, None)
    while change is not None and base is not None:
        base.seek(change[0], level)
        if base.done:
            base.seek_last(level)
        aligned = False
        while not aligned:
            old = base.node
            base.next_node()
            writer.above[old.keys[-1]] = None
            for key, value in zip(old.keys, old.values, strict=True):
                while change is not None and change[0] < key:
                    if change[1] is not None:
                        writer.add(change[0], change[1])
                    change = next(queue, None)
                if change is not None and change[0] == key:
                    if change[1] is not None:
                        writer.add(key, change[1])
                    change = next(queue, None)
                else:
                    writer.add(key, value)
            while base.done and change is not None:
                if change[1] is not None:
                    writer.add(change[0], change[1])
                change = next(queue, None)
            aligned = base.done or not writer.keys
    writer.flush()
    return sorted(writer.above.items())


def _collapse(nodes: NodeReader, root: bytes) -> bytes:
    """The lowest node that holds the whole tree below `root`."""
    while True:
        node = nodes.get(root)
        if node.level == 0 or len(node.keys) > 1:
            return root
        root = node.child(0)


class _Writer:
    """Cuts a level's ascending pairs into nodes and gathers what the level above must change."""

    def __init__(self, nodes: NodeStore, level: int, measure: Measure) -> None:
        self.nodes = nodes
        self.level = level
        self.measure = measure
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.above: dict[bytes, bytes | None] = {}

    def add(self, key: bytes, value: bytes) -> None:
        self.keys.append(key)
        self.values.append(value)
        if rank(key) > self.level:
            self.flush()

    def flush(self) -> None:
        if not self.keys:
            return
        node = Node(self.level, self.keys, self.values)
        data = encode_node(node)
        name = node_hash(data)
        self.nodes.put(name, data)
        summary = summarize(node, self.measure)
        self.above[self.keys[-1]] = name + b"".join(map(varint.encode, summary))
        self.keys, self.values = [], []


# --- comparing -------------------------------------------------------------------------------------------


def diff(nodes: NodeReader, old: bytes, new: bytes) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """The keys whose values differ, in order, each with its old and its new value (None: not there).

    Nodes that both trees share are skipped unread.
    """
    if old == new:
        return
    a, b = _Walk(nodes, old), _Walk(nodes, new)
    while not (a.done and b.done):
        if a.done or b.done:
            rest = b if a.done else a
            if rest.level:
                rest.down()
                continue
            key, value = rest.pair
            yield (key, None, value) if a.done else (key, value, None)
            rest.skip()
        elif a.level == b.level and a.pair == b.pair:
            a.skip()
            b.skip()
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
