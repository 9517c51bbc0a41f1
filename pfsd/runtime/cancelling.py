"""Work that ends early when nobody waits for it any more."""

from __future__ import annotations

from contextvars import ContextVar

from pfsd.errors import PfsError


class GivenUpError(PfsError):
    """Nobody waits for this work any more."""


class Stop:
    """Tells one piece of work that it is not wanted any more."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """It is not wanted any more: it ends at its next `check`. To be called from any thread."""
        self.is_set = True


current: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""Of the work that this thread does; None for work that is to come to its end once it has begun."""


def check() -> None:
    """Raise GivenUpError if what this thread does is not wanted any more. For between the steps of long work."""
    stop = current.get()
    if stop is not None and stop.is_set:
        raise GivenUpError("nobody waits for this any more")
