"""Hard links in an open commit: which names are one file.

Names whose entries in the commit's tree have a link, and are equal, are one file (`pfsd.trees.attributes`). The table
is read from the tree when it is first needed, follows what is done through this mount, and is read anew when another
client may have changed the commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from pfsd.names.paths import Path
from pfsd.trees.links import link_of


class _File(Protocol):
    value: bytes
    """The encoded entry that the commit's tree has."""

    @property
    def is_dirty(self) -> bool:
        """Whether the daemon lacks something that was written."""

    def path(self) -> Path:
        """Where it stands in the commit."""


class _Directory(Protocol):
    def path(self) -> Path:
        """Where it stands in the commit."""


F = TypeVar("F", bound=_File)
D = TypeVar("D", bound=_Directory)


class Group(Generic[F, D]):
    """The names of one file."""

    __slots__ = ("node", "paths", "places", "unsent")

    def __init__(self, node: F | None = None) -> None:
        self.node = node
        """The file, where the kernel or anybody else here knows it."""
        self.paths: set[Path] = set()
        self.places: set[tuple[D, bytes]] = set()
        """Those of the names that are known here, by their directories."""
        self.unsent: set[Path] = set()
        """Those of the names that the daemon lacks."""


class LinkTable(Generic[F, D]):
    """The files with several names of an open commit."""

    def __init__(self) -> None:
        self._groups: dict[Path, Group[F, D]] = {}
        self._epoch: object = None
        self.changes = 0
        """How often a name came, went or moved."""

    def files(self) -> list[F]:
        """Those of them that are known here."""
        groups = {id(group): group for group in self._groups.values()}.values()
        return [group.node for group in groups if group.node is not None]

    def is_current(self, epoch: object) -> bool:
        """Whether it was read for this state of the commit."""
        return self._epoch == epoch

    def read(self, epoch: object, found: Iterable[tuple[Path, bytes]]) -> None:
        """Take in the linked names of the tree with their entries; files that are known here keep their groups.

        They lose the names that have become those of other files, and get those that others gave them.
        """
        before = {id(group): group for group in self._groups.values()}.values()
        known = {link_of(group.node.value): group for group in before if group.node is not None}
        found = list(found)
        values: dict[bytes, set[bytes]] = {}
        for _, value in found:
            values.setdefault(link_of(value), set()).add(value)
        for group in known.values():
            group.paths = set(group.unsent)
        by_value: dict[bytes, Group[F, D]] = {}
        for path, value in found:
            link = link_of(value)
            group = known.get(link) or by_value.setdefault(value, Group())
            if len(values[link]) > 1 and group.node is not None and group.node.value != value:
                group = by_value.setdefault(value, Group())
            group.paths.add(path)
        self._groups = {path: group for group in by_value.values() for path in group.paths}
        for group in known.values():
            assert group.node is not None
            if not group.paths and group.node.is_dirty:  # what was written is to be put somewhere
                group.paths.add(group.node.path())
            group.places = {
                (directory, name)
                for directory, name in group.places
                if (*directory.path(), name.decode()) in group.paths
            }
            self._groups |= dict.fromkeys(group.paths, group)
        self._epoch = epoch

    def at(self, path: Path) -> Group[F, D] | None:
        """The file at a path, if it has several names or had them."""
        return self._groups.get(path)

    def add(self, group: Group[F, D], path: Path) -> None:
        """A file has this name too."""
        self.changes += 1
        group.paths.add(path)
        self._groups[path] = group

    def move(self, before: Path, after: Path) -> None:
        """A directory stands elsewhere, with all below it."""
        moved = [path for path in self._groups if path[: len(before)] == before]
        for path, group in [(path, self._groups.pop(path)) for path in moved]:
            there = (*after, *path[len(before) :])
            group.paths.discard(path)
            if path in group.unsent:
                group.unsent.discard(path)
                group.unsent.add(there)
            self.add(group, there)

    def remove(self, group: Group[F, D], path: Path) -> None:
        """A file loses a name."""
        self.changes += 1
        group.paths.discard(path)
        group.unsent.discard(path)
        if self._groups.get(path) is group:
            del self._groups[path]
