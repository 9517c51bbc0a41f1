"""Tries again what failed because something outside does not answer, with growing pauses of random length."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from pfsd.errors import PfsError, RefusedError, UnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
LONGEST_ASKED = 60.0
"""What is waited at most because a server asks for it."""


def pauses() -> Callable[[PfsError], float]:
    """How long to wait after each failed attempt, in seconds."""
    longest = FIRST_PAUSE

    def following(error: PfsError) -> float:
        nonlocal longest
        share = random.uniform(0.5, 1)
        pause, longest = longest * share, min(longest * 2, LONGEST_PAUSE)
        asked = error.retry_after if isinstance(error, UnavailableError) else 0.0
        return max(pause, min(asked, LONGEST_ASKED) * (0.5 + share))  # at least what was asked for

    return following


def persistently(call: Callable[[], T], patience: float, stop: threading.Event) -> T:
    """The result of `call`, made again while it raises UnavailableError, for `patience` seconds or until `stop` is set.

    Then that error is raised. RefusedError is raised at once.
    """
    deadline = time.monotonic() + patience
    following = pauses()
    while True:
        try:
            return call()
        except RefusedError:
            raise
        except UnavailableError as error:
            pause = following(error)
            if stop.is_set() or time.monotonic() + pause > deadline:
                raise
            log.info("%s: trying again in %.1f s", error, pause)
        stop.wait(pause)


def streamed(
    begin: Callable[[int, Callable[[bytes], None]], None],
    take: Callable[[bytes], None],
    patience: float,
    stop: threading.Event,
) -> None:
    """Have `begin(done, take)` pass on what follows the first `done` bytes, and go on from where that breaks off.

    `patience`, as for `persistently`, begins anew whenever something has come.
    """
    done = 0

    def took(data: bytes) -> None:
        nonlocal done
        take(data)
        done += len(data)

    def attempt() -> bool:
        before = done
        try:
            begin(done, took)
        except RefusedError:
            raise
        except UnavailableError:
            if done == before:
                raise
            return False
        return True

    while not persistently(attempt, patience, stop):
        pass
