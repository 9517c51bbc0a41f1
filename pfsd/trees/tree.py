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
key below the child. The summary is three integers, sums over the level-0 values below: see `Measure`. In the tree of
a directory below which something has attributes, it goes on with a fourth, the number of hard links, and the hash that
the child has without those attributes: the tree's shape follows from the keys, so this is the tree that it would be.
A node's name is the BLAKE3 hash of its bytes in derive-key mode with the context `NODE_CONTEXT`. The empty
tree is the level-0 node without entries; it is never stored.

This module reads and compares trees; `pfsd.trees.writing` makes and changes them, and has `NODE_WEIGHT`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from blake3 import blake3

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import varint

NODE_CONTEXT = "pfsd 2026-11 tree node v1"
HASH_BYTES = 32

Pair = tuple[bytes, bytes]


class Summary(NamedTuple):
    """What is kept above a node of what is below it."""

    size: int = 0
    """Bytes."""
    files: int = 0
    """Of a chunk list, chunks."""
    directories: int = 0
    links: int = 0
    """Names that have a link: see `pfsd.trees.attributes`."""
    plain: bytes = b""
    """The hash that the node has without attributes; empty where it is the same."""


NO_SUMMARY = Summary()


@dataclass(frozen=True, slots=True)
class Measure:
    """What a tree's level-0 values add to the sums kept above them."""

    sums: Callable[[bytes], Summary]
    has_attributes: bool = False
    """Whether the values are entries, which may have attributes."""


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
        if at == len(value):
            return Summary(a, b, c)
        links, at = varint.decode(value, at)
    except IndexError:
        raise CorruptError("a tree node's sums can't be decoded") from None
    return Summary(a, b, c, links, value[at:])


def encode_summary(summary: Summary) -> bytes:
    """The bytes of sums, as they stand behind a child's hash."""
    counts = summary[:3] if not summary.plain else summary[:4]
    return b"".join(map(varint.encode, counts)) + summary.plain


def summarize(node: Node, measure: Measure) -> Summary:
    """The sums over all that lies below `node`."""
    try:
        plain = _plain_hash(node) if node.level or measure.has_attributes else b""
        if node.level:
            return Summary(*_core.add_summaries(node.values), plain)
    except ValueError as error:
        raise CorruptError(str(error)) from None
    sums = [measure.sums(value) for value in node.values]
    a, b, c, links = (sum(each) for each in zip(*(each[:4] for each in sums), strict=True)) if sums else (0, 0, 0, 0)
    return Summary(a, b, c, links, plain)


def _plain_hash(node: Node) -> bytes:
    """The hash that a node has without attributes; empty where there are none."""
    values = _core.plain_values(node.level, node.values)
    return b"" if values is None else node_hash(_core.encode_node(node.level, node.keys, values))


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
    cursor = Cursor(nodes, root)
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


class Cursor:
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
