"""Reading commits, open ones too, in threads that wait for no writer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from pachproto import pfs_pb2
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.runtime.threads import Kind, in_thread, in_turn, stream_in_thread

T = TypeVar("T")

Find = Callable[[pfs_pb2.Commit], Commit]
"""Finds the commit that a message names, as one that can be read without its lock."""


class _ToFoldError(Exception):
    """A commit can't be read at once."""

    def __init__(self, commit: Commit) -> None:
        super().__init__(commit.id)
        self.commit = commit


class _Finder:
    """Finds commits; remembers the open ones that were waited for."""

    def __init__(self, store: Store) -> None:
        self._commits = store.commits
        self._known: dict[str, Commit] = {}

    def find(self, message: pfs_pb2.Commit) -> Commit:
        """Raises NotFoundError, and _ToFoldError for a commit that `wait` has to be called with before."""
        commit = self._commits.resolve(message.repo.name, message.id)
        found = self._known.get(commit.id) or self._commits.snapshot_at_once(commit)
        if found is None:
            raise _ToFoldError(commit)
        return found

    async def wait(self, commit: Commit) -> None:
        self._known[commit.id] = await in_turn(commit.id, self._commits.snapshot, commit)


async def reading(store: Store, kind: Kind, work: Callable[[Find], T]) -> T:
    """What `work(find)` returns in a thread of a kind. It is begun anew where a commit has to be folded first."""
    finder = _Finder(store)
    while True:
        try:
            return await in_thread(kind, work, finder.find)
        except _ToFoldError as error:
            await finder.wait(error.commit)


async def stream_reading(
    store: Store, kind: Kind, make: Callable[[Find], Iterable[T]], at_once: int = 1
) -> AsyncIterator[list[T]]:
    """The items of `make(find)`, as `stream_in_thread` gives them; `find` is called before the first item comes."""
    finder = _Finder(store)
    while True:
        try:
            async for batch in stream_in_thread(kind, lambda: make(finder.find), at_once):
                yield batch
            return
        except _ToFoldError as error:
            await finder.wait(error.commit)


async def each_reading(store: Store, kind: Kind, make: Callable[[Find], Iterator[T]]) -> AsyncIterator[T]:
    """Like `stream_reading`, one item at a time."""
    async for (item,) in stream_reading(store, kind, make):
        yield item
