"""Work that ends early when nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar

from pfsd.errors import PfsError


class GivenUpError(PfsError):
    """Whoever asked for this work has gone."""


class Stop:
    """Tells one piece of work that it is not wanted any more. Safe to use from many threads."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._interrupts: list[Callable[[], object]] = []

    def set(self) -> None:
        """It is not wanted any more. What waits outside is interrupted; what computes ends at its next `check`."""
        with self._lock:
            self.is_set = True
            interrupts, self._interrupts = self._interrupts, []
        for interrupt in interrupts:
            interrupt()

    def interrupts_with(self, interrupt: Callable[[], object]) -> None:
        """Have `interrupt`, which may not block, called by `set`; at once where that was called."""
        with self._lock:
            if not self.is_set:
                self._interrupts.append(interrupt)
                return
        interrupt()

    def check(self) -> None:
        """Raise GivenUpError if it is not wanted any more."""
        if self.is_set:
            raise GivenUpError("nobody waits for this any more")


current: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""Of the work that this thread does; None for work that is to come to its end once it has begun."""


def check() -> None:
    """Raise GivenUpError if what this thread does is not wanted any more. For between the steps of long work."""
    stop = current.get()
    if stop is not None and stop.is_set:
        stop.check()
