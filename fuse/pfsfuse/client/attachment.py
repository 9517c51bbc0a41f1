"""This mount's place at the daemon: leases on what it was told, and requests to send what it holds.

See `Attach` in `pfsd.proto`.
"""

from __future__ import annotations

import logging
import queue
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from pachproto import pfsd_pb2
from pfsd.errors import PfsError
from pfsfuse.client.daemon import Daemon

log = logging.getLogger(__name__)

SESSION_KEY = "pfsd-session"

_AGAIN_SECONDS = 0.25
_KNOWN_SECONDS = 2.0
"""How long a write may wait until the daemon knows of it."""
_SIGN_SECONDS = 1.0
_KEPT_RECALLS = 4096
_SHARE = 0.9
"""Of a lease's time, what is made use of: the kernel counts from when it takes an answer in."""


class Holder(Protocol):
    """What relies on leases and holds unsent changes (`pfsfuse.repository.repoview.RepositoryView`)."""

    async def recall(self, repo: str, commit: str) -> None:
        """Forget, and have the kernel forget, what was told of an open commit or, without one, of a repo's branches."""

    async def send(self, commit: str) -> None:
        """Send all that was written to an open commit. Logs what goes wrong."""

    def lapse(self) -> None:
        """Nothing that was told holds any more."""


class Attachment:
    """Keeps this mount attached to `daemon` while `run` runs. `progress` tells how much was sent so far."""

    def __init__(self, daemon: Daemon, progress: Callable[[], int]) -> None:
        self._daemon = daemon
        self._progress = progress
        self._attached = -1.0
        """Since when, by trio's clock; negative when it is not."""
        self._lease_seconds = 0.0
        self._recalls: dict[tuple[str, str], int] = {}
        self._forgotten = 0
        """The highest number that is no longer among `_recalls`."""
        self._writes: dict[str, trio.Event] = {}
        self._messages: queue.SimpleQueue[pfsd_pb2.MountMessage | None] = queue.SimpleQueue()

    def lease(self, repo: str, commit: str, number: int, asked: float) -> float:
        """Until when holds what a call told that began at `asked` and was answered with a lease of that number.

        By trio's clock; -1 where it does not hold even now.
        """
        if not number or self._attached < 0 or asked < self._attached:
            return -1.0
        if number < self._forgotten or any(
            self._recalls.get(subject, 0) > number for subject in ((repo, commit), (repo, ""))
        ):
            return -1.0
        return asked + self._lease_seconds

    async def writes(self, commit: str) -> None:
        """Return when the daemon knows that this mount writes to an open commit, or can't be told in time.

        It is told once it is there again.
        """
        known = self._writes.get(commit)
        if known is None:
            known = self._writes[commit] = trio.Event()
            if self._attached >= 0:
                self._messages.put(pfsd_pb2.MountMessage(writes=commit))
        if self._attached >= 0:
            with trio.move_on_after(_KNOWN_SECONDS):
                await known.wait()

    def rests(self, commit: str) -> None:
        """Nothing more is written to a commit, and the daemon has it all."""
        if self._writes.pop(commit, None) is not None and self._attached >= 0:
            self._messages.put(pfsd_pb2.MountMessage(rests=commit))

    async def run(self, holder: Holder) -> None:
        """Be attached, again after each time that the daemon was away, until cancelled."""
        while True:
            async with trio.open_nursery() as nursery:
                try:
                    await self._attach(holder, nursery)
                except PfsError as error:
                    log.info("not attached: %s", error)
                except Exception:  # a defect must not end the mount
                    log.exception("the attachment failed")
                finally:
                    self._attached = -1.0
                    self._messages.put(None)
                    holder.lapse()
                    nursery.cancel_scope.cancel()
            await trio.sleep(_AGAIN_SECONDS)

    async def _attach(self, holder: Holder, nursery: trio.Nursery) -> None:
        messages = self._messages = queue.SimpleQueue()
        session = uuid.uuid4().hex
        self._daemon.metadata = ((SESSION_KEY, session),)
        attachment = pfsd_pb2.Attachment(session=session, writes=self._writes)
        messages.put(pfsd_pb2.MountMessage(attach=attachment))
        told = set(self._writes)
        asked = trio.current_time()

        def take(request: pfsd_pb2.MountRequest) -> None:
            if request.lease_ms:
                self._recalls.clear()
                self._forgotten = 0
                self._lease_seconds, self._attached = request.lease_ms / 1000 * _SHARE, asked
                for commit, known in self._writes.items():
                    if commit in told:
                        known.set()
                    else:
                        messages.put(pfsd_pb2.MountMessage(writes=commit))
            elif request.writes in self._writes:
                self._writes[request.writes].set()
            elif request.HasField("recall"):
                self._note(request)
                nursery.start_soon(self._recall, holder, request)
            elif request.HasField("send"):
                nursery.start_soon(self._send, holder, request)

        await self._daemon.attach(iter(messages.get, None), take)

    def _note(self, request: pfsd_pb2.MountRequest) -> None:
        subject = (request.recall.repo.name, request.recall.id)
        self._recalls.pop(subject, None)
        self._recalls[subject] = request.number
        if len(self._recalls) > _KEPT_RECALLS:
            self._forgotten = self._recalls.pop(next(iter(self._recalls)))

    async def _recall(self, holder: Holder, request: pfsd_pb2.MountRequest) -> None:
        await self._guarded(holder.recall(request.recall.repo.name, request.recall.id))
        self._messages.put(pfsd_pb2.MountMessage(done=request.number))

    async def _send(self, holder: Holder, request: pfsd_pb2.MountRequest) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show_signs, request.number)
            await self._guarded(holder.send(request.send.id))
            nursery.cancel_scope.cancel()
        self._messages.put(pfsd_pb2.MountMessage(done=request.number))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # a defect must not end the attachment
            log.exception("a request of the daemon failed")

    async def _show_signs(self, number: int) -> None:
        before = self._progress()
        while True:
            await trio.sleep(_SIGN_SECONDS)
            if (now := self._progress()) != before:
                before = now
                self._messages.put(pfsd_pb2.MountMessage(busy=number))
