"""Mounts that are attached: what they may rely on for a while, and what they have not sent yet.

What a mount was told of a *subject* (the branches of a repo, the content of an open commit) it may go on answering for
the time of a lease. A call that changes the subject recalls it first: it waits until the mount has forgotten it or the
lease has run out. So a mount that answers without asking is never behind a change that has returned.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

LEASE_SECONDS = 2.0

_KEPT_LEASES = 1024

Subject = tuple[str, str]
"""A repo and the id of an open commit in it; without an id, the repo's branches."""


@dataclass(slots=True)
class Request:
    """Something that a mount has to do."""

    number: int
    subject: Subject
    send: bool
    """Whether what was written has to be sent; else the subject is recalled."""
    expires: float
    """When a recall is no longer needed, by the monotonic clock."""
    done: Future[None] = field(default_factory=Future)
    signs: int = 0
    """How often the mount said that it goes on with it."""


class Session:
    """An attached mount."""

    def __init__(self, name: str, tell: Callable[[Request], None]) -> None:
        self.name = name
        self.writes: set[str] = set()
        """The open commits that it may have unsent changes of, by id."""
        self.is_silent = False
        """Whether it did not answer the last request in time, and nothing came from it since."""
        self.tell = tell
        """Sends a request to it; to be called from any thread."""
        self.number = 1
        """Of the last request."""
        self.leases: dict[Subject, float] = {}
        """When each runs out, by the monotonic clock."""
        self.waiting: dict[int, Request] = {}
        self.changed: dict[str, int] = {}
        """Of the commits in `writes` that others have changed, the value that `number` had from then on."""

    def rests(self, commit: str) -> None:
        """It has no unsent changes of a commit any more."""
        self.writes.discard(commit)
        self.changed.pop(commit, None)


@dataclass(slots=True)
class Caller:
    """A call under way: who makes it, and what has to be recalled before it may return."""

    session: str = ""
    recalls: list[Request] = field(default_factory=list)


_caller: ContextVar[Caller] = ContextVar("caller")


@contextmanager
def calling(session: str) -> Iterator[Caller]:
    """What the block changes, also in threads that have its context, is a call's of this session."""
    caller = Caller(session)
    token = _caller.set(caller)
    try:
        yield caller
    finally:
        _caller.reset(token)


class Sessions:
    """The attached mounts. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def attach(self, session: Session) -> None:
        """From now on it gets leases; one of the same name is detached."""
        with self._lock:
            before = self._sessions.get(session.name)
            self._sessions[session.name] = session
        if before is not None:
            self._end(before)

    def detach(self, session: Session) -> None:
        """It has gone away: nobody waits for it any more."""
        with self._lock:
            if self._sessions.get(session.name) is session:
                del self._sessions[session.name]
        self._end(session)

    def _end(self, session: Session) -> None:
        with self._lock:
            waiting, session.waiting = list(session.waiting.values()), {}
        for request in waiting:
            request.done.set_result(None)

    def lease(self, subject: Subject) -> int:
        """Give the caller a lease; to be called before the subject is read.

        Returns the number of the last request that it was sent before; 0 for a caller that is not attached.
        """
        caller = _caller.get(None)
        with self._lock:
            session = self._sessions.get(caller.session) if caller is not None else None
            if session is None:
                return 0
            now = time.monotonic()
            if len(session.leases) >= _KEPT_LEASES:
                session.leases = {known: until for known, until in session.leases.items() if until > now}
            session.leases[subject] = now + LEASE_SECONDS
            return session.number

    def changed(self, repo: str, commit: str = "") -> None:
        """A subject has just changed: recall it from all but the caller, whose call waits for that in the end."""
        caller = _caller.get(None)
        subject, now = (repo, commit), time.monotonic()
        with self._lock:
            for session in self._sessions.values():
                if caller is not None and session.name == caller.session:
                    continue
                until = session.leases.pop(subject, 0.0)
                if until > now:
                    request = self._ask(session, subject, send=False, expires=until)
                    if caller is not None:
                        caller.recalls.append(request)
                elif commit in session.writes:
                    session.number += 1
                if commit in session.writes:
                    session.changed[commit] = session.number

    def is_unchanged(self, commit: str, lease: int) -> bool:
        """Whether nobody but the caller has changed an open commit, to which it writes, since it got that lease."""
        caller = _caller.get(None)
        with self._lock:
            session = self._sessions.get(caller.session) if caller is not None else None
            return session is None or session.changed.get(commit, 0) <= lease

    def collect(self, repo: str, commit: str) -> list[tuple[Session, Request]]:
        """Ask all but the caller who write to an open commit to send what it lacks."""
        caller = _caller.get(None)
        with self._lock:
            return [
                (session, self._ask(session, (repo, commit), send=True, expires=0.0))
                for session in self._sessions.values()
                if commit in session.writes and (caller is None or session.name != caller.session)
            ]

    def _ask(self, session: Session, subject: Subject, *, send: bool, expires: float) -> Request:
        session.number += 1
        request = Request(session.number, subject, send, expires)
        session.waiting[request.number] = request
        session.tell(request)  # under the lock: in the order of the numbers
        return request

    def done(self, session: Session, number: int) -> None:
        """A mount has carried out a request."""
        with self._lock:
            request = session.waiting.pop(number, None)
        if request is not None:
            request.done.set_result(None)

    def goes_on(self, session: Session, number: int) -> None:
        """A mount is carrying out a request."""
        with self._lock:
            request = session.waiting.get(number)
            if request is not None:
                request.signs += 1
