"""What the kernel keeps of an open commit that another client has changed: which names, and having it ask again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import pyfuse3

from pfsd.names.bytenames import shown_name
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import InodeTable
from pfsfuse.kernel.kernelcache import expire
from pfsfuse.opencommits.opennodes import OpenDir

MOST_NAMES = 4000
"""Changes up to which the kernel is told of each."""
LATE_SECONDS = 0.1
"""By which the kernel may keep something too long: it counts from when it takes an answer in, and in ticks."""


class TooManyError(Exception):
    """Too much has changed to tell the kernel of each name."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What the kernel may keep of what has changed."""

    names: list[tuple[int, bytes]] = field(default_factory=list)
    """Each with the number of its directory."""
    inodes: list[int] = field(default_factory=list)


async def changes(
    content: Content, top: OpenDir, before: bytes, after: bytes, touched: Sequence[tuple[int, bytes]]
) -> Changed:
    """What differs between two trees in the directories that are known here, and what was touched besides.

    Raises TooManyError beyond `MOST_NAMES`, and what reading trees raises.
    """
    found = Changed(list(touched))
    pending = [(top, before, after)]
    while pending:
        directory, old, new = pending.pop()
        found.inodes.append(directory.ino)
        left = max(MOST_NAMES - len(found.names), -1)

        def differences(
            old: bytes = old, new: bytes = new, left: int = left
        ) -> list[tuple[bytes, bytes | None, bytes | None]]:
            return list(islice(tree.diff(content.nodes, old, new), left + 1))

        different = await content.run(differences)
        if left < 0 or len(different) > left:
            raise TooManyError(f"more than {MOST_NAMES} names have changed")
        for name, was, is_now in different:
            child = directory.children.get(name)
            if isinstance(child, OpenDir) and not child.is_local:
                pending.append((child, _root(was), _root(is_now)))
            found.names.append((directory.ino, name))
    return found


def _root(value: bytes | None) -> bytes:
    entry = None if value is None else entries.decode(value)
    return entry.root if isinstance(entry, DirEntry) else tree.EMPTY


async def forget(changed: Changed, inodes: InodeTable) -> None:
    """Have the kernel ask again for all of it."""
    for directory, name in changed.names:
        found = inodes.find(directory)
        child = found.children.get(name) if isinstance(found, OpenDir) else None
        if child is not None:
            changed.inodes.append(child.ino)
    for ino in changed.inodes:
        try:
            pyfuse3.invalidate_inode(ino, attr_only=True)
        except OSError:  # it does not know it
            continue
    await expire([(directory, shown_name(name)) for directory, name in changed.names])
