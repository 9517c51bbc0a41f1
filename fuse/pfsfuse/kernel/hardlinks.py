"""Names of a tree that are one file: they have one inode, and the kernel is told how many they are."""

from __future__ import annotations

from collections import Counter, OrderedDict
from hashlib import blake2b

import trio

from pfsd.trees.entries import DirEntry
from pfsd.trees.links import LinkWalk
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import ChangingDir, Inode, LinkedFile

MOST_NAMES = 200_000
"""Of a tree that has more linked names, each is shown as a file of its own."""
_TREES = 4

Table = Counter[bytes]
"""How many names have a linked entry, by the hash of the entry."""


class HardLinks:
    """How many names the linked files have of the trees that were looked at last."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._tables: OrderedDict[bytes, Table] = OrderedDict()
        self._reading = trio.Lock()

    async def table(self, directory: Inode) -> Table | None:
        """For the tree that a directory belongs to; None where nothing in the directory is linked."""
        if not (await directory.directory()).links:
            return None
        top = await tree_top(directory).directory()
        async with self._reading:
            found = self._tables.get(top.root)
            if found is None:
                found = self._tables[top.root] = await self._count(top)
            self._tables.move_to_end(top.root)
            if len(self._tables) > _TREES:
                self._tables.popitem(last=False)
            return found

    async def _count(self, top: DirEntry) -> Table:
        if top.links > MOST_NAMES:
            return Counter()
        names = await self._content.run(LinkWalk(self._content.nodes, top).run)
        return Counter(_key(value) for _, value in names)


def linked_file(table: Table, directory: Inode, value: bytes) -> Inode | None:
    """The inode, not settled yet, of an entry in the directory that has a link; None for a file of one name."""
    key = _key(value)
    count = table[key]
    return LinkedFile(tree_top(directory), b"/" + key, value, count) if count > 1 else None


def tree_top(directory: Inode) -> Inode:
    """The root of the tree that a directory belongs to."""
    while directory.parent is not None and not isinstance(directory.parent, ChangingDir):
        directory = directory.parent
    return directory


def _key(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
