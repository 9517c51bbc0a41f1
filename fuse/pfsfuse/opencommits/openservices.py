"""What the open commits of a mount share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pfsfuse.client.writes import Writer
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import InodeTable
from pfsfuse.opencommits.opentree import CommitSource


class Registry(Protocol):
    """Makes this mount's writes part of what others finish (`pfsfuse.client.attachment.Attachment`)."""

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
    start: Callable[[Callable[[], Awaitable[None]]], None]
    """Runs something in the background, as long as the mount lasts."""
    ended: Callable[[str], None]
    """The kernel and the programs are done with the commit of this id, and nothing of it waits to be sent."""
    take_in: Callable[[], None]
    """Takes in what programs were told is done to their files, and is not yet."""
