"""Where blocking work is done: in threads, with a bound for each kind of work. ARCHITECTURE.md, "Threads"."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pfsd.errors import BusyError, PfsError
from pfsd.runtime import cancelling
from pfsd.runtime.cancelling import Stop
from pfsd.runtime.slots import Slots

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work. None waits for threads that do another kind."""

    name: str
    threads: int
    """How many do it at a time."""
    of_one: int
    """How many of them do it for the same client."""
    ends_early: bool = True
    """Whether it may end where the call that wants it does; else it runs to its end once it has begun."""
    left_behind: int = 0
    """How many threads may still be ending, their places given to others, after calls that were cancelled."""


LOOKUP = Kind("reading records", 8, 6)
"""A few records of the database."""
CHANGE = Kind("changing records", 8, 6, ends_early=False)
"""Records, under the root's lock, synced."""
COMMIT = Kind("work on commits", 16, 12, ends_early=False)
"""What needs a commit's lock, in its turn (`in_turn`): folding, staging, finishing."""
WALK = Kind("reading trees", 8, 6)
"""Listing, globbing, comparing."""
READ = Kind("reading content", 32, 24)
"""Chunks, of a disk or of a remote object store."""
WRITE = Kind("storing content", 8, 6)
"""Cutting, hashing, appending to packs. Whoever has to wait for room does so before."""
FETCH = Kind("fetching from URLs", 64, 48, left_behind=64)
"""Waiting for other servers, and nothing else."""
UPKEEP = Kind("upkeep", 4, 3, ends_early=False)
"""Checks, collections, removing everything."""

client_of_call: ContextVar[str] = ContextVar("client", default="")
"""Whose call this is: the connection that it came through."""


async def in_thread(kind: Kind, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call made in a thread. It has the caller's context.

    Cancelling the waiting gives up the place in the queue. What has begun keeps its place until it has ended, which
    is soon where it `ends_early`, or leaves it at once where it may be left behind. Raises BusyError.
    """
    return await _work().run(kind, None, lambda: function(*args, **kwargs))


async def in_turn(commit_id: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `in_thread` of COMMIT, one call after the other for each commit: those that wait for it hold no thread."""
    return await _work().run(COMMIT, commit_id, lambda: function(*args, **kwargs))


async def stream_in_thread(kind: Kind, make: Callable[[], Iterable[T]], at_once: int = 1) -> AsyncIterator[list[T]]:
    """The items of the iterable that `make()` returns, and that blocks, in lists of up to `at_once`.

    The first list comes from the thread that called `make`.
    """
    iterator: Iterator[T] | None = None

    def begin() -> list[T]:
        nonlocal iterator
        iterator = iter(make())
        return _take(iterator, at_once)

    batch = await in_thread(kind, begin)
    assert iterator is not None
    while batch:
        yield batch
        batch = await in_thread(kind, _take, iterator, at_once)


def _take(iterator: Iterator[T], count: int) -> list[T]:
    found = []
    for item in itertools.islice(iterator, count):
        found.append(item)
        cancelling.check()
    return found


def handing_over(kind: Kind, function: Callable[P, T]) -> Callable[P, T]:
    """`function`, to be called from a thread of another kind, which waits while one of this kind does it.

    To be made in the loop's thread.
    """
    loop = asyncio.get_running_loop()

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        cancelling.check()
        return asyncio.run_coroutine_threadsafe(in_thread(kind, function, *args, **kwargs), loop).result()

    return call


def load() -> list[tuple[str, Slots]]:
    """The kinds of work that were done so far, each with who does it and who waits for that."""
    return [(kind.name, slots) for work in list(_works.values()) for kind, slots in list(work.slots.items())]


def running() -> int:
    """How many threads have work that has not ended."""
    return _carriers.running


class _Carriers:
    """The threads that everything runs in: as many as are needed at a time, none of which keeps the process alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Callable[[], Callable[[], object]]]] = []
        self.running = 0

    def start(self, work: Callable[[], Callable[[], object]]) -> None:
        """Have a thread call `work`, and then what it returns. Raises BusyError where there can't be another thread."""
        with self._lock:
            self.running += 1
            orders = self._idle.pop() if self._idle else None
        if orders is None:
            orders = queue.SimpleQueue()
            try:
                threading.Thread(target=self._carry, args=(orders,), name="pfsd-work", daemon=True).start()
            except RuntimeError as error:
                with self._lock:
                    self.running -= 1
                raise BusyError("the system has no room for another thread: try again") from error
        orders.put(work)

    def _carry(self, orders: queue.SimpleQueue[Callable[[], Callable[[], object]]]) -> None:
        while True:
            tell = orders.get()()
            with self._lock:
                self._idle.append(orders)  # before the result is known: what follows from it finds this thread
                self.running -= 1
            tell()
            del tell


_carriers = _Carriers()


class _Work:
    """What the calls of one loop have threads do."""

    def __init__(self) -> None:
        self.left_behind = 0
        self.slots: dict[Kind, Slots] = {}
        self._turns: dict[str, Slots] = {}

    async def run(self, kind: Kind, turn: str | None, function: Callable[[], T]) -> T:
        client = client_of_call.get()
        if turn is not None:
            await self._take_turn(turn, client)
        slots = self.slots.get(kind)
        if slots is None:
            slots = self.slots[kind] = Slots(kind.name, kind.threads, kind.of_one)
        if not slots.take_at_once(client):
            try:
                await slots.take(client)
            except BaseException:
                self.end_turn(turn, client)
                raise
        return await _Job(self, kind, slots, turn, client).result(function)

    async def _take_turn(self, key: str, client: str) -> None:
        turns = self._turns.get(key)
        if turns is None:
            turns = self._turns[key] = Slots(f"commit {key}", 1, 1)
        await turns.take(client)

    def end_turn(self, key: str | None, client: str) -> None:
        if key is not None:
            turns = self._turns[key]
            turns.give_back(client)
            if turns.is_idle:
                del self._turns[key]


_works: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Work] = weakref.WeakKeyDictionary()


