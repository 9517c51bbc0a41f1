"""Telling waiting calls that something in a repo changed."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Interest:
    """What somebody waits for."""

    repo: str
    """Empty: every repo."""
    below: bool
    """Whether the repos that have it in their provenance count too."""


_EVERYTHING = _Interest("", False)


class Subscription:
    """What one waiting call has not seen yet. Belongs to one asyncio loop."""

    def __init__(self, interest: _Interest) -> None:
        self.interest = interest
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
    """Everyone who waits for changes. Safe to use from many threads. A change costs as much as it concerns."""

    def __init__(self, changed: Callable[[str], None], ancestors: Callable[[str], Iterable[str]]) -> None:
        """`changed` is called with each repo before those who wait are woken; `ancestors` tells a repo's provenance."""
        self._changed = changed
        self._ancestors = ancestors
        self._lock = threading.Lock()
        self._waiting: defaultdict[_Interest, set[Subscription]] = defaultdict(set)

    def announce(self, *repos: str, moved: bool = False) -> None:
        """Wake all who wait for these repos. `moved` says that their provenance may have been another before."""
        for name in set(repos):
            self._changed(name)
        self.wake(repos, moved=moved)

    def wake(self, repos: Iterable[str], *, moved: bool = False) -> None:
        """Wake all who wait for these repos, where what is said of them changed but not they themselves."""
        names = frozenset(repos)
        interests: set[_Interest] = {_EVERYTHING}
        for name in names:
            interests |= {_Interest(name, False), _Interest(name, True)}
            interests.update(_Interest(above, True) for above in self._ancestors(name))
        with self._lock:
            if moved:
                interests.update(interest for interest in self._waiting if interest.below)
            waiting = set().union(*(self._waiting[interest] for interest in interests if interest in self._waiting))
        for subscription in waiting:
            subscription.notify(names)

    def subscribe(self, repo: str = "", *, below: bool = False) -> Subscription:
        """A subscription that sees every change from now on, to be given to `unsubscribe`.

        With a repo, it sees changes of that one, and with `below` of those that have it in their provenance too.
        """
        subscription = Subscription(_Interest(repo, below))
        with self._lock:
            self._waiting[subscription.interest].add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            same = self._waiting[subscription.interest]
            same.discard(subscription)
            if not same:
                del self._waiting[subscription.interest]
