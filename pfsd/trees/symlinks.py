"""Paths that go through symbolic links: what they lead to, in the commit that holds them."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from pfsd.errors import InvalidError, NotFoundError
from pfsd.names.bytenames import stored_name
from pfsd.names.paths import MAX_PATH_BYTES, Path, join
from pfsd.trees import dirs
from pfsd.trees.entries import DirEntry, Entry, SymlinkEntry
from pfsd.trees.tree import NodeReader

MOST_FOLLOWED = 40
"""Links on the way to a file, as many as the kernel follows."""


def resolve(nodes: NodeReader, top: DirEntry, path: Path) -> tuple[Path, Entry] | None:
    """Where a path leads below `top` when every link on it is followed, and what is there; None where nothing is.

    A path without links is answered as it is. Raises NotFoundError for a link that leads to nothing, InvalidError for
    one that leads out of the commit, or in a circle.
    """
    found: list[tuple[str, Entry]] = []
    waiting: deque[str | None] = deque(path)
    followed: list[_Followed] = []
    count = size = 0
    while waiting:
        name = waiting.popleft()
        if name is None:
            followed.pop()
            continue
        if name in ("", "."):
            continue
        if name == "..":
            if not found:
                raise _wrong(followed[-1], "leads out of the commit")
            found.pop()
            continue
        above = found[-1][1] if found else top
        entry = dirs.child(nodes, above, name) if isinstance(above, DirEntry) else None
        if entry is None:
            if not followed:
                return None
            raise NotFoundError(_told(followed[-1], "leads to nothing"))
        if not isinstance(entry, SymlinkEntry):
            found.append((name, entry))
            continue
        link = _Followed((*(each for each, _ in found), name), entry.target)
        count, size = count + 1, size + len(entry.target)
        if count > MOST_FOLLOWED or size > MAX_PATH_BYTES:
            raise _wrong(link, "leads through too many links: it may lead in a circle")
        if entry.target.startswith(b"/"):
            raise _wrong(link, "leads out of the commit")
        followed.append(link)
        waiting.appendleft(None)
        waiting.extendleft(reversed(stored_name(entry.target).split("/")))
    return tuple(name for name, _ in found), found[-1][1] if found else top


class _Followed(NamedTuple):
    """A link whose target is being looked up."""

    path: Path
    target: bytes


def target_of(nodes: NodeReader, top: DirEntry, path: Path, link: SymlinkEntry) -> Entry | None:
    """What the link at `path` leads to; None where that is nothing, out of the commit, or a circle."""
    try:
        found = resolve(nodes, top, path)
    except (NotFoundError, InvalidError):
        return None
    return None if found is None or found[1] is link else found[1]


def _told(link: _Followed, what: str) -> str:
    return f"{join(link.path)} is a symbolic link to {stored_name(link.target)} and {what}"


def _wrong(link: _Followed, what: str) -> InvalidError:
    return InvalidError(_told(link, what))
