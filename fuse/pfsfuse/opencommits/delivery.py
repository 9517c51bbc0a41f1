"""Sending the files of one batch to the daemon, while other clients may change the commit too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pachproto import pfs_pb2
from pfsd.errors import PfsError, UnavailableError
from pfsfuse.client.writes import Writer
from pfsfuse.content.content import Content
from pfsfuse.kernel.errnos import LocalError
from pfsfuse.opencommits.opennodes import OpenFile
from pfsfuse.opencommits.outdated import Closed, Tried
from pfsfuse.opencommits.sending import SMALL_BYTES, Sent, Taken, send_large, small_files, take

_TRIES = 4
"""How often small files are sent on condition that nobody else has changed the commit."""


class Recipient(Protocol):
    """What the sending of files asks of the open commit that they are in, and tells it."""

    content: Content
    lease: int
    """The number of the lease by which its tree was told last; 0 for none."""
    tried: Tried
    """Entries that the daemon may have of files, without having said so."""

    def lapse(self) -> None:
        """What was told of it holds no longer."""

    async def check_alive(self) -> None:
        """Ask for its tree; raises StateError when nothing can be written any more."""

    async def drop_outdated(self, files: dict[OpenFile, Closed]) -> None:
        """Leave aside the files that another client has replaced or removed since they were closed."""

    async def refuse(self, file: Taken, error: PfsError) -> None:
        """The daemon does not take a file as it is."""


class Delivery:
    """Sends files of an open commit; `waited` loses those that others make outdated meanwhile."""

    def __init__(
        self, recipient: Recipient, name: pfs_pb2.Commit, writer: Writer, waited: dict[OpenFile, Closed]
    ) -> None:
        self.sent: list[Sent] = []
        """What has arrived."""
        self._recipient = recipient
        self._name = name
        self._writer = writer
        self._waited = waited
        self._basis = recipient.lease
        """Files are sent as long as no other client changes the commit after this lease, where there is one."""

    async def send(self, files: Sequence[OpenFile]) -> None:
        """Send files. Raises what `flush` of an open commit does."""
        small: list[Taken] = []
        large: list[Taken] = []
        for file in [take(node) for node in files if node.is_dirty]:
            if file.scratch.size <= SMALL_BYTES and not file.scratch.is_complete:
                await file.scratch.fill(self._recipient.content)
            (small if file.scratch.size <= SMALL_BYTES else large).append(file)
        if small:
            await self._send_small(small)
        for file in large:
            await self._send_large(file)

    async def _send_small(self, files: Sequence[Taken], tries: int = _TRIES) -> None:
        messages, arriving = small_files(self._name, files, self._basis)
        for each in arriving:
            self._recipient.tried.setdefault(each.file.node, set()).add(each.value)
        try:
            await self._writer.put_files(lambda _: messages, sum(len(each.data) for each in arriving))
            self.sent += arriving
            return
        except UnavailableError:
            raise
        except PfsError as error:
            if await self._is_changed():
                self._basis = self._recipient.lease if tries > 1 else 0
                left = [file for file in files if file.node.is_dirty]
                if left:
                    await self._send_small(left, tries - 1)
                return
            if len(files) == 1:
                await self._recipient.refuse(files[0], error)
                return
        for file in files:
            await self._send_small([file])

    async def _is_changed(self) -> bool:
        """Whether others have changed the commit since `_basis`; what they make outdated is sent no more."""
        for _ in range(_TRIES):
            self._recipient.lapse()
            await self._recipient.check_alive()
            if self._recipient.lease:  # there is none where others changed the commit while the answer came
                break
        if self._basis in (0, self._recipient.lease):
            return False
        await self._recipient.drop_outdated(self._waited)
        return True

    async def _send_large(self, file: Taken) -> None:
        self._recipient.tried.setdefault(file.node, set()).add(b"")
        try:
            self.sent.append(await send_large(self._writer, self._recipient.content, self._name, file))
        except (UnavailableError, LocalError):
            raise
        except PfsError as error:
            await self._recipient.check_alive()
            await self._recipient.refuse(file, error)
