"""Tree nodes kept in memory: what can be answered without waiting, and what must be fetched first."""

from __future__ import annotations

from collections import OrderedDict

from pfsd.errors import CorruptError
from pfsd.trees import tree
from pfsd.trees.tree import Node, NodesMissing

LIMIT = 96 << 20
"""Default limit of a cache, in bytes of memory."""

_ENTRY_BYTES = 130
"""What a decoded entry costs beside its bytes: two objects and two list slots."""


class NodeCache:
    """A `pfsd.trees.tree.NodeReader` over the nodes used last, as many as fit into `limit` bytes of memory.

    `get` raises NodesMissing for a node that is not here.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._nodes: OrderedDict[bytes, tuple[Node, int]] = OrderedDict()
        self._held = 0

    def __contains__(self, node_hash: bytes) -> bool:
        return node_hash in self._nodes or node_hash == tree.EMPTY

    @property
    def held(self) -> int:
        """Bytes of memory that the nodes take, about."""
        return self._held

    def get(self, node_hash: bytes) -> Node:
        """The node of that name."""
        found = self._nodes.get(node_hash)
        if found is None:
            raise NodesMissing([node_hash])
        self._nodes.move_to_end(node_hash)
        return found[0]

    def add(self, node_hash: bytes, node: Node, size: int) -> None:
        """Keep a node whose bytes were `size` long."""
        if node_hash in self._nodes:
            return
        cost = size + len(node.keys) * _ENTRY_BYTES
        self._nodes[node_hash] = (node, cost)
        self._held += cost
        while self._held > self._limit and len(self._nodes) > 1:
            _, (_, freed) = self._nodes.popitem(last=False)
            self._held -= freed


def verified(node_hash: bytes, data: bytes) -> Node:
    """The node with these bytes; raises CorruptError when they are not the node of that name."""
    if tree.node_hash(data) != node_hash:
        raise CorruptError(f"tree node {node_hash.hex()} does not match its hash")
    return tree.decode_node(data)
