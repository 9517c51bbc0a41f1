"""Egress: a job's output, pushed to an object store once it is computed and before the job succeeds.

All files of the output commit are put below the URL, each under its path. What else is there stays. The variables of
the store's provider in the service's environment say which endpoint and credentials are used (`pfsd.clouds`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, RawIOBase

import trio

from pfsd import clouds
from pfsd.errors import InvalidError, NotFoundError, PfsError, RefusedError, leaves
from pfsd.runtime.persistence import pauses
from ppsd.storage.filesystem import CommitRef, FileSystem, ListedFile

logger = logging.getLogger(__name__)

PARALLEL = 8
"""Files that are pushed at a time."""
PATIENCE_SECONDS = 120.0
"""A file that can't be pushed for so long makes the job fail."""
READ_BYTES = 4 << 20


class EgressError(PfsError):
    """The output can't be pushed: the job fails."""

    def __init__(self, reason: PfsError) -> None:
        super().__init__(f"the output can't be pushed: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed."""

    files: int
    size_bytes: int


async def push(commit: CommitRef, url: str, files: FileSystem) -> Pushed:
    """Put all files of a commit below `url`; does the same again when called again.

    Raises EgressError when the object store refuses, or goes on not to answer, and UnavailableError when the file
    system can't be read.
    """
    count = size = 0
    room = trio.CapacityLimiter(PARALLEL)
    threads = trio.CapacityLimiter(PARALLEL)  # its own: an object store that is slow holds up nobody else
    place = clouds.parse(url)
    store = await trio.to_thread.run_sync(clouds.objects, place, abandon_on_cancel=True)
    try:
        async with trio.open_nursery() as nursery, files.all_files(commit) as batches:
            async for batch in batches:
                for file in batch:
                    # On behalf of the file: each of the tasks that are started gives back what is taken here.
                    await room.acquire_on_behalf_of(file.path)
                    target = place.at(f"{place.key.rstrip('/')}/{file.path}".lstrip("/"))
                    job = functools.partial(_push_one, store, target, commit, file, files)
                    nursery.start_soon(_then_release, job, room, threads, file.path)
                    count += 1
                    size += file.size
    except* PfsError as group:
        raise _first(group) from None
    return Pushed(count, size)


async def _then_release(
    job: Callable[[], object], room: trio.CapacityLimiter, threads: trio.CapacityLimiter, borrower: str
) -> None:
    try:
        await _patiently(job, threads)
    finally:
        room.release_on_behalf_of(borrower)


async def _patiently(job: Callable[[], object], threads: trio.CapacityLimiter) -> None:
    """Do a job in a thread, again where the object store did not answer, but not for ever."""
    deadline = trio.current_time() + PATIENCE_SECONDS
    following = pauses()
    while True:
        try:
            # A thread that is left behind ends by itself: all requests have their time limits.
            await trio.to_thread.run_sync(job, abandon_on_cancel=True, limiter=threads)
            return
        except EgressError as error:
            pause = following(error.reason)
            lasts = isinstance(error.reason, RefusedError | NotFoundError | InvalidError)
            if lasts or trio.current_time() + pause > deadline:
                raise
            logger.warning("egress is tried again in %.1f s: %s", pause, error)
        await trio.sleep(pause)


def _push_one(
    store: clouds.Objects, target: clouds.Place, commit: CommitRef, file: ListedFile, files: FileSystem
) -> None:
    """Put one file. Blocks."""
    failures: list[PfsError] = []
    try:
        if file.content is not None:
            store.put(target, BytesIO(file.content), len(file.content))
            return
        with _Watched(files.reader(commit, file.path), failures) as content:
            store.put(target, content, file.size)
    except PfsError as error:
        if failures:  # it was the file system, not the object store
            raise failures[0] from None
        raise EgressError(error) from error


class _Watched:
    """A file-like object that remembers why reading it failed."""

    def __init__(self, content: RawIOBase, failures: list[PfsError]) -> None:
        self._content = content
        self._failures = failures
        self._read = 0

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        parts, left = [], size
        try:
            while left and (data := self._content.read(left if left > 0 else READ_BYTES)):
                parts.append(data)
                left -= len(data) if left > 0 else 0
        except PfsError as error:
            self._failures.append(error)
            raise
        data = b"".join(parts)
        self._read += len(data)
        return data

    def tell(self) -> int:
        """How many bytes were read."""
        return self._read


def _first(group: BaseExceptionGroup[PfsError]) -> PfsError:
    """The error that counts: the object store's refusal rather than the file system's silence."""
    plain = [error for error in leaves(group) if isinstance(error, PfsError)]
    return next((error for error in plain if isinstance(error, EgressError)), plain[0])
