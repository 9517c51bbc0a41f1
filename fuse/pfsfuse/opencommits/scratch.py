"""What a program has written to a file, kept on this machine over the content that the store has.

Only what is written, and what has to be sent along with it, takes room: the rest is read from the store.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, Protocol

from pfsd.chunks.extents import extents
from pfsd.local.disk import punch, write_all
from pfsd.names.sizes import MAX_FILE_BYTES
from pfsd.trees.entries import FileEntry
from pfsfuse.kernel.errnos import TooLargeError, locally

MEMORY_BYTES = 128 << 10
"""Content up to this size is held in memory; more goes to a file without a name."""

FETCH_BYTES = 4 << 20
"""How much is fetched from the store at a time."""


class BaseReader(Protocol):
    """Reads the content that the store has (`pfsfuse.content.content.Content`)."""

    async def read(self, entry: FileEntry, offset: int, size: int) -> bytes | memoryview:
        """The bytes [offset, offset + size)."""

    async def hole(self, entry: FileEntry, offset: int) -> int:
        """Where the zeros end that are known to stand at `offset` without reading them; `offset` where none are."""

    async def data_end(self, entry: FileEntry, offset: int) -> int:
        """Where the bytes from `offset` on end that are not known to be zeros."""


class Ranges:
    """A set of byte positions, as ranges that neither overlap nor touch."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add [start, end)."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def cut(self, end: int) -> None:
        """Remove everything from `end` on."""
        kept = bisect_left(self._starts, end)
        del self._starts[kept:], self._ends[kept:]
        if kept and self._ends[-1] > end:
            self._ends[-1] = end

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of [start, end) that are in the set, in order."""
        for at in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[at] >= end:
                return
            yield max(start, self._starts[at]), min(end, self._ends[at])

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of [start, end) that are not in the set, in order."""
        for at in range(bisect_right(self._ends, start), len(self._starts)):
            if start >= end or self._starts[at] >= end:
                break
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._ends[at]
        if start < end:
            yield start, end


