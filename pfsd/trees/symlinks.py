"""Paths that go through symbolic links: what they lead to, in the commit that holds them."""

from __future__ import annotations

from collections import deque

from pfsd.errors import InvalidError, NotFoundError
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
    waiting = deque(path)
    followed: SymlinkEntry | None = None
    count = size = 0
    here: Path = ()
    while waiting:
        name = waiting.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            if not found:
                raise _wrong(here, followed, "leads out of the commit")
            found.pop()
            continue
        above = found[-1][1] if found else top
        entry = dirs.child(nodes, above, name) if isinstance(above, DirEntry) else None
        if entry is None:
            if followed is None:
                return None
            raise NotFoundError(_told(here, followed, "leads to nothing"))
        if not isinstance(entry, SymlinkEntry):
            found.append((name, entry))
            continue
        here, followed = (*(each for each, _ in found), name), entry
        count, size = count + 1, size + len(entry.target)
        if count > MOST_FOLLOWED or size > MAX_PATH_BYTES:
            raise _wrong(here, entry, "leads through too many links: it may lead in a circle")
        if entry.target.startswith(b"/"):
            raise _wrong(here, entry, "leads out of the commit")
        waiting.extendleft(reversed(entry.target.decode(errors="replace").split("/")))
    return tuple(name for name, _ in found), found[-1][1] if found else top


def target_of(nodes: NodeReader, top: DirEntry, path: Path, link: SymlinkEntry) -> Entry | None:
    """What the link at `path` leads to; None where that is nothing, out of the commit, or a circle."""
    try:
        found = resolve(nodes, top, path)
    except (NotFoundError, InvalidError):
        return None
    return None if found is None or found[1] is link else found[1]


def _told(path: Path, link: SymlinkEntry | None, what: str) -> str:
    target = "" if link is None else link.target.decode(errors="replace")
    return f"{join(path)} is a symbolic link to {target} and {what}"


def _wrong(path: Path, link: SymlinkEntry | None, what: str) -> InvalidError:
    return InvalidError(_told(path, link, what))
