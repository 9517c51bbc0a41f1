"""Blocks of packs on the local disk, shared by all processes of this machine that are given the same directory.

`XX/PACK.N` holds the N-th BLOCK_BYTES of a pack, fewer at its end. A block appears by a rename, and what a power cut
may still have torn is found by the hashes of the chunks that are read out of it: `forget` it then. While a range of
blocks is being fetched, the process that fetches holds a lock on it, so that whoever else wants some of it waits and
reads the file. `state` holds the counters of `Statistics`. Nothing here is needed: what is removed is fetched again.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import mmap
import os
import pathlib
import struct
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from typing import Protocol

from pfsd.errors import InvalidError, PfsError

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
REQUEST_BLOCKS = 4
"""Blocks that are fetched in one request, if so many are wanted."""
AT_ONCE = 12
"""Requests that a process makes at a time."""
MOST_AHEAD = 24
"""Blocks that are fetched ahead of a reader that goes through a pack from one end to the other."""
MOST_BLOCKS = 36
"""Of a pack: it is full at 32 MiB, and a chunk has at most 4."""
STREAMS = 64
KEPT_SHARE = 0.9
"""What is left of the limit once old blocks are removed."""
TOUCH_SECONDS = 60.0
"""How exactly it is known when a block was used last."""
DEFAULT_BYTES = 10 << 30

_STATE = struct.Struct("<8Q")
_STATE_LOCK = 1 << 62  # where in the file of locks: behind those of the blocks
_EVICT_LOCK = _STATE_LOCK + 1


class Source(Protocol):
    """Where blocks come from: an object store."""

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of an object, as many as there are."""


@dataclass(slots=True)
class Statistics:
    """What a cache has done since its directory was made, for all its users together."""

    bytes: int = 0
    """Held at present."""
    hits: int = 0
    """Reads of blocks that were there."""
    misses: int = 0
    """Reads of blocks that were not."""
    requests: int = 0
    """To the object store."""
    fetched: int = 0
    """Bytes that came from there."""
    waits: int = 0
    """Misses for which somebody else's request was waited for."""
    damaged: int = 0
    """Blocks that did not match."""
    evicted: int = 0
    """Blocks that had to make room."""


def statistics(directory: pathlib.Path) -> Statistics:
    """The counters of the cache in a directory; raises InvalidError where there is none."""
    try:
        return Statistics(*_STATE.unpack((directory / "state").read_bytes()[: _STATE.size]))
    except (OSError, struct.error):
        raise InvalidError(f"there is no block cache in {directory}") from None


@dataclass(slots=True)
class _Stream:
    """A reader's way through a pack, in numbers of blocks."""

    end: int
    window: int = 0
    asked_to: int = 0


