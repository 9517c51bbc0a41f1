"""Telling waiting calls that something in a repo changed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable


class Subscription:
    """What one waiting call has not seen yet. Belongs to one asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._lock = threading.Lock()
        self._repos: set[str] = set()

    def notify(self, repos: frozenset[str]) -> None:
        """Called from any thread."""
        with self._lock:
            wake = not self._repos
            self._repos |= repos
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._event.set)
            except RuntimeError:  # the loop has closed, and with it the call that waited
                pass

    async def next(self) -> frozenset[str]:
        """The repos that changed since the last call; waits until there are some."""
        await self._event.wait()
        self._event.clear()
        with self._lock:
            repos, self._repos = frozenset(self._repos), set()
        return repos


class Changes:
    """Everyone who waits for changes. Safe to use from many threads."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        """`changed` is called with each repo before those who wait are woken."""
        self._changed = changed
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()

    def announce(self, *repos: str) -> None:
        """Wake all who wait: these repos changed."""
        for name in set(repos):
            self._changed(name)
        self.wake(repos)

    def wake(self, repos: Iterable[str]) -> None:
        """Wake all who wait, where what is said of repos changed but not they themselves."""
        names = frozenset(repos)
        with self._lock:
            waiting = list(self._subscriptions)
        for subscription in waiting:
            subscription.notify(names)

    def subscribe(self) -> Subscription:
        """A subscription that sees every change from now on; to be given to `unsubscribe`."""
        subscription = Subscription()
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)
