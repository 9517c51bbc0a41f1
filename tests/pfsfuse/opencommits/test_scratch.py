"""What is written over stored content, and what of it is sent, against plain bytes."""

from __future__ import annotations

import os
import pathlib
import random
from collections.abc import Callable

import pytest
import trio
from blake3 import blake3

from pfsd.names.sizes import MAX_FILE_BYTES
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, FileEntry
from pfsfuse.kernel.errnos import LocalError, TooLargeError
from pfsfuse.opencommits import scratch
from pfsfuse.opencommits.scratch import Changes, Ranges, Scratch

LIMIT = 3000


class Stored:
    """A store of small contents; zeros at their beginnings are known for zeros."""

    def __init__(self) -> None:
        self._contents: dict[FileEntry, bytes] = {entries.EMPTY_FILE: b""}
        self.read_bytes = 0

    def put(self, data: bytes) -> FileEntry:
        entry = (
            FileEntry(len(data), (Chunk(blake3(data).digest(), len(data)),), None, 1) if data else entries.EMPTY_FILE
        )
        self._contents[entry] = data
        return entry

    def content(self, entry: FileEntry) -> bytes:
        return self._contents[entry]

    async def read(self, entry: FileEntry, offset: int, size: int) -> bytes:
        self.read_bytes += size
        return self._contents[entry][offset : offset + size]

    async def hole(self, entry: FileEntry, offset: int) -> int:
        data = self._contents[entry]
        return offset if data[:offset].strip(b"\0") else max(offset, len(data) - len(data.lstrip(b"\0")))

    async def data_end(self, entry: FileEntry, offset: int) -> int:
        return max(offset, entry.size)


def taken(store: Stored, made: Scratch, changes: Changes) -> FileEntry:
    """What the store makes of changes."""
    base = store.content(changes.base)[: changes.size]
    whole = bytearray(base + bytes(changes.size - len(base)))
    for start, end in changes.ranges:
        for first, stop, is_data in made.extents(start, end):
            whole[first:stop] = made.local(first, stop) if is_data else bytes(stop - first)
    return store.put(bytes(whole))


class Tried:
    """A scratch, and the bytes that it stands for."""

    def __init__(self, rng: random.Random, directory: str) -> None:
        self.rng = rng
        self.store = Stored()
        self.model = bytearray(bytes(rng.randrange(400)) + rng.randbytes(rng.randrange(1500)))
        self.scratch = Scratch(directory, self.store.put(bytes(self.model)))
        self.changes: Changes | None = None

    async def step(self) -> None:
        rng, made, model = self.rng, self.scratch, self.model
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                offset, data = rng.randrange(len(model) + 300), rng.randbytes(rng.randrange(1, 200))
                made.write(offset, data)
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
            case 4:
                size = min(LIMIT, max(0, len(model) + rng.randint(-600, 300)))
                made.truncate(size)
                model[size:] = bytes(max(0, size - len(model)))
            case 5 | 6:
                self.changes = made.changes()  # what was told before has not arrived
            case 7 if self.changes is not None:
                made.rebase(taken(self.store, made, self.changes))
                self.changes = None
            case 8 if rng.random() < 0.2:
                await made.fill(self.store)
            case 9:
                offset, size = rng.randrange(len(model) + 10), rng.randrange(300)
                made.clear(offset, offset + size)
                model[offset : offset + size] = bytes(len(model[offset : offset + size]))
        start, size = rng.randrange(len(model) + 10), rng.randrange(500)
        assert await made.read(self.store, start, size) == model[start : start + size]
        assert made.size == len(model)
        await self.check_run(start)

    async def check_run(self, start: int) -> None:
        """What is told of a place is zeros where it is a hole, and ends within the file."""
        if start >= len(self.model):
            return
        end, is_data = await self.scratch.run_at(self.store, start)
        assert start < end <= len(self.model)
        assert is_data or not any(self.model[start:end])


@pytest.mark.parametrize("memory", [0, 500, 128 << 10])
def test_what_was_written_is_read_and_sent_whatever_comes_between(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(scratch, "MEMORY_BYTES", memory)

    async def run() -> None:
        for seed in range(60):
            tried = Tried(random.Random(seed), str(tmp_path))
            for _ in range(80):
                await tried.step()
            assert tried.store.content(taken(tried.store, tried.scratch, tried.scratch.changes())) == tried.model
            tried.scratch.close()

    trio.run(run)


def test_only_what_was_changed_since_it_was_last_sent_is_sent(tmp_path: pathlib.Path) -> None:
    store = Stored()
    made = Scratch(str(tmp_path), entries.EMPTY_FILE)
    made.write(0, bytes(range(256)) * 1000)
    assert made.changes().is_whole
    made.rebase(taken(store, made, made.changes()))
    made.write(100_000, b"page")
    made.write(5, b"x")
    changes = made.changes()
    assert changes.ranges == ((5, 6), (100_000, 100_004))
    made.write(7, b"y")  # while that is sent
    made.rebase(taken(store, made, changes))
    assert made.changes().ranges == ((7, 8),)
    made.close()


def test_filling_reads_nothing_that_is_here_or_known_to_be_zeros(tmp_path: pathlib.Path) -> None:
    store = Stored()
    made = Scratch(str(tmp_path), store.put(bytes(1 << 20) + b"the end"))
    made.write((1 << 20) + 2, b"here")
    trio.run(made.fill, store)
    assert store.read_bytes == 3
    assert made.local((1 << 20), made.size) == b"thhered"
    assert sum(end - start for start, end, is_data in made.written() if is_data) <= 1 << 16
    made.close()


def test_sizes_that_no_file_can_have_are_refused_and_change_nothing(tmp_path: pathlib.Path) -> None:
    made = Scratch(str(tmp_path), entries.EMPTY_FILE)
    made.write(0, b"before")
    calls: tuple[Callable[[], None], ...] = (
        lambda: made.truncate(MAX_FILE_BYTES + 1),
        lambda: made.write(MAX_FILE_BYTES, b"x"),
        lambda: made.write(1 << 62, b"x"),
    )
    for call in calls:
        with pytest.raises(TooLargeError, match="1 TiB"):
            call()
    assert made.local(0, made.size) == b"before"
    made.truncate(MAX_FILE_BYTES)
    assert made.changes().ranges == ((0, MAX_FILE_BYTES),)
    made.write(MAX_FILE_BYTES - 1, b"x")
    assert os.stat(f"/proc/self/fd/{made._fd}").st_blocks < 100
    made.close()


def test_a_directory_that_takes_nothing_is_an_error_that_names_it(tmp_path: pathlib.Path) -> None:
    made = Scratch(str(tmp_path / "gone"), entries.EMPTY_FILE)
    made.write(0, b"in memory")
    with pytest.raises(LocalError, match="gone does not take what is written: No such file"):
        made.write(0, bytes(scratch.MEMORY_BYTES + 1))
    assert made.local(0, made.size) == b"in memory"


# --- parts -----------------------------------------------------------------------------------------------------


def test_ranges_agree_with_a_set_of_positions() -> None:
    rng = random.Random(5)
    ranges, model = Ranges(), set[int]()
    for _ in range(2000):
        start = rng.randrange(100)
        end = start + rng.randrange(20)
        if rng.random() < 0.1:
            ranges.cut(start)
            model = {at for at in model if at < start}
        else:
            ranges.add(start, end)
            model |= set(range(start, end))
        start, end = sorted(rng.choices(range(130), k=2))
        gaps = [at for first, last in ranges.missing(start, end) for at in range(first, last)]
        assert gaps == [at for at in range(start, end) if at not in model]
