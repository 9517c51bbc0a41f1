"""A pipeline's workers and the datums they are handed.

All of it runs in the trio thread and never waits, so every change is whole. A datum is handed out under a lease, a
number used once: an outcome under a lease that was taken back means nothing, so no datum is counted twice.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from ppsd.specs.datums import Datum
from ppsd.storage.records import JobRecord, Stats

MOST_ASIDE = 64
"""So many tasks, at most, are set aside for one worker, which fetches their files together."""

MAX_LOSSES = 10
"""So many workers may be lost over a datum before it counts as the datum's failure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker says of a datum."""

    error: str
    """Why it failed; empty when its output is stored."""
    stats: Stats


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a worker's log."""

    job_id: str
    datum_id: str
    user: bool
    """Whether user code printed it."""
    time_ns: int
    message: str


class Workload(Protocol):
    """Whose datums they are: a job that runs. The methods are called in the trio thread and may not wait."""

    @property
    def job(self) -> JobRecord:
        """The job."""

    def task_handed_out(self, task: Task, session: Session) -> None:
        """A worker has the task now."""

    def task_ended(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        """A worker has done with the task, or (without one) it was lost too often."""


@dataclass(eq=False, slots=True)
class Task:
    """A datum that a job needs computed."""

    load: Workload
    datum: Datum
    former: Datum | None = None
    """The datum that it goes on from, in an incremental pipeline: of the same paths, and computed."""
    tries: int = 0
    """How often it has failed."""
    losses: int = 0
    """How often its worker has gone."""


@dataclass(frozen=True, slots=True)
class HandOut:
    """For a worker: compute this."""

    lease: int
    task: Task
    coming: tuple[Task, ...] = ()
    """What the worker is likely to be handed after it."""


@dataclass(frozen=True, slots=True)
class CallOff:
    """For a worker: what it was handed under this lease is no longer wanted."""

    lease: int


Order = HandOut | CallOff


class Session:
    """A connected worker, from its Hello until its stream ends."""

    def __init__(self, worker_id: str, notice: str = "") -> None:
        self.worker_id = worker_id
        self.notice = notice
        self.task: Task | None = None
        self.lease = 0
        self.since_ns = 0
        """When it was handed its task."""
        self.silence = 0
        """How often `Pool.silent` has found that nothing came from it; whoever hears of it sets this to 0."""
        self.aside: deque[Task] = deque()
        """What it is to be handed next, unless another worker has nothing to do."""
        self.is_over = False
        """Whether its stream has ended."""
        self._sender, self.orders = trio.open_memory_channel[Order](math.inf)

    def send(self, order: Order) -> None:
        """Queue an order for the worker."""
        self._sender.send_nowait(order)

    def close(self) -> None:
        """No more orders: the worker's stream ends when it has those that are queued."""
        self.is_over = True
        self._sender.close()


class Pool:
    """The workers of one pipeline version, and the datums that wait for one.

    Of many tasks, each worker has some set aside: it knows of them, and asks for what they need in one call instead of
    one for each. Nobody idles for that: who has nothing takes from whoever has most.
    """

    def __init__(self) -> None:
        self._sessions: dict[Session, None] = {}
        self._idle: deque[Session] = deque()
        self._first: deque[Task] = deque()
        """What somebody had already: it goes before all else."""
        self._queue: deque[Task] = deque()
        self._leases = itertools.count(1)

    @property
    def sessions(self) -> list[Session]:
        """The connected workers."""
        return list(self._sessions)

    @property
    def queue_size(self) -> int:
        """How many tasks wait."""
        return len(self._first) + len(self._queue) + sum(len(session.aside) for session in self._sessions)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue tasks."""
        self._queue.extend(tasks)
        self._hand_out()

    def withdraw(self, load: Workload) -> None:
        """Forget a job's tasks, and call off those that workers have."""
        self._first = _without(self._first, load)
        self._queue = _without(self._queue, load)
        for session in self._sessions:
            session.aside = _without(session.aside, load)
            if session.task is not None and session.task.load is load:
                session.send(CallOff(session.lease))
                # The worker says when it has stopped: until then it gets nothing else.
                session.task = None

    def restart(self, session: Session) -> None:
        """Call off what a worker has; the next free worker begins it anew."""
        task, session.task = session.task, None
        if task is not None:
            session.send(CallOff(session.lease))
            self._first.appendleft(task)
            self._hand_out()

    def join(self, session: Session) -> None:
        """A worker is there, unless it has gone again."""
        if session.is_over:
            return
        self._sessions[session] = None
        self._idle.append(session)
        self._hand_out()

    def leave(self, session: Session) -> None:
        """A worker is gone; what it had goes to another one at once."""
        if session not in self._sessions:
            return
        del self._sessions[session]
        if session in self._idle:
            self._idle.remove(session)
        self._queue.extendleft(reversed(session.aside))
        session.aside.clear()
        task, session.task = session.task, None
        session.close()
        if task is not None:
            task.losses += 1
            if task.losses >= MAX_LOSSES:
                text = f"its worker was lost {task.losses} times"
                task.load.task_ended(task, None, Outcome(text, Stats()))
            else:
                self._first.appendleft(task)
        self._hand_out()

    def silent(self, load: Workload, limit: int) -> list[Session]:
        """To be called regularly while a job runs: the busy workers of which nothing came during `limit` calls.

        They are out of the pool, and their tasks go to others. Counting calls rather than seconds bears with a service
        that was suspended.
        """
        busy = [one for one in self._sessions if one not in self._idle]  # some with what was called off
        found = [one for one in busy if one.task is None or one.task.load is load]
        for session in found:
            session.silence += 1
        lost = [one for one in found if one.silence > limit]
        for session in lost:
            self.leave(session)
        return lost

    def settle(self, session: Session, lease: int, outcome: Outcome) -> None:
        """A worker has done with what it was handed, whether it is still wanted or not."""
        if session not in self._sessions or lease != session.lease or session in self._idle:
            return
        task, session.task = session.task, None
        self._idle.append(session)
        if task is not None:
            task.load.task_ended(task, session, outcome)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._idle:
            session = self._idle[0]
            task = self._next_for(session)
            if task is None:
                return
            self._idle.popleft()
            coming = self._set_aside(session)
            session.task, session.lease = task, next(self._leases)
            session.since_ns = time.time_ns()
            session.silence = 0
            session.send(HandOut(session.lease, task, coming))
            task.load.task_handed_out(task, session)

    def _set_aside(self, session: Session) -> tuple[Task, ...]:
        """Where a worker has nothing set aside, give it its share of what waits; returns what it did not know of."""
        if session.aside:
            return ()
        share = min(MOST_ASIDE, len(self._queue) // (2 * len(self._sessions)))
        session.aside.extend(self._queue.popleft() for _ in range(share))
        return tuple(session.aside)

    def _next_for(self, session: Session) -> Task | None:
        for waiting in (self._first, session.aside, self._queue):
            if waiting:
                return waiting.popleft()
        richest = max(self._sessions, key=lambda one: len(one.aside))
        return richest.aside.pop() if richest.aside else None


def _without(tasks: deque[Task], load: Workload) -> deque[Task]:
    return deque(task for task in tasks if task.load is not load)