class BlockCache:
    """A cache directory, as one process uses it. Safe to use from many threads."""

    def __init__(self, directory: pathlib.Path, limit: int = DEFAULT_BYTES) -> None:
        """Open or create, to hold up to `limit` bytes. Raises InvalidError when the directory can't be used."""
        self.directory = directory
        self.limit = max(limit, BLOCK_BYTES)
        """Bytes."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(directory / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < _STATE.size:
                    os.ftruncate(fd, _STATE.size)
                self._state = mmap.mmap(fd, _STATE.size)
            finally:
                os.close(fd)
            self._locks = directory / "locks"
            with self._locked(_STATE_LOCK, 1):
                pass
        except OSError as error:
            raise InvalidError(f"the cache directory {directory} can't be used: {error.strerror}") from error
        self._lock = threading.Lock()
        self._counted = Statistics()
        self._written = 0.0
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._coming: dict[tuple[str, int], Future[None]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="block")

    def read(self, source: Source, name: str, offset: int, size: int) -> bytes:
        """Bytes of an object, as many as there are; raises what `source` raises."""
        first, last = offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES
        self._read_ahead(source, name, first, last)
        parts = []
        for index in range(first, last + 1):
            start = index * BLOCK_BYTES
            low, high = max(offset - start, 0), min(offset + size - start, BLOCK_BYTES)
            part = self._part(name, index, low, high)
            if part is None:
                later = range(index + 1, last + 1)
                wanted = [index, *(number for number in later if not self._path(name, number).exists())]
                self._count(misses=1)
                part = self._fetched(source, name, wanted)[low:high]
            else:
                self._count(hits=1)
            parts.append(part)
            if len(part) < high - low:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fill(self, source: Source, wanted: Iterable[tuple[str, int, int]]) -> None:
        """Fetch what is missing for these reads (name, offset, size), several requests at a time.

        What can't be had is left to those who read it.
        """
        blocks: dict[str, set[int]] = {}
        for name, offset, size in wanted:
            blocks.setdefault(name, set()).update(range(offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES + 1))
        futures = {each for name, numbers in blocks.items() for each in self._begin(source, name, sorted(numbers))}
        for future in futures:
            _wait(future)

    def keep(self, name: str, fd: int) -> None:
        """Take over the blocks of an object that was just stored, from a file."""
        for index in itertools.count():
            data = os.pread(fd, BLOCK_BYTES, index * BLOCK_BYTES)
            if data:
                self._store(name, index, data)
            if len(data) < BLOCK_BYTES:
                return

    def forget(self, name: str, offset: int, size: int) -> bool:
        """Drop the blocks of a read that turned out wrong; whether there were any."""
        dropped = 0
        for index in range(offset // BLOCK_BYTES, (offset + size - 1) // BLOCK_BYTES + 1):
            with suppress(FileNotFoundError):
                self._path(name, index).unlink()
                dropped += 1
        self._count(damaged=dropped)
        return dropped > 0

    def forget_all(self, name: str) -> None:
        """Drop every block of an object that is gone."""
        path = self._path(name, 0)
        for block in path.parent.glob(f"{path.name.rpartition('.')[0]}.*"):
            block.unlink(missing_ok=True)

    def close(self) -> None:
        """Write the counters and end what is being fetched ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._write_counters()

    # --- fetching

    def _fetched(self, source: Source, name: str, wanted: list[int]) -> bytes:
        """The first of the blocks that are wanted, fetched together with those that follow it."""
        index = wanted[0]
        with self._lock:
            coming = self._coming.get((name, index))
        if coming is not None:
            self._count(waits=1)
            _wait(coming)
            data = self._part(name, index, 0, BLOCK_BYTES, partial=True)
            if data is not None:
                return data
        found = self._fetch(source, name, next(_spans(wanted)))
        if index in found:
            return found[index]
        data = self._part(name, index, 0, BLOCK_BYTES, partial=True)
        return data if data is not None else source.read_fresh(name, index * BLOCK_BYTES, BLOCK_BYTES)

    def _begin(self, source: Source, name: str, numbers: list[int]) -> set[Future[None]]:
        """Begin to fetch those of sorted blocks that are not here; what is done once they are, as far as they can be.

        A block that is on its way already is not part of another request, which would have to wait for that one.
        """
        missing = [number for number in numbers if not self._path(name, number).exists()]
        with self._lock:
            futures = {self._coming[name, number] for number in missing if (name, number) in self._coming}
            spans = list(_spans(number for number in missing if (name, number) not in self._coming))
            for span in spans:
                try:
                    future = self._pool.submit(self._ahead, source, name, span)
                except RuntimeError:  # closed meanwhile
                    break
                self._coming.update(((name, number), future) for number in span)
                futures.add(future)
        return futures

    def _fetch(self, source: Source, name: str, span: list[int], *, is_ahead: bool = False) -> dict[int, bytes]:
        """Fetch those blocks of a span, without gaps, that nobody fetched meanwhile; returns them."""
        first = span[0]
        with self._locked(_lock_at(name, first), len(span)) as waited:
            missing = span
            if waited or is_ahead:  # else a reader wants them, who has seen that a block is not there or too short
                missing = [number for number in span if not self._path(name, number).exists()]
            if waited:
                self._count(waits=1)
            if not missing:
                return {}
            first, count = missing[0], missing[-1] - missing[0] + 1
            data = source.read_fresh(name, first * BLOCK_BYTES, count * BLOCK_BYTES)
            self._count(requests=1, fetched=len(data))
            found = {}
            for number in range(count):
                block = data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
                found[first + number] = block
                if block:
                    self._store(name, first + number, block)
            return found

    def _ahead(self, source: Source, name: str, span: list[int]) -> None:
        try:
            self._fetch(source, name, span, is_ahead=True)
        except PfsError as error:
            log.info("blocks of %s were not fetched ahead: %s", name, error)
        except Exception:
            log.exception("fetching blocks of %s ahead failed", name)
        finally:
            with self._lock:
                for number in span:
                    self._coming.pop((name, number), None)

    def _read_ahead(self, source: Source, name: str, first: int, last: int) -> None:
        """Fetch what follows where a reader goes on from where it was: the further, the longer it does."""
        with self._lock:
            stream = self._streams.pop(name, None)
            if stream is None or not stream.end - 2 <= first <= stream.end:
                stream = _Stream(last + 1, 0 if first else REQUEST_BLOCKS)
            elif last + 1 > stream.end:
                stream.end = last + 1
                stream.window = min(max(2 * stream.window, REQUEST_BLOCKS), MOST_AHEAD)
            self._streams[name] = stream
            if len(self._streams) > STREAMS:
                self._streams.popitem(last=False)
            begin, end = max(stream.asked_to, stream.end), stream.end + stream.window
            if end - begin < min(stream.window, REQUEST_BLOCKS):
                return
            stream.asked_to = end
        missing = self._missing(name, stream.end, min(end, MOST_BLOCKS))
        self._begin(source, name, [number for number in missing if number >= begin])

    def _missing(self, name: str, begin: int, end: int) -> Iterator[int]:
        """The blocks in a range that are not here, as far as it is not known that the object ends before."""
        before = self._size(name, begin - 1)
        for number in range(begin, end):
            if before is not None and before < BLOCK_BYTES:
                return
            before = self._size(name, number)
            if before is None:
                yield number

    # --- files

    def _size(self, name: str, index: int) -> int | None:
        """Bytes of a block; None where it is not here."""
        try:
            return self._path(name, index).stat().st_size
        except FileNotFoundError:
            return None

    def _path(self, name: str, index: int) -> pathlib.Path:
        pack = name.rpartition("/")[2]
        return self.directory / pack[:2] / f"{pack}.{index}"

    def _part(self, name: str, index: int, low: int, high: int, *, partial: bool = False) -> bytes | None:
        """Bytes of a block; None where they are not all there, or, with `partial`, none are."""
        try:
            fd = os.open(self._path(name, index), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = os.pread(fd, high - low, low)
            if time.time() - os.fstat(fd).st_mtime > TOUCH_SECONDS:
                os.utime(fd)
        finally:
            os.close(fd)
        return data if partial or len(data) == high - low else None

    def _store(self, name: str, index: int, data: bytes) -> None:
        """Keep a block; where the disk does not take it, it is simply not kept."""
        path = self._path(name, index)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fd, made = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                before = path.stat().st_size if path.exists() else 0
                os.replace(made, path)
            except BaseException:
                os.unlink(made)
                raise
        except OSError as error:
            log.warning("a block is not kept in %s: %s", self.directory, error.strerror)
            return
        self._count(bytes=len(data) - before)
        if self._written_bytes() > self.limit:
            self._evict()

    def _evict(self) -> None:
        """Remove the blocks that were not used for the longest time; count anew what there is."""
        with self._locked(_EVICT_LOCK, 1) as waited:
            if waited and self._written_bytes() <= self.limit:
                return
            blocks = []
            for path in self.directory.glob("??/*"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    blocks.append((status.st_mtime_ns, status.st_size, path))
            total, evicted = sum(size for _, size, _ in blocks), 0
            for _, size, path in sorted(blocks):
                if total <= self.limit * KEPT_SHARE:
                    break
                path.unlink(missing_ok=True)
                total, evicted = total - size, evicted + 1
            self._count(evicted=evicted)
            with self._lock:
                self._counted.bytes = 0
                self._write_counters(held=total)

    @contextmanager
    def _locked(self, start: int, length: int) -> Iterator[bool]:
        """Hold a part of the file of locks against threads and processes alike; tells whether that took waiting.

        The kernel gives it up when the process dies.
        """
        fd = os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # struct flock of a 64-bit Linux; these locks belong to the descriptor, not to the process
            wanted = struct.pack("hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
                waited = False
            except (BlockingIOError, PermissionError):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, wanted)
                waited = True
            yield waited
        finally:
            os.close(fd)

    # --- counters

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self._counted, name, getattr(self._counted, name) + value)
            if "bytes" in more or time.monotonic() - self._written > 1:
                self._write_counters()

    def _written_bytes(self) -> int:
        return int(_STATE.unpack_from(self._state)[0])

    def _write_counters(self, held: int | None = None) -> None:
        """Add what was counted to the counters that all share. Called under the lock."""
        with self._locked(_STATE_LOCK, 1):
            sums = [old + new for old, new in zip(_STATE.unpack_from(self._state), astuple(self._counted), strict=True)]
            if held is not None:
                sums[0] = held
            _STATE.pack_into(self._state, 0, *(max(number, 0) for number in sums))
        for field in fields(self._counted):
            setattr(self._counted, field.name, 0)
        self._written = time.monotonic()


def _wait(future: Future[None]) -> None:
    with suppress(CancelledError):  # closed meanwhile
        future.result()


def _lock_at(name: str, index: int) -> int:
    """Where in the file of locks the one of a block is; those of a pack lie beside each other."""
    return (int(name.rpartition("/")[2][:12], 16) << 12) + index


def _spans(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Sorted numbers, cut where there is a gap and after REQUEST_BLOCKS."""
    span: list[int] = []
    for number in numbers:
        if span and (number != span[-1] + 1 or len(span) == REQUEST_BLOCKS):
            yield span
            span = []
        span.append(number)
    if span:
        yield span
