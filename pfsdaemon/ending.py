"""How the daemon ends: when a signal asks for it, and at once or once the calls that are at work are done."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator

import trio

from pfsd.calls.measuring import busy_calls
from pfsd.runtime.ending import end_in_time
from pfsdaemon.notify import tell

POLL_SECONDS = 0.01

log = logging.getLogger(__name__)


class Ending:
    """How far the daemon is with ending. `drain` is for how many seconds calls that are at work hold it up."""

    def __init__(self, drain: float) -> None:
        self._drain = drain
        self.is_asked = False
        """Whether somebody wants it to end."""
        self.stopping = trio.Event()
        """Set when it does."""

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """Let the first signal begin the end, and a second one hurry it.

        It does not take long, even where the signal comes in the middle of the start.
        """
        async for number in signals:
            log.info("stopping on %s", signal.Signals(number).name)
            break
        self.is_asked = True
        tell("STOPPING=1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_calls, nursery.cancel_scope)
            async for _ in signals:
                nursery.cancel_scope.cancel()
        end_in_time()
        self.stopping.set()

    async def _wait_for_calls(self, scope: trio.CancelScope) -> None:
        with trio.move_on_after(self._drain):
            while busy_calls():
                await trio.sleep(POLL_SECONDS)
        scope.cancel()
