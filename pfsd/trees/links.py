"""Names that are one file with others: finding them in a tree, of which only the parts that hold some are read."""

from __future__ import annotations

from collections.abc import Iterator

from pfsd import _core
from pfsd.names.paths import Path
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry
from pfsd.trees.tree import NodeReader, Pair


def linked(nodes: NodeReader, top: DirEntry) -> Iterator[tuple[Path, bytes]]:
    """The paths below `top` whose entries have a link, with these entries, encoded.

    Those with equal entries are one file.
    """
    pending: list[tuple[Path, bytes]] = [((), top.root)] if top.links else []
    while pending:
        path, root = pending.pop()
        for key, value in _candidates(nodes, root):
            entry = entries.decode(value) if value[0] == entries.DIRECTORY else None
            if isinstance(entry, DirEntry):
                if entry.links:
                    pending.append(((*path, key.decode()), entry.root))
            elif link_of(value):
                yield (*path, key.decode()), value


def link_of(value: bytes) -> bytes:
    """The link of an encoded entry; empty where it has none."""
    return _core.stat_entry(value)[6] or b""


def _candidates(nodes: NodeReader, root: bytes) -> Iterator[Pair]:
    """The pairs of a directory's tree, without those of nodes below which nothing has a link."""
    waiting = [root]
    while waiting:
        node = tree.load(nodes, waiting.pop())
        if node.level:
            named = [node.child(at) for at, value in enumerate(node.values) if tree.decode_summary(value).links]
            waiting += reversed(named)
        else:
            yield from zip(node.keys, node.values, strict=True)
