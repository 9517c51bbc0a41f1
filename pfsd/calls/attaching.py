"""`Attach` of `pfsd.Store`, and the waiting for attached mounts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import BusyError, InvalidError
from pfsd.model.sessions import LEASE_SECONDS, Caller, Request, Session, Sessions, calling

SESSION_KEY = "pfsd-session"
"""Of a call's metadata: the session of the mount that makes it."""

QUEUED = 1000
"""Requests that a mount may be behind with."""

WRITTEN = 10_000
"""Open commits that a mount may have unsent changes of."""

SILENT_SECONDS = 3.0
"""For which a mount that has to send may show no sign of life."""


@contextmanager
def caller_of(context: Any) -> Iterator[Caller]:
    """What the block changes is the call's of this context."""
    metadata: Iterable[tuple[str, Any]] = context.invocation_metadata() or ()
    with calling(next((value for key, value in metadata if key == SESSION_KEY), "")) as caller:
        yield caller


async def recalled(caller: Caller) -> None:
    """Return when no mount relies any more on what the call has changed."""
    for request in caller.recalls:
        left = request.expires - time.monotonic()
        if left > 0:
            await asyncio.wait([asyncio.wrap_future(request.done)], timeout=left)


async def collect(sessions: Sessions, repo: str, commit: str) -> None:
    """Have the mounts that write to an open commit send what it lacks, for as long as they get on with it."""
    await asyncio.gather(*(_sent(session, request) for session, request in sessions.collect(repo, commit)))


async def _sent(session: Session, request: Request) -> None:
    done = asyncio.wrap_future(request.done)
    while not session.is_silent:
        signs = request.signs
        await asyncio.wait([done], timeout=SILENT_SECONDS)
        if done.done():
            return
        session.is_silent = request.signs == signs


async def attach(
    sessions: Sessions, messages: AsyncIterator[pfsd_pb2.MountMessage]
) -> AsyncIterator[pfsd_pb2.MountRequest]:
    """Serve a mount's stream until it ends."""
    first = await anext(messages, None)
    if first is None or not first.attach.session:
        raise InvalidError("the first message of Attach has to name a session")
    loop = asyncio.get_running_loop()
    queue = _Requests()

    def tell(request: Request) -> None:
        try:
            loop.call_soon_threadsafe(queue.add, _message(request))
        except RuntimeError:  # the loop has closed, and with it the stream
            pass

    session = Session(first.attach.session, tell)
    session.writes.update(first.attach.writes)
    _check_writes(session)
    queue.add(pfsd_pb2.MountRequest(lease_ms=int(LEASE_SECONDS * 1000)))
    sessions.attach(session)
    listening = loop.create_task(_listen(sessions, session, messages, queue))
    try:
        while (request := await queue.get()) is not None:
            yield request
        if queue.is_over:
            await asyncio.sleep(LEASE_SECONDS)  # what it was not told of, it does not rely on any more then
            raise BusyError(f"the mount takes no requests, and {QUEUED} of them wait: it has to attach anew")
        await listening  # has ended, or failed
    finally:
        listening.cancel()
        sessions.detach(session)


async def _listen(
    sessions: Sessions,
    session: Session,
    messages: AsyncIterator[pfsd_pb2.MountMessage],
    queue: _Requests,
) -> None:
    try:
        async for message in messages:
            session.is_silent = False
            if message.writes:
                session.writes.add(message.writes)
                _check_writes(session)
                await queue.has_room()
                queue.add(pfsd_pb2.MountRequest(writes=message.writes))
            if message.rests:
                session.rests(message.rests)
            if message.busy:
                sessions.goes_on(session, message.busy)
            if message.done:
                sessions.done(session, message.done)
    finally:
        queue.end()


class _Requests:
    """What a mount has still to be told. A mount that does not take it is told no more."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether more came than is kept."""
        self._queue: asyncio.Queue[pfsd_pb2.MountRequest | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    def add(self, request: pfsd_pb2.MountRequest) -> None:
        if self.is_over:
            return
        if self._queue.qsize() >= QUEUED:
            self.is_over = True
            self.end()
        else:
            self._queue.put_nowait(request)

    def end(self) -> None:
        """Nothing more is to come."""
        self._queue.put_nowait(None)

    async def get(self) -> pfsd_pb2.MountRequest | None:
        """The next one; None at the end."""
        request = await self._queue.get()
        self._taken.set()
        return request

    async def has_room(self) -> None:
        """Return once half of what is kept is free."""
        while self._queue.qsize() > QUEUED // 2 and not self.is_over:
            self._taken.clear()
            await self._taken.wait()


def _check_writes(session: Session) -> None:
    if len(session.writes) > WRITTEN:
        raise InvalidError(f"a mount can't write to more than {WRITTEN} open commits at a time")


def _message(request: Request) -> pfsd_pb2.MountRequest:
    repo, commit_id = request.subject
    subject = pfs_pb2.Commit(repo={"name": repo}, id=commit_id)
    if request.send:
        return pfsd_pb2.MountRequest(number=request.number, send=subject)
    return pfsd_pb2.MountRequest(number=request.number, recall=subject)
