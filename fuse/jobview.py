"""The job view: what a worker mounts at /pfs, narrowed to the datum in hand.

The root holds a directory for each input name, and `out`, over which the worker binds its scratch directory.
Below an input's name stands only what the datum has of it, at its path in the repo. Inputs marked lazy are
shown as ordinary files: their bytes are fetched when they are read, like all others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fuse.content import Content
from fuse.inodes import ChangingDir, Found, Inode, Snapshot
from fuse.view import FOREVER, View
from pfsd import dirs, entries, paths
from pfsd.entries import DirEntry, Entry
from pfsd.paths import Path

OUT = "out"
"""The name of the output directory in the root."""


@dataclass(frozen=True, slots=True)
class JobInput:
    """One entry of a datum: a file or directory of an input commit."""

    name: str
    """The input's name: its directory in the view."""
    repo: str
    commit: str
    """Commit id."""
    time_ns: int
    """The commit's time, in nanoseconds since 1970."""
    path: Path
    """Where `entry` stands in the repo; empty for the whole tree."""
    entry: Entry
    lazy: bool = False
    """Shown no differently; see the module."""


@dataclass(slots=True)
class _Branching:
    """A directory that holds some of what the repo's has: names to such directories or to entries."""

    time_ns: int
    children: dict[str, _Branching | JobInput] = field(default_factory=dict)


class JobView(View):
    """A file system that shows one datum at a time; `show` switches."""

    def __init__(self, content: Content) -> None:
        self._datum = _Datum(_Branching(time.time_ns()))
        super().__init__(content, _Shown(None, b"", (), self._datum))

    def show(self, inputs: Sequence[JobInput]) -> None:
        """Show this datum from now on. Entries of the same input name are merged.

        What an entry holds keeps its inodes, and so what the kernel has of it, while the datum after it
        has the same entry at the same path.
        """
        self._datum.top = _merge(inputs)

    async def lookup_path(self, path: str) -> Entry | None:
        """The entry that /pfs/NAME/... stands for in the present datum.

        None where there is nothing, and for directories of which the datum has only a part. Raises
        InvalidError for a path that leads out of /pfs.
        """
        parts = paths.parse(path)
        if parts[:1] != ("pfs",):
            return None
        shown: _Branching | JobInput | None = self._datum.top
        for at, name in enumerate(parts[1:], 1):
            if isinstance(shown, JobInput):
                return await self._below(shown.entry, parts[at:])
            shown = None if shown is None else shown.children.get(name)
        return shown.entry if isinstance(shown, JobInput) else None

    async def _below(self, entry: Entry, path: Path) -> Entry | None:
        if not isinstance(entry, DirEntry):
            return None
        return await self.content.run(lambda: dirs.lookup(self.content.nodes, entry, path))

    async def totals(self) -> tuple[int, int]:
        """Bytes and files of the datum in hand."""
        size = files = 0
        for entry in _entries(self._datum.top):
            size += entry.size
            files += entry.files if isinstance(entry, DirEntry) else 1
        return size, files


@dataclass(slots=True)
class _Datum:
    """What is shown now."""

    top: _Branching


class _Shown(ChangingDir):
    """A directory of the root, or one of which the datum has a part, by its path in the view."""

    __slots__ = ("_datum", "_path")

    def __init__(self, parent: Inode | None, key: bytes, path: Path, datum: _Datum) -> None:
        super().__init__(parent, key, 0)
        self._path = path
        self._datum = datum

    @property
    def time_ns(self) -> int:
        here = self._here()
        return here.time_ns if here is not None else 0

    async def find(self, name: str) -> Found | None:
        here = self._here()
        child = None if here is None else here.children.get(name)
        if child is not None:
            return self._found(name, child)
        return self._out() if self._holds_out() and name == OUT else None

    async def listing(self) -> list[Found]:
        here = self._here()
        children = {} if here is None else here.children
        found = [self._found(name, child) for name, child in children.items()]
        if self._holds_out():
            found.append(self._out())
        return sorted(found, key=lambda item: item.inode.name)

    def _here(self) -> _Branching | None:
        here: _Branching | JobInput | None = self._datum.top
        for name in self._path:
            here = here.children.get(name) if isinstance(here, _Branching) else None
        return here if isinstance(here, _Branching) else None

    def _holds_out(self) -> bool:
        return not self._path

    def _out(self) -> Found:
        return Found(_Shown(self, OUT.encode(), (OUT,), self._datum), FOREVER)

    def _found(self, name: str, child: _Branching | JobInput) -> Found:
        if isinstance(child, _Branching):
            return Found(_Shown(self, name.encode(), (*self._path, name), self._datum), 0.0)
        value = entries.encode(child.entry)
        snapshot = Snapshot(child.repo, child.commit, child.time_ns)
        identity = f"{child.repo}/{child.time_ns}/".encode() + value
        return Found(Inode(self, name.encode() + b"/" + identity, snapshot, value), 0.0)


def _merge(inputs: Sequence[JobInput]) -> _Branching:
    top = _Branching(max((item.time_ns for item in inputs), default=time.time_ns()))
    for item in inputs:
        here = top
        *above, last = (item.name, *item.path)
        for name in above:
            below = here.children.get(name)
            if isinstance(below, JobInput):  # a directory that holds this entry is shown as a whole
                break
            if below is None:
                below = here.children[name] = _Branching(item.time_ns)
            here = below
        else:
            here.children[last] = item
    return top


def _entries(here: _Branching) -> list[Entry]:
    found: list[Entry] = []
    for child in here.children.values():
        found += [child.entry] if isinstance(child, JobInput) else _entries(child)
    return found
