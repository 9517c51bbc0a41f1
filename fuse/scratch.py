"""What a program has written to a file, kept on this machine over the content that the store has.

Only what is written, and what has to be sent along with it, takes room: the rest is read from the store.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Protocol

from pfsd.disk import write_all
from pfsd.entries import FileEntry
from pfsd.extents import extents

MEMORY_BYTES = 128 << 10
"""Content up to this size is held in memory; more goes to a file without a name."""

FETCH_BYTES = 4 << 20
"""How much is fetched from the store at a time."""


class BaseReader(Protocol):
    """Reads the content that the store has (`fuse.content.Content`)."""

    async def read(self, entry: FileEntry, offset: int, size: int) -> bytes | memoryview:
        """The bytes [offset, offset + size)."""


class Ranges:
    """A set of byte positions, as ranges that neither overlap nor touch."""

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


class Scratch:
    """The content of one file: `base`, and over it what was written."""

    def __init__(self, directory: str, base: FileEntry) -> None:
        self.size = base.size
        self.base = base
        self.first_changed = base.size
        """Everything before this offset is as in `base`."""
        self._directory = directory
        self._kept = base.size
        """Everything from this offset on is here; before it, what `_present` has."""
        self._present = Ranges()
        self._memory = bytearray()
        self._fd = -1

    def write(self, offset: int, data: bytes) -> None:
        """Take in bytes at an offset, also beyond the end. Raises OSError when the disk is full."""
        end = offset + len(data)
        self._store(offset, data)
        self._present.add(offset, min(end, self._kept))
        self.first_changed = min(self.first_changed, offset, self.size)
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with zeros."""
        self.first_changed = min(self.first_changed, size, self.size)
        if size < self.size:
            self._kept = min(self._kept, size)
            self._present.cut(size)
            if self._fd >= 0:
                os.ftruncate(self._fd, size)
            else:
                del self._memory[size:]
        self.size = size

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

    async def fill(self, content: BaseReader, start: int) -> None:
        """Fetch what is not here of everything from `start` on."""
        while (gap := next(self._present.missing(start, self._kept), None)) is not None:
            base, (at, end) = self.base, gap
            end = min(end, at + FETCH_BYTES)
            data = bytes(await content.read(base, at, end - at))
            for first, last in list(self._present.missing(at, min(end, self._kept))):  # it may have been written to
                self._store(first, data[first - at : last - at])
                self._present.add(first, last)
            start = end

    def local(self, start: int, end: int) -> bytes:
        """What is here of [start, end), zeros where nothing is."""
        if self._fd < 0:
            data = bytes(self._memory[start:end])
        else:
            data = os.pread(self._fd, end - start, start)
        return data + bytes(end - start - len(data))

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """The ranges of [start, end), in order, each with whether anything was written there; the rest are zeros."""
        if self._fd >= 0:
            yield from extents(self._fd, start, end)
            return
        data = min(max(len(self._memory), start), end)
        if data > start:
            yield start, data, True
        if end > data:
            yield data, end, False

    def rebase(self, base: FileEntry) -> None:
        """The store has all of this now, as `base`."""
        self._present.add(self._kept, self.size)
        self._kept = self.first_changed = self.size
        self.base = base

    def close(self) -> None:
        """Free what it takes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._memory = bytearray()

    def _store(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if self._fd < 0 and end <= MEMORY_BYTES:
            if len(self._memory) < end:
                self._memory += bytes(end - len(self._memory))
            self._memory[offset:end] = data
            return
        if self._fd < 0:
            self._spill()
        write_all(self._fd, data, offset)

    def _spill(self) -> None:
        with tempfile.TemporaryFile(dir=self._directory) as file:
            write_all(file.fileno(), self._memory, 0)
            self._fd = os.dup(file.fileno())
        self._memory = bytearray()
