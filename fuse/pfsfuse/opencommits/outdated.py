"""Finds out from two trees of a commit what became of things between them.

Of two clients that write one file, the one that closes it last wins. A small file is sent a moment after it was closed.
If another client has put something there by then, that came later, and counts.

A call that moves something and is not answered may have been taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from pfsd import _core
from pfsd.errors import CorruptError, UnavailableError
from pfsd.names.paths import Path
from pfsd.trees import entries
from pfsd.trees.entries import DirEntry
from pfsfuse.client.writes import Move
from pfsfuse.content.content import Content
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.opentree import OpenTree

_TRIES = 4


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


async def move_once(tree: OpenTree, moves: Sequence[Move], move: Callable[[], Awaitable[bytes]]) -> bytes:
    """The root of the commit's tree after `move` has made the moves.

    It is called again where the daemon went before it answered, and the moves were not made. Raises UnavailableError
    where that can't be told.
    """
    before, tries = tree.root, _TRIES
    while True:
        try:
            return await move()
        except UnavailableError:
            tries -= 1
            await tree.refresh()
            is_made = await _has_moved(tree, before, moves)
            if is_made:
                return tree.root
            if is_made is None or not tries:
                raise


async def _has_moved(tree: OpenTree, before: bytes, moves: Sequence[Move]) -> bool | None:
    """Whether the commit, whose tree was `before`, has all that was to move at its new place; None if unknown."""
    ends = [path for move in moves for path in move]
    try:
        old, new = [{path: await _value_at(tree.content, root, path) for path in ends} for root in (before, tree.root)]
    except CorruptError:  # the former tree is garbage by now
        return None
    left: dict[Path, bytes | None] = {source: None for source, _ in moves}
    if new == {**left, **{target: old[source] for source, target in moves}}:
        return True
    return False if new == old else None


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
