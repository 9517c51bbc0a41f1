"""Tree nodes in RocksDB, with a cache of decoded ones."""

from __future__ import annotations

import threading
from collections import OrderedDict

from pfsd.errors import CorruptError
from pfsd.kv import Database
from pfsd.tree import Node, decode_node

CACHED_NODES = 1024


class DatabaseNodes:
    """A `pfsd.tree.NodeStore` over the `nodes` column family. Safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, Node] = OrderedDict()

    def get(self, node_hash: bytes) -> Node:
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
        batch = self._db.batch()
        batch.put("nodes", node_hash, data)
        self._db.write(batch)

    def raw(self, hashes: list[bytes]) -> list[bytes]:
        """The bytes of nodes, in the order asked for; raises CorruptError when one is lost."""
        found = []
        for name, data in zip(hashes, self._db.get_many("nodes", hashes), strict=True):
            if data is None:
                raise CorruptError(f"tree node {name.hex()} is missing from the store")
            found.append(data)
        return found
