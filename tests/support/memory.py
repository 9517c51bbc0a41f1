"""Tree nodes in memory, for tests of pure tree code."""

from __future__ import annotations

from pfsd.errors import CorruptError
from pfsd.trees import tree


class MemoryNodes:
    """A NodeStore that counts what is read and written."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.reads = 0
        self.writes = 0

    def get(self, node_hash: bytes) -> tree.Node:
        self.reads += 1
        if node_hash not in self.data:
            raise CorruptError(f"no node {node_hash.hex()}")
        return tree.decode_node(self.data[node_hash])

    def put(self, node_hash: bytes, data: bytes) -> None:
        self.writes += 1
        self.data[node_hash] = data
