"""What the open commits of a mount share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fuse.content import Content
from fuse.inodes import InodeTable
from fuse.opentree import CommitSource
from fuse.writes import Writer

if TYPE_CHECKING:
    from fuse.opencommit import OpenCommit


class Registry(Protocol):
    """Makes this mount's writes part of what others finish (`fuse.attachment.Attachment`)."""

    async def writes(self, commit: str) -> None:
        """Return when the daemon knows that this mount writes to an open commit, or can't be told in time."""

    def rests(self, commit: str) -> None:
        """Nothing more is written to a commit, and the daemon has it all."""


@dataclass(frozen=True)
class Services:
    """What all open commits of a mount share."""

    content: Content
    inodes: InodeTable
    writer: Writer
    commits: CommitSource
    registry: Registry
    directory: str
    """Where scratch files are."""
    start: Callable[[OpenCommit], None]
    """Runs `OpenCommit.write_behind` in the background."""
    ended: Callable[[OpenCommit], None]
    """The kernel and the programs are done with a commit."""
