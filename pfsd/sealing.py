"""Full packs on their way to the object store, beside everything else and for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from pfsd.errors import PfsError, UnavailableError
from pfsd.persistence import pauses

log = logging.getLogger(__name__)

T = TypeVar("T")

ROOM_SECONDS = 120.0
"""For which a writer waits when too much is on its way."""
ROOM_BESIDE = 32
"""Items beyond `depth` that writers may add without waiting."""
SAY_SECONDS = 10.0
"""How often the log says of one pack that it still can't be stored."""


class Sealing(Generic[T]):
    """Runs `seal(item)` in threads, again while it raises UnavailableError. Safe to use from many threads."""

    def __init__(self, seal: Callable[[T], None], *, threads: int, depth: int) -> None:
        """With `depth` items on their way, writers have to wait."""
        self._seal = seal
        self._depth = depth
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="seal")
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._pending: set[Future[None]] = set()
        self._trouble: UnavailableError | None = None

    @property
    def trouble(self) -> UnavailableError | None:
        """Why nothing gets through at present; None while all is well."""
        return self._trouble

    def submit(self, item: T) -> Future[None]:
        """Seal an item; the future is done once it is, holds the error that was its end, or is cancelled by `close`."""
        future: Future[None] = Future()
        with self._changed:
            self._pending.add(future)
        self._pool.submit(self._run, item, future)
        return future

    def pending(self) -> list[Future[None]]:
        """What is on its way."""
        with self._changed:
            return list(self._pending)

    @property
    def has_room(self) -> bool:
        """Whether less than `depth` items are on their way."""
        return len(self._pending) < self._depth

    def no_room(self) -> UnavailableError:
        """Why nothing is taken."""
        return UnavailableError(
            f"{len(self._pending)} packs wait to be stored, and no more are taken until they are: "
            f"{self._trouble or 'the object store is slow'}"
        )

    def wait_for_room(self) -> None:
        """Return once less than `depth` + ROOM_BESIDE items are on their way; UnavailableError after ROOM_SECONDS.

        So a thread waits for room only where many have begun to write since they saw that there `has_room`.
        """
        most = self._depth + ROOM_BESIDE
        if len(self._pending) < most:
            return
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._pending) < most, ROOM_SECONDS):
                raise self.no_room()

    def close(self) -> None:
        """End; what is being sealed and does not get through stays as it is."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
        with self._changed:
            left, self._pending = self._pending, set()
            self._changed.notify_all()
        for future in left:
            future.cancel()

    def _run(self, item: T, future: Future[None]) -> None:
        try:
            self._until_sealed(item)
        except (OSError, PfsError) as error:  # the next start, or the next flush, meets the same and says so
            log.error("a pack can't be sealed: %s", error)
            self._end(future)
            future.set_exception(error)
        else:
            self._end(future)
            future.set_result(None)

    def _until_sealed(self, item: T) -> None:
        following = pauses()
        pause = said = 0.0
        while True:
            try:
                self._seal(item)
            except UnavailableError as error:
                self._trouble = error
                pause = following(error)
                if self._closing.is_set():
                    raise
                if time.monotonic() - said >= SAY_SECONDS:
                    log.warning("a pack waits to be stored: %s", error)
                    said = time.monotonic()
            else:
                self._trouble = None
                return
            self._closing.wait(pause)

    def _end(self, future: Future[None]) -> None:
        with self._changed:
            self._pending.discard(future)
            self._changed.notify_all()