class Changes(NamedTuple):
    """What of a file is to be sent."""

    base: FileEntry
    size: int
    """Of the file; all that is not in `ranges` is as in `base`."""
    ranges: tuple[tuple[int, int], ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is as in `base`."""
        return self.ranges == ((0, self.size),)


class Scratch:
    """The content of one file: `base`, and over it what was written.

    What the operating system refuses is raised as LocalError.
    """

    __slots__ = (
        "_changed",
        "_directory",
        "_fd",
        "_kept",
        "_memory",
        "_present",
        "_sending",
        "_sent_kept",
        "base",
        "size",
    )

    def __init__(self, directory: str, base: FileEntry) -> None:
        self.size = base.size
        self.base = base
        self._directory = directory
        self._kept = base.size
        """Everything from this offset on is here; before it, what `_present` has."""
        self._present = Ranges()
        self._changed = Ranges()
        """What was written over `base`, or what is being sent, and not begun to be sent itself ..."""
        self._sending = Ranges()
        """... and what of it is being sent, ..."""
        self._sent_kept = base.size
        """... which is going to be the base; from this offset on, all differs from that."""
        self._memory = bytearray()
        self._fd = -1

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Take in bytes at an offset, also beyond the end. Raises TooLargeError."""
        end = offset + len(data)
        self._check(end)
        self._store(offset, data)
        self._present.add(offset, min(end, self._kept))
        self._changed.add(offset, min(end, self._sent_kept))
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with zeros. Raises TooLargeError."""
        self._check(size)
        if size < self.size:
            with locally("a file can't be cut here"):
                if self._fd >= 0:
                    os.ftruncate(self._fd, size)
                else:
                    del self._memory[size:]
            self._kept = min(self._kept, size)
            self._sent_kept = min(self._sent_kept, size)
            for ranges in (self._present, self._changed, self._sending):
                ranges.cut(size)
        self.size = size

    def clear(self, start: int, end: int) -> None:
        """Let zeros, which take no room, stand in [start, end) as far as the file goes."""
        end = min(end, self.size)
        if start >= end:
            return
        if self._fd >= 0:
            with locally("a hole can't be made here"):
                punch(self._fd, start, end - start)
        elif start < (top := min(end, len(self._memory))):
            self._memory[start:top] = bytes(top - start)
        self._present.add(start, min(end, self._kept))
        self._changed.add(start, end)

    def take_over(self, content: FileEntry, start: int, end: int) -> bool:
        """Let the file, which is that content up to `start`, be it up to `end`; False where it is anything else."""
        if self.base != content or not self.size == self._kept == start <= end <= content.size:
            return False
        self.size = self._kept = self._sent_kept = end
        return True

    async def run_at(self, content: BaseReader, offset: int) -> tuple[int, bool]:
        """Where ends what begins at an offset before the end and is all data or all a hole, and whether it is data."""
        gap = next(self._present.missing(offset, self._kept), (self.size, self.size))
        if gap[0] > offset or offset >= self._kept:
            _, end, is_data = next(self.extents(offset, min(gap[0], self.size)))
            return end, is_data
        end = await content.hole(self.base, offset)
        if end > offset:
            return min(end, gap[1]), False
        return min(await content.data_end(self.base, offset), gap[1]), True

    def _check(self, size: int) -> None:
        if size > MAX_FILE_BYTES and size > self.size:
            raise TooLargeError(f"a file can't have {size} bytes: at most {MAX_FILE_BYTES} (1 TiB) are allowed")

    async def read(self, content: BaseReader, offset: int, size: int) -> bytes:
        """The bytes [offset, offset + size), fewer at the end of the file."""
        base, end = self.base, min(offset + size, self.size)
        if offset >= end:
            return b""
        missing = list(self._present.missing(offset, min(end, self._kept)))
        data = self.local(offset, end)
        if not missing:
            return data
        merged = bytearray(data)
        for start, stop in missing:
            merged[start - offset : stop - offset] = await content.read(base, start, stop - start)
        return bytes(merged)

    def whole(self) -> bytes | None:
        """All the content, if no byte of it has to be read from the store."""
        if next(self._present.missing(0, min(self._kept, self.size)), None) is not None:
            return None
        return self.local(0, self.size)

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be read from the store."""
        return next(self._present.missing(0, self._kept), None) is None

    async def fill(self, content: BaseReader) -> None:
        """Fetch what is not here; what is known to be zeros is left a hole."""
        async for at, data in self.absent(content):
            for first, last in list(self._present.missing(at, min(at + len(data), self._kept))):  # it may be written to
                self._store(first, data[first - at : last - at])
                self._present.add(first, last)

    async def absent(self, content: BaseReader) -> AsyncIterator[tuple[int, bytes]]:
        """What is not here of the content, as offsets and bytes in order; what is known to be zeros is left out."""
        start = 0
        while (gap := next(self._present.missing(start, self._kept), None)) is not None:
            base, (at, end) = self.base, gap
            start = min(await content.hole(base, at), end)
            if start == at:
                start = min(end, at + FETCH_BYTES)
                yield at, bytes(await content.read(base, at, start - at))

    def local(self, start: int, end: int) -> bytes:
        """What is here of [start, end), zeros where nothing is. Also for a thread that sends it."""
        memory = self._memory  # first: it is left as it is when its content goes to a file
        if self._fd < 0:
            data = bytes(memory[start:end])
        else:
            with locally("what was written here can't be read"):
                data = os.pread(self._fd, end - start, start)
        return data + bytes(end - start - len(data))

    @property
    def fd(self) -> int:
        """The file that has it, where it is not in memory; else -1."""
        return self._fd

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """The ranges of [start, end), in order, each with whether anything was written there; the rest are zeros."""
        if self._fd >= 0:
            with locally("what was written here can't be read"):
                yield from extents(self._fd, start, end)
            return
        data = min(max(len(self._memory), start), end)
        if data > start:
            yield start, data, True
        if end > data:
            yield data, end, False

    def written(self) -> Iterator[tuple[int, int, bool]]:
        """The ranges of what is here, in order, each with whether it holds anything but zeros."""
        for start, end in (*self._present.within(0, self._kept), (self._kept, self.size)):
            yield from self.extents(start, end)

    def changes(self) -> Changes:
        """What has to be sent now; all that differs from `base`."""
        for start, end in self._sending.within(0, self._kept):  # that was not taken
            self._changed.add(start, end)
        ranges = Ranges()
        for start, end in self._changed.within(0, self._kept):
            ranges.add(start, end)
        ranges.add(self._kept, self.size)
        self._sending, self._changed, self._sent_kept = self._changed, Ranges(), self.size
        return Changes(self.base, self.size, tuple(ranges.within(0, self.size)))

    def rebase(self, base: FileEntry) -> None:
        """The store has taken what `changes` told last: it is `base` now."""
        self._present.add(self._kept, self._sent_kept)
        self._kept, self._sending, self.base = self._sent_kept, Ranges(), base

    def close(self) -> None:
        """Free what it takes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._memory = bytearray()

    def _store(self, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        if self._fd < 0 and end <= MEMORY_BYTES:
            if len(self._memory) < end:
                self._memory += bytes(end - len(self._memory))
            self._memory[offset:end] = data
            return
        with locally(f"{self._directory} does not take what is written"):
            if self._fd < 0:
                self._spill()
            try:
                write_all(self._fd, data, offset)
            except OSError:
                if end > self.size:  # it may be lengthened later, with zeros
                    os.ftruncate(self._fd, self.size)
                raise

    def _spill(self) -> None:
        with tempfile.TemporaryFile(dir=self._directory) as file:
            write_all(file.fileno(), self._memory, 0)
            self._fd = os.dup(file.fileno())
        self._memory = bytearray()
