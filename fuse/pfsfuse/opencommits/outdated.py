"""Finds files that were closed here, and not sent yet, before another client changed what stands at their paths.

Of two clients that write one file, the one that closes it last wins. A small file is sent a moment after it was closed.
If another client has put something there by then, that came later, and counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import entries
from pfsd.trees.entries import DirEntry
from pfsfuse.content.content import Content
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.opentree import OpenTree


class Closed(NamedTuple):
    """When a file was closed, as far as is known."""

    epoch: int
    """`OpenTree.epoch` then."""
    root: bytes | None
    """The root of the commit's tree; None where it was not known for certain."""


class Outdated(NamedTuple):
    """A file that another client has replaced or removed since it was closed."""

    node: OpenFile
    value: bytes | None
    """The entry that is there now, if any."""


Tried = dict[OpenFile, set[bytes]]
"""Entries that the daemon may have of files by now, without having said so; b"" for one that is not known."""


async def outdated(tree: OpenTree, files: Mapping[OpenFile, Closed], tried: Tried) -> list[Outdated]:
    """Those of `files` that have been replaced or removed since they were closed, by somebody else."""
    found: list[Outdated] = []
    for node, closed in list(files.items()):
        if closed.root is None or closed.epoch == tree.epoch or not node.is_linked:
            continue
        parent, path = node.parent, node.path()
        assert isinstance(parent, OpenDir)
        try:
            then, now = [await _value_at(tree.content, root, path) for root in (closed.root, tree.root)]
        except CorruptError:  # the former tree is garbage by now
            continue
        if then == now or node.key in parent.hidden or _is_own(node, now, tried.get(node, set())):
            continue
        if now is None or not entries.decode(now).is_dir:
            found.append(Outdated(node, now))
    return found


def _is_own(node: OpenFile, now: bytes | None, tried: set[bytes]) -> bool:
    """Whether what the tree has at a file's path follows from what was done here."""
    if now is None:
        return node.is_new  # what stood there before was removed or moved here
    contents = {entry[: _core.entry_end(entry)] for entry in tried if entry}
    return b"" in tried or now[: _core.entry_end(now)] in {node.content_value, *contents}


async def _value_at(content: Content, root: bytes, path: tuple[str, ...]) -> bytes | None:
    """The encoded entry at a path of a tree, or None."""
    value: bytes | None = None
    for depth, name in enumerate(path):
        value = await content.child(DirEntry(root), name.encode())
        entry = None if value is None else entries.decode(value)
        if depth + 1 < len(path):
            if not isinstance(entry, DirEntry):
                return None
            root = entry.root
    return value
