"""A cache of the blocks of packs: what is fetched of a remote object store, when, and how much at a time.

The blocks are files (`pfsd.objectstores.blockfiles`), shared by all processes of this machine that are given the same
directory. While a range of blocks is being fetched, the process that fetches it holds a lock on it: others that want
some of it wait, and then read the file. Readers of the same process take a block out of memory as soon as it has come.
"""

from __future__ import annotations

import itertools
import logging
import os
import pathlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pfsd.errors import PfsError
from pfsd.objectstores.blockfiles import BLOCK_BYTES, BlockFiles, Lock

log = logging.getLogger(__name__)

REQUEST_BLOCKS = 8
"""Blocks that are fetched in one request, more or less, if so many are wanted."""
AT_ONCE = 8
"""Requests that a process makes at a time."""
FIRST_AHEAD = 4
"""Blocks that are fetched at the beginning of a pack, and ahead of a reader that has just been found to go on."""
MOST_AHEAD = 24
"""Blocks that are fetched ahead of a reader that goes through a pack from one end to the other."""
MOST_BLOCKS = 36
"""Of a pack: it is full at 32 MiB, and a chunk has at most 4."""
STREAMS = 64
DEFAULT_BYTES = 10 << 30

Block = tuple[str, int]
"""The name of an object, and the number of a block in it."""


class Source(Protocol):
    """Where blocks come from: an object store."""

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of an object, as many as there are."""

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        """The same as they come, in pieces of `piece` bytes, the last of which may be shorter."""


@dataclass(slots=True)
class _Stream:
    """A reader's way through a pack, in numbers of blocks."""

    end: int
    window: int = 0
    asked_to: int = 0


class Coming:
    """Blocks on their way, of which this holds those that have come."""

    def __init__(self, futures: dict[Block, Future[bytes | None]]) -> None:
        self._futures = futures

    def part(self, name: str, index: int, low: int, high: int) -> memoryview | None:
        """Bytes of a block, once it has come; None where it is not among these, or could not be had."""
        future = self._futures.get((name, index))
        data = None if future is None else future.result()
        return None if data is None else memoryview(data)[low:high]

    def wait(self) -> None:
        """Return once all have come that can be had."""
        for future in self._futures.values():
            future.result()


