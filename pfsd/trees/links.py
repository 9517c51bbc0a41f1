"""Which names below a directory are hard links."""

from __future__ import annotations

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry
from pfsd.trees.tree import NodeReader, NodesMissing

_MOST_MISSING = 512
"""Nodes that are asked for at a time."""

LinkedName = tuple[tuple[bytes, ...], bytes]
"""The keys that lead to a name that has a link, and its encoded entry."""


class LinkWalk:
    """Finds all names below a directory that have a link. What holds none is not read.

    `run` may be called again after NodesMissing, once the nodes are there: it goes on where it was.
    """

    def __init__(self, nodes: NodeReader, top: DirEntry) -> None:
        self._nodes = nodes
        self._found: list[LinkedName] = []
        self._waiting: list[tuple[tuple[bytes, ...], bytes]] = [((), top.root)] if top.links else []
        """Nodes that have to be read, each with the directory that it belongs to."""

    def run(self) -> list[LinkedName]:
        """The names, in order. Raises NodesMissing, and CorruptError."""
        missing: list[tuple[tuple[bytes, ...], bytes]] = []
        while self._waiting and len(missing) < _MOST_MISSING:
            path, name = self._waiting.pop()
            try:
                node = tree.load(self._nodes, name)
            except NodesMissing:
                missing.append((path, name))
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                self._visit(path, key, value, node.level)
        self._waiting += missing
        if missing:
            raise NodesMissing([name for _, name in missing])
        return sorted(self._found)

    def _visit(self, path: tuple[bytes, ...], key: bytes, value: bytes, level: int) -> None:
        if level:
            if tree.decode_summary(value).links:
                self._waiting.append((path, value[: tree.HASH_BYTES]))
            return
        try:
            links = _core.measure_entry(value)[3]
        except ValueError as error:
            raise CorruptError(str(error)) from None
        if not links:
            return
        entry = entries.decode(value)
        if isinstance(entry, DirEntry):
            self._waiting.append(((*path, key), entry.root))
        else:
            self._found.append(((*path, key), value))


def link_of(value: bytes) -> bytes:
    """The link of an encoded entry; empty where it has none."""
    return _core.stat_entry(value)[6] or b""
