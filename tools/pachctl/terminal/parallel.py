"""Doing one thing to many items in a few threads, and stopping all when one fails or the user interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Cancellable(Protocol):
    """A call under way, such as grpc's."""

    def cancel(self) -> object: ...


Call = TypeVar("Call", bound=Cancellable)


class Calls:
    """The calls under way, so that all can be cancelled at once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: set[Cancellable] = set()
        self.stopped = False

    def add(self, call: Call) -> Call:
        """Keeps `call` until `discard`; cancels it at once where all have been stopped."""
        with self._lock:
            self._active.add(call)
            stopped = self.stopped
        if stopped:
            call.cancel()
        return call

    def discard(self, call: Cancellable) -> None:
        """Forgets a call that has ended."""
        with self._lock:
            self._active.discard(call)

    def stop(self) -> None:
        """Cancels every call, those to come included."""
        with self._lock:
            self.stopped = True
            active = list(self._active)
        for call in active:
            call.cancel()


class _Run:
    """The shared state of one `for_each`."""

    def __init__(self, items: Iterable[object], calls: Calls) -> None:
        self._items = iter(items)
        self._take = threading.Lock()
        self._calls = calls
        self.error: BaseException | None = None

    def work(self, function: Callable[[object], None]) -> None:
        try:
            while not self._calls.stopped:
                with self._take:
                    item = next(self._items, self)
                if item is self:
                    return
                function(item)
        except BaseException as error:  # noqa: BLE001 - re-raised by for_each, in the caller's thread
            with self._take:
                # What fails after the first error fails because of it.
                if self.error is None:
                    self.error = error
            self._calls.stop()


def for_each(items: Iterable[Item], function: Callable[[Item], None], threads: int, calls: Calls) -> None:
    """Calls `function` with each item, in at most `threads` threads; an item is taken when a thread is free.

    The first error stops the calls and is raised once all threads have ended; so is KeyboardInterrupt.
    """
    run = _Run(items, calls)
    workers = [
        # Daemons: one that hangs in a local read must not outlive the user's second Ctrl-C.
        threading.Thread(target=run.work, args=(function,), daemon=True)
        for _ in range(threads)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        calls.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
        raise
    if run.error is not None:
        raise run.error