class BlockCache:
    """A cache directory, as one process uses it. Safe to use from many threads."""

    def __init__(self, directory: pathlib.Path, limit: int = DEFAULT_BYTES) -> None:
        """Open or create, to hold up to `limit` bytes. Raises InvalidError when the directory can't be used."""
        self.files = BlockFiles(directory, limit)
        self.directory = directory
        self._lock = threading.Lock()
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._coming: dict[Block, Future[bytes | None]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="block")

    @property
    def limit(self) -> int:
        """Bytes."""
        return self.files.limit

    def read(self, source: Source, name: str, offset: int, size: int, coming: Coming | None = None) -> bytes:
        """Bytes of an object, as many as there are; raises what `source` raises."""
        first, last = offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES
        if coming is None:
            self._read_ahead(source, name, first, last)
        parts: list[bytes | memoryview] = []
        for index in range(first, last + 1):
            start = index * BLOCK_BYTES
            low, high = max(offset - start, 0), min(offset + size - start, BLOCK_BYTES)
            part: bytes | memoryview | None = None if coming is None else coming.part(name, index, low, high)
            if part is None:
                part = self.files.part(name, index, low, high)
            if part is None:
                later = range(index + 1, last + 1)
                wanted = [index, *(number for number in later if self.files.size(name, number) is None)]
                self.files.count(misses=1)
                part = self._fetched(source, name, wanted, high)[low:high]
            else:
                self.files.count(hits=1)
            parts.append(part)
            if len(part) < high - low:
                break
        return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)

    def begin(self, source: Source, wanted: Iterable[tuple[str, int, int]]) -> Coming:
        """Begin to fetch what is missing for these reads (name, offset, size), several requests at a time.

        What can't be had is left to those who read it.
        """
        blocks: dict[str, set[int]] = {}
        for name, offset, size in wanted:
            blocks.setdefault(name, set()).update(range(offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES + 1))
        futures: dict[Block, Future[bytes | None]] = {}
        for name, numbers in blocks.items():
            futures.update(self._begin(source, name, sorted(numbers)))
        return Coming(futures)

    def keep(self, name: str, fd: int) -> None:
        """Take over the blocks of an object that was just stored, from a file."""
        for index in itertools.count():
            data = os.pread(fd, BLOCK_BYTES, index * BLOCK_BYTES)
            if data:
                self.files.store(name, index, data)
            if len(data) < BLOCK_BYTES:
                return

    def forget(self, name: str, offset: int, size: int) -> bool:
        """Drop the blocks of a read that turned out wrong; whether there were any."""
        blocks = range(offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES + 1)
        dropped = sum(self.files.forget(name, index) for index in blocks)
        self.files.count(damaged=dropped)
        return dropped > 0

    def forget_all(self, name: str) -> None:
        """Drop every block of an object that is gone."""
        self.files.forget_all(name)

    def close(self) -> None:
        """Write the counters and end what is being fetched ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for future in self._coming.values():
                _settle(future, None)
        self.files.write_counters()

    # --- fetching

    def _fetched(self, source: Source, name: str, wanted: list[int], least: int) -> bytes:
        """The first of the blocks that are wanted, `least` bytes of it, fetched together with those that follow it."""
        index = wanted[0]
        with self._lock:
            coming = self._coming.get((name, index))
        if coming is not None:
            self.files.count(waits=1)
            come = coming.result()
            data = self.files.part(name, index, 0, BLOCK_BYTES, partial=True) if come is None else come
            if data is not None:
                return data
        found: dict[int, bytes] = {}
        try:
            self._fetch(source, name, next(_spans(wanted)), found.__setitem__, least)
        except PfsError:
            if index not in found:
                raise
        if index in found:
            return found[index]
        data = self.files.part(name, index, 0, BLOCK_BYTES, partial=True)
        return data if data is not None else source.read_fresh(name, index * BLOCK_BYTES, BLOCK_BYTES)

    def _begin(self, source: Source, name: str, numbers: list[int]) -> dict[Block, Future[bytes | None]]:
        """Begin to fetch those of sorted blocks that are not here, and tell of those that are on their way.

        A block that is on its way already is not part of another request, which would have to wait for that one.
        """
        missing = [number for number in numbers if self.files.size(name, number) is None]
        with self._lock:
            futures = {
                (name, number): self._coming[name, number] for number in missing if (name, number) in self._coming
            }
            for span in list(_spans(number for number in missing if (name, number) not in self._coming)):
                mine: dict[Block, Future[bytes | None]] = {(name, number): Future() for number in span}
                try:
                    self._pool.submit(self._ahead, source, name, span, mine)
                except RuntimeError:  # closed meanwhile
                    break
                self._coming.update(mine)
                futures.update(mine)
        return futures

    def _fetch(
        self, source: Source, name: str, span: list[int], take: Callable[[int, bytes], None], least: int = 0
    ) -> None:
        """Fetch those blocks of a span, without gaps, that nobody fetched meanwhile; each is taken as it comes.

        The first of them is fetched again where it has less than `least` bytes.
        """
        with self.files.locked(name, span[0], len(span)) as lock:
            sizes = {number: self.files.size(name, number) for number in span}
            missing = [number for number, size in sizes.items() if size is None or (number == span[0] and size < least)]
            if lock is Lock.WAITED:
                self.files.count(waits=1)
            if not missing:
                return
            following = itertools.count(missing[0])

            def keep(data: bytes) -> None:
                number = next(following)
                take(number, data)
                self.files.count(fetched=len(data))
                self.files.store(name, number, data)

            count = missing[-1] - missing[0] + 1
            self.files.count(requests=1)
            source.stream(name, missing[0] * BLOCK_BYTES, count * BLOCK_BYTES, BLOCK_BYTES, keep)
            for number in range(next(following), missing[-1] + 1):
                take(number, b"")  # the object ends before

    def _ahead(self, source: Source, name: str, span: list[int], futures: dict[Block, Future[bytes | None]]) -> None:
        try:
            self._fetch(source, name, span, lambda number, data: _settle(futures.get((name, number)), data))
        except PfsError as error:
            log.info("blocks of %s were not fetched ahead: %s", name, error)
        except Exception:
            log.exception("fetching blocks of %s ahead failed", name)
        finally:
            with self._lock:
                for block, future in futures.items():
                    self._coming.pop(block, None)
                    _settle(future, None)

    def _read_ahead(self, source: Source, name: str, first: int, last: int) -> None:
        """Fetch what follows where a reader goes on from where it was: the further, the longer it does."""
        with self._lock:
            stream = self._streams.pop(name, None)
            if stream is None or not stream.end - 2 <= first <= stream.end:
                stream = _Stream(last + 1, 0 if first else FIRST_AHEAD)
            elif last + 1 > stream.end:
                stream.end = last + 1
                stream.window = min(max(2 * stream.window, FIRST_AHEAD), MOST_AHEAD)
            self._streams[name] = stream
            if len(self._streams) > STREAMS:
                self._streams.popitem(last=False)
            begin, end = max(stream.asked_to, stream.end), stream.end + stream.window
            if end - begin < min(stream.window, FIRST_AHEAD):
                return
            stream.asked_to = end
        missing = self._missing(name, stream.end, min(end, MOST_BLOCKS))
        self._begin(source, name, [number for number in missing if number >= begin])

    def _missing(self, name: str, begin: int, end: int) -> Iterator[int]:
        """The blocks in a range that are not here, as far as it is not known that the object ends before."""
        before = self.files.size(name, begin - 1)
        for number in range(begin, end):
            if before is not None and before < BLOCK_BYTES:
                return
            before = self.files.size(name, number)
            if before is None:
                yield number


def _settle(future: Future[bytes | None] | None, data: bytes | None) -> None:
    """Give a future what has come, unless it has something."""
    if future is not None:
        with suppress(InvalidStateError):
            future.set_result(data)


def _spans(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Sorted numbers, cut where there is a gap, and between that into even parts of about REQUEST_BLOCKS."""
    run: list[int] = []
    for number in (*numbers, -1):
        if run and number != run[-1] + 1:
            parts = max(1, round(len(run) / REQUEST_BLOCKS))
            ends = [len(run) * part // parts for part in range(parts + 1)]
            yield from (run[begin:end] for begin, end in itertools.pairwise(ends))
            run = []
        run.append(number)
