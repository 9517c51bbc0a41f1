"""Tree nodes in RocksDB, with a cache of decoded ones."""

from __future__ import annotations

import threading
from collections import OrderedDict

from pfsd.errors import CorruptError
from pfsd.local.kv import Database
from pfsd.runtime import cancelling
from pfsd.runtime.references import References
from pfsd.trees.tree import Node, decode_node

CACHED_NODES = 1024

GATHERED_BYTES = 1 << 20
"""Nodes are written once they are so many bytes together."""


class HeldNodes:
    """A `pfsd.trees.tree.NodeReader` that notes every node it reads, so that a collection under way leaves it.

    For taking over trees that may be garbage by now: what can be read through it stays.
    """

    def __init__(self, nodes: DatabaseNodes, references: References) -> None:
        self._nodes = nodes
        self._references = references

    def get(self, node_hash: bytes) -> Node:
        self._references.note(node_hash)
        return decode_node(self._nodes.raw([node_hash])[0])  # not from the cache, which may outlive the node


class DatabaseNodes:
    """A `pfsd.trees.tree.NodeStore` over the `nodes` column family. Safe to use from many threads."""

    def __init__(self, database: Database, references: References) -> None:
        self._db = database
        self._references = references
        self.held = HeldNodes(self, references)
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, Node] = OrderedDict()

    def get(self, node_hash: bytes) -> Node:
        cancelling.check()
        with self._lock:
            node = self._cache.get(node_hash)
            if node is not None:
                self._cache.move_to_end(node_hash)
                return node
        node = decode_node(self.raw([node_hash])[0])
        with self._lock:
            self._cache[node_hash] = node
            if len(self._cache) > CACHED_NODES:
                self._cache.popitem(last=False)
        return node

    def put(self, node_hash: bytes, data: bytes) -> None:
        self._references.note(node_hash)
        batch = self._db.batch()
        batch.put("nodes", node_hash, data)
        self._db.write(batch)

    def remove(self, hashes: list[bytes]) -> int:
        """Remove nodes that a collection found unreachable, but for those that are held; how many went."""
        with self._references.lock:
            unheld = [name for name in hashes if not self._references.is_held(name)]
            batch = self._db.batch()
            for name in unheld:
                batch.delete("nodes", name)
            self._db.write(batch)
        with self._lock:
            for name in unheld:
                self._cache.pop(name, None)
        return len(unheld)

    def gather(self) -> GatheredNodes:
        """A view that writes many nodes at once, for one thread."""
        return GatheredNodes(self, self._db, self._references)

    def raw(self, hashes: list[bytes]) -> list[bytes]:
        """The bytes of nodes, in the order asked for; raises CorruptError when one is lost."""
        found = []
        for name, data in zip(hashes, self._db.get_many("nodes", hashes), strict=True):
            if data is None:
                raise CorruptError(f"tree node {name.hex()} is missing from the store")
            found.append(data)
        return found


class GatheredNodes:
    """A `pfsd.trees.tree.NodeStore` over another, whose new nodes are in the database when `flush` has returned."""

    def __init__(self, below: DatabaseNodes, database: Database, references: References) -> None:
        self._below = below
        self._db = database
        self._references = references
        self._waiting: dict[bytes, bytes] = {}
        self._bytes = 0

    def get(self, node_hash: bytes) -> Node:
        data = self._waiting.get(node_hash)
        return self._below.get(node_hash) if data is None else decode_node(data)

    def put(self, node_hash: bytes, data: bytes) -> None:
        self._references.note(node_hash)
        if node_hash not in self._waiting:
            self._waiting[node_hash] = data
            self._bytes += len(data)
            if self._bytes >= GATHERED_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            batch = self._db.batch()
            for node_hash, data in self._waiting.items():
                batch.put("nodes", node_hash, data)
            self._db.write(batch)
            self._waiting.clear()
            self._bytes = 0
