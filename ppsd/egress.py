"""Egress: a job's output, pushed to an object store once it is computed and before the job succeeds.

All files of the output commit are put below the URL, each under its path. What else is there stays. The AWS variables
and files in the service's environment say which endpoint and credentials are used.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, RawIOBase

import trio

from pfsd import s3
from pfsd.errors import InvalidError, PfsError, RefusedError, leaves
from ppsd.filesystem import CommitRef, FileSystem, ListedFile

logger = logging.getLogger(__name__)

SCHEME = "s3://"
PARALLEL = 8
"""Files that are pushed at a time."""
PART_BYTES = 16 << 20
"""A larger file goes in parts of this size, so that memory stays bounded."""
TRIES = 5
"""A file whose push failed so often makes the job fail."""
FIRST_PAUSE_SECONDS = 0.5


class EgressError(PfsError):
    """The output can't be pushed: the job fails."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed."""

    files: int
    size_bytes: int


def check(url: str, field: str) -> str:
    """The URL, if output can be pushed there; else raises InvalidError naming `field`."""
    if not url:
        raise InvalidError(f"{field} is missing: give s3://BUCKET/DIRECTORY")
    if not url.startswith(SCHEME):
        raise InvalidError(f"{field} should be s3://BUCKET/DIRECTORY, and is {url!r}: this version pushes to S3 only")
    try:
        s3.parse(url)
    except InvalidError:
        raise InvalidError(f"{field} should be s3://BUCKET/DIRECTORY, and is {url!r}") from None
    return url


async def push(commit: CommitRef, url: str, files: FileSystem) -> Pushed:
    """Put all files of a commit below `url`; does the same again when called again.

    Raises EgressError when the object store refuses, or goes on not to answer, and UnavailableError when the file
    system can't be read.
    """
    count = size = 0
    room = trio.CapacityLimiter(PARALLEL)
    place = s3.parse(url)
    try:
        async with trio.open_nursery() as nursery, files.all_files(commit) as batches:
            async for batch in batches:
                for file in batch:
                    # On behalf of the file: each of the tasks that are started gives back what is taken here.
                    await room.acquire_on_behalf_of(file.path)
                    key = f"{place.key.rstrip('/')}/{file.path}".lstrip("/")
                    job = functools.partial(_push_one, place.bucket, key, commit, file, files)
                    nursery.start_soon(_then_release, job, room, file.path)
                    count += 1
                    size += file.size
    except* PfsError as group:
        raise _first(group) from None
    return Pushed(count, size)


async def _then_release(job: Callable[[], object], room: trio.CapacityLimiter, borrower: str) -> None:
    try:
        await _patiently(job)
    finally:
        room.release_on_behalf_of(borrower)


async def _patiently(job: Callable[[], object]) -> None:
    """Do a job in a thread, again where the object store did not answer, but not for ever."""
    pause = FIRST_PAUSE_SECONDS
    for left in reversed(range(TRIES)):
        try:
            # A thread that is left behind ends by itself: all requests have their time limits.
            await trio.to_thread.run_sync(job, abandon_on_cancel=True)
            return
        except EgressError as error:
            if not left or isinstance(error.__cause__, RefusedError):
                raise
            logger.warning("egress is tried again in %.1f s: %s", pause, error)
        await trio.sleep(pause)
        pause *= 2


def _push_one(bucket: str, key: str, commit: CommitRef, file: ListedFile, files: FileSystem) -> None:
    """Put one file. Blocks."""
    from boto3.s3.transfer import TransferConfig

    transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
    url = f"{SCHEME}{bucket}/{key}"
    failures: list[PfsError] = []
    try:
        with s3.explained(url):
            if file.content is not None:
                s3.client().put_object(Bucket=bucket, Key=key, Body=BytesIO(file.content))
                return
            with _Watched(files.reader(commit, file.path), failures) as content:
                s3.client().upload_fileobj(content, bucket, key, Config=transfer)
    except PfsError as error:
        if failures:  # it was the file system, not the object store
            raise failures[0] from None
        raise EgressError(f"the output can't be pushed: {error}") from error


class _Watched:
    """A file-like object that remembers why reading it failed."""

    def __init__(self, content: RawIOBase, failures: list[PfsError]) -> None:
        self._content = content
        self._failures = failures

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        parts, left = [], size
        try:
            while left and (data := self._content.read(left if left > 0 else PART_BYTES)):
                parts.append(data)
                left -= len(data) if left > 0 else 0
        except PfsError as error:
            self._failures.append(error)
            raise
        return b"".join(parts)


def _first(group: BaseExceptionGroup[PfsError]) -> PfsError:
    """The error that counts: the object store's refusal rather than the file system's silence."""
    plain = [error for error in leaves(group) if isinstance(error, PfsError)]
    return next((error for error in plain if isinstance(error, EgressError)), plain[0])