def _work() -> _Work:
    loop = asyncio.get_running_loop()
    work = _works.get(loop)
    if work is None:
        work = _works[loop] = _Work()
    return work


class _Job:
    """One piece of work that has its places."""

    def __init__(self, work: _Work, kind: Kind, slots: Slots, turn: str | None, client: str) -> None:
        self._work = work
        self._kind = kind
        self._slots = slots
        self._turn = turn
        self._client = client
        self._has_places = True

    async def result(self, function: Callable[[], T]) -> T:
        """Have a thread call `function`; what it returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        stop = Stop() if self._kind.ends_early else None
        context = contextvars.copy_context()
        context.run(cancelling.current.set, stop)

        def work() -> Callable[[], object]:
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as failure:  # noqa: BLE001 (it is raised where the result is awaited)
                error = RuntimeError(repr(failure)) if isinstance(failure, StopIteration) else failure
            return lambda: _soon(loop, self._done, future, result, error)

        try:
            _carriers.start(work)
        except BusyError:
            self._give_back()
            raise
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.exception()  # looked at: asyncio would complain of it
            if stop is not None:
                stop.set()
            self._leave_behind()
            raise

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if self._has_places:
            self._give_back()
        else:
            self._work.left_behind -= 1
        if future.cancelled():
            if error is not None and not isinstance(error, PfsError):
                log.warning("%s ended in an error after its call: %r", self._kind.name, error)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _leave_behind(self) -> None:
        """Others get the places at once, if the thread may be left alone with its end."""
        if self._has_places and self._work.left_behind < self._kind.left_behind:
            self._work.left_behind += 1
            self._give_back()

    def _give_back(self) -> None:
        self._has_places = False
        self._slots.give_back(self._client)
        self._work.end_turn(self._turn, self._client)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:  # the loop has closed: nobody waits
        pass
