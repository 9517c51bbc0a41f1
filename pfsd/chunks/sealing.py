"""Sends full packs to the object store, in the background and for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pfsd.errors import PfsError, StateError, UnavailableError
from pfsd.runtime.persistence import pauses

log = logging.getLogger(__name__)

T = TypeVar("T")

ROOM_SECONDS = 120.0
"""For which a writer waits when too much is on its way."""
ROOM_BESIDE = 32
"""Items beyond `depth` that writers may add without waiting."""
SAY_SECONDS = 10.0
"""How often the log says of one pack that it still can't be stored."""


@dataclass(eq=False, slots=True)
class _Job(Generic[T]):
    """An item on its way."""

    item: T
    future: Future[None]
    """Of the attempt under way, or of the next one."""
    said: float = -SAY_SECONDS
    """When the log told of it last, by the monotonic clock."""
    following: Callable[[PfsError], float] = field(default_factory=pauses)
    """How long to wait after each attempt."""


class Sealing(Generic[T]):
    """Runs `seal(item)` in threads until it returns. Safe to use from many threads.

    While it raises UnavailableError, what is outside is waited for. Any other error is told to those who wait, and
    logged, and the item is tried again.
    """

    def __init__(self, seal: Callable[[T], None], *, threads: int, depth: int) -> None:
        """With `depth` items on their way, writers have to wait."""
        self._seal = seal
        self._depth = depth
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="seal")
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._pending: set[_Job[T]] = set()
        self._trouble: PfsError | None = None

    @property
    def trouble(self) -> PfsError | None:
        """Why nothing gets through at present; None while all is well."""
        return self._trouble

    def submit(self, item: T) -> Future[None]:
        """Seal an item; the future is done once it is, holds the PfsError of an attempt that failed for another reason
        than that something outside does not answer, or is cancelled by `close`.
        """
        job = _Job(item, Future())
        with self._changed:
            if self._closing.is_set():
                job.future.cancel()
                return job.future
            self._pending.add(job)
            future = job.future
            self._pool.submit(self._run, job)
        return future

    def pending(self) -> list[Future[None]]:
        """What is on its way."""
        with self._changed:
            return [job.future for job in self._pending]

    @property
    def has_room(self) -> bool:
        """Whether less than `depth` items are on their way."""
        return len(self._pending) < self._depth

    @property
    def is_stuck(self) -> bool:
        """Whether waiting is of no use to writers: it is closed, or not the outside but a full disk is in the way."""
        trouble = self._trouble
        return self._closing.is_set() or not (trouble is None or isinstance(trouble, UnavailableError))

    def no_room(self) -> PfsError:
        """Why nothing is taken."""
        if self._closing.is_set():
            return UnavailableError("no more is taken: pfsd is being stopped")
        trouble = self._trouble
        kind = UnavailableError if trouble is None else type(trouble)
        return kind(
            f"{len(self._pending)} packs wait to be stored, and no more are taken until they are: "
            f"{trouble or 'the object store is slow'}"
        )

    def wait_for_room(self) -> None:
        """Return once less than `depth` + ROOM_BESIDE items are on their way.

        So a thread waits for room only where many have begun to write since they saw that there `has_room`. Raises
        `no_room` after ROOM_SECONDS, and at once where it is closed, or has `depth` of them and `is_stuck`.
        """
        if not self._takes():
            with self._changed:
                self._changed.wait_for(lambda: self._takes() or self.is_stuck, ROOM_SECONDS)
                if not self._takes():
                    raise self.no_room()

    def _takes(self) -> bool:
        most = self._depth if self.is_stuck else self._depth + ROOM_BESIDE
        return len(self._pending) < most and not self._closing.is_set()

    def close(self) -> None:
        """End; what is being sealed and does not get through stays as it is."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)
        with self._changed:
            left, self._pending = self._pending, set()
        for job in left:
            job.future.cancel()

    def _run(self, job: _Job[T]) -> None:
        """One attempt; the next one, where it failed, comes after all others that wait by then."""
        try:
            self._seal(job.item)
        except UnavailableError as error:
            self._trouble = error
            self._say(job, error)
            pause = job.following(error)
        except Exception as error:  # noqa: BLE001 (whatever it is, nobody may wait for what does not come)
            pause = job.following(self._fail(job, error))
        else:
            self._trouble = None
            with self._changed:
                self._pending.discard(job)
                self._changed.notify_all()
            job.future.set_result(None)
            return
        if not self._closing.wait(pause):
            with suppress(RuntimeError):  # closed just now
                self._pool.submit(self._run, job)

    def _fail(self, job: _Job[T], error: Exception) -> PfsError:
        """An attempt has failed: tell those who wait; those who begin to wait from now on wait for the next attempt."""
        trouble: PfsError
        if isinstance(error, PfsError):
            trouble = error
            self._say(job, error)
        else:
            log.error("sealing a pack failed", exc_info=error)
            trouble = StateError(f"a pack can't be stored, because of a defect in pfsd: {error!r}; see its log")
        with self._changed:
            failed, job.future = job.future, Future()
            self._trouble = trouble
            self._changed.notify_all()
        failed.set_exception(trouble)
        return trouble

    def _say(self, job: _Job[T], error: PfsError) -> None:
        if time.monotonic() - job.said >= SAY_SECONDS:
            log.warning("a pack waits to be stored: %s", error)
            job.said = time.monotonic()
