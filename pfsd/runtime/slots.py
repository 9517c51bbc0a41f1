"""Bounds how much work of one kind runs at a time, and lets the clients that wait for it take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque

from pfsd.errors import BusyError

WAITING_OF_ONE = 10_000
"""Calls of one client that may wait for one kind of work."""
WAITING = 50_000
"""Calls of all clients that may."""


class Slots:
    """So many calls at a time; the others wait without holding anything. Belongs to one asyncio loop.

    Those that wait are let in by turns: one call of each client, however many another one has.
    """

    def __init__(self, what: str, count: int, most_of_one: int) -> None:
        """`most_of_one` of the `count` slots are one client's at a time, so that there is one for the next client."""
        self._what = what
        self._free = count
        self._most = most_of_one
        self._held: Counter[str] = Counter()
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their turns
        self._waiting = 0
        self.waited_seconds = 0.0
        """For which those that have a slot by now had to wait, all together."""

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """How many calls wait for one."""
        return self._waiting

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds one or waits."""
        return not self._held and not self._queues

    def take_at_once(self, client: str) -> bool:
        """Take a slot, unless the client would have to wait for it; returns whether it has one now."""
        if not self._free or self._held[client] >= self._most:
            return False
        self._free -= 1
        self._held[client] += 1
        return True

    async def take(self, client: str) -> None:
        """Take a slot. Cancelling gives up the place in the queue at once. Raises BusyError where the queue is full."""
        if self.take_at_once(client):
            return
        queue = self._queues.setdefault(client, deque())
        if len(queue) >= WAITING_OF_ONE or self._waiting >= WAITING:
            raise BusyError(f"too many calls wait for {self._what}: try again once some of them have ended")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._waiting += 1
        began = time.monotonic()
        try:
            await turn
            self.waited_seconds += time.monotonic() - began
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(client, turn)
            else:  # it had just come
                self.give_back(client)
            raise
        finally:
            self._waiting -= 1

    def _leave(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(client)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[client]

    def give_back(self, client: str) -> None:
        """A client has done with a slot: the next one goes on."""
        self._free += 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        while self._free and self._let_one_in():
            pass

    def _let_one_in(self) -> bool:
        client = next((client for client in self._queues if self._held[client] < self._most), None)
        if client is None:
            return False
        queue = self._queues.pop(client)
        turn = queue.popleft()
        if queue:
            self._queues[client] = queue  # behind all others
        if not turn.cancelled():  # one that is has not yet come to leaving the queue
            self._free -= 1
            self._held[client] += 1
            turn.set_result(None)
        return True
