"""A gate: many may use something at a time; replacing or closing it waits until nobody does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from pfsd.errors import PfsError


class Gate:
    """`with gate:` uses what is behind it; raises what `refusal` makes once it was closed. No use begins another.

    Cheap enough for every lookup of a key: a lock is held while a number changes, never during a use.
    """

    def __init__(self, refusal: Callable[[], PfsError]) -> None:
        self._refusal = refusal
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._users = 0
        self._held = False
        """Whether somebody wants it for himself: nobody begins a use then."""
        self._closed = False

    def __enter__(self) -> None:
        with self._lock:
            while self._held:
                self._changed.wait()
            if self._closed:
                raise self._refusal()
            self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and (self._held or self._closed):
                self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nobody is let in any more."""
        return self._closed

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses it in the block; waits for those who do, and raises what they would once it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held)
            if self._closed:
                raise self._refusal()
            self._held = True
            self._changed.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def close(self, seconds: float, hurry: Callable[[], None] = lambda: None) -> bool:
        """Let nobody in any more; whether all were out in time. Who is not, at half of it, is made to `hurry`."""
        end = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            if self._changed.wait_for(self._is_empty, seconds / 2):
                return True
        hurry()
        with self._changed:
            return self._changed.wait_for(self._is_empty, max(end - time.monotonic(), 0))

    def _is_empty(self) -> bool:
        return not self._users and not self._held
