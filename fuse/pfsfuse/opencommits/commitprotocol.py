"""What the files and directories of an open commit ask of it, and tell it."""

from __future__ import annotations

from typing import Any, Protocol

from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import Inode, InodeTable, Snapshot
from pfsfuse.opencommits.links import LinkTable


class LinksMissingError(Exception):
    """Which names are one file has to be read first: see `Commit.read_links`."""


class Commit(Protocol):
    """What files and directories ask of the open commit that they are in, and tell it."""

    snapshot: Snapshot
    content: Content
    inodes: InodeTable
    directory: str
    """Where scratch files are."""
    root: bytes
    """Root hash of its tree, as it was last told."""
    links: LinkTable[Any, Any]

    @property
    def top(self) -> Inode:
        """Its root directory."""

    def is_still(self, node: Any, directory: Any, name: bytes, value: bytes) -> bool:
        """Whether an entry that the tree has under a name is that of the node that stood there."""

    def lose(self, directory: Any, name: bytes) -> None:
        """Another client has removed or replaced what stood under a name; a file may have others."""

    @property
    def timeout(self) -> float:
        """Seconds for which the kernel may keep what it is told now."""

    async def freshen(self) -> None:
        """Ask for the commit's tree unless what was told holds."""

    @property
    def has_links(self) -> bool:
        """Whether `links` is as the commit's tree is."""

    async def read_links(self) -> None:
        """Have it be so."""

    def touch(self, directory: Inode, name: bytes) -> None:
        """A name, or what it stands for, is changed through this mount."""

    def note_attributes(self, node: Inode) -> None:
        """The attributes of a node were changed: the daemon is to be told."""

    @property
    def time_ns(self) -> int:
        """The time of what has none of its own."""

    def ended(self) -> None:
        """Nothing refers to the commit's root directory any more."""
