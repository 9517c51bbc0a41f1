"""The block cache, over a source that counts what it is asked for."""

from __future__ import annotations

import abc
import contextlib
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pfsd.errors import InvalidError, UnavailableError
from pfsd.objectstores import blockfiles
from pfsd.objectstores.blockcache import BlockCache
from pfsd.objectstores.blockfiles import BLOCK_BYTES, Statistics, statistics

MIB = 1 << 20
PACK = "packs/ab/" + "ab" * 16


class Readable(abc.ABC):
    """What a source does with `read_fresh` alone."""

    @abc.abstractmethod
    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of an object."""

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        data = self.read_fresh(name, offset, size)
        for at in range(0, len(data), piece):
            take(data[at : at + piece])


class Objects(Readable):
    """Objects in memory; tells which ranges were asked for."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = {PACK: random.Random(1).randbytes(12 * MIB + 1234), **objects}
        self.asked: list[tuple[int, int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        self.asked.append((offset // BLOCK_BYTES, size // BLOCK_BYTES))
        assert self.gate.wait(10)
        return self.objects[name][offset : offset + size]


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Iterator[BlockCache]:
    made = BlockCache(tmp_path / "cache", 100 * MIB)
    yield made
    made.close()


def told(cache: BlockCache) -> Statistics:
    """The counters, all that this process counted included."""
    cache.files.write_counters()
    return statistics(cache.directory)


def test_every_range_reads_as_the_object_does(cache: BlockCache) -> None:
    objects = Objects()
    data = objects.objects[PACK]
    chosen = random.Random(2)
    for _ in range(200):
        offset = chosen.randrange(len(data))
        size = min(chosen.choice((1, 100, 1 << 16, 3 * MIB)), len(data) - offset)
        assert cache.read(objects, PACK, offset, size) == data[offset : offset + size]
    assert told(cache).bytes <= len(data)


def test_neighbours_in_a_block_cost_one_request(cache: BlockCache) -> None:
    objects = Objects()
    for at in range(2 * MIB, 3 * MIB, 4096):
        cache.read(objects, PACK, at, 4096)
    assert objects.asked == [(2, 1)]
    counted = told(cache)
    assert (counted.misses, counted.hits, counted.requests, counted.fetched) == (1, 255, 1, MIB)


def test_another_process_finds_what_was_fetched(cache: BlockCache) -> None:
    cache.read(Objects(), PACK, 5 * MIB, 100)
    other = BlockCache(cache.directory, 100 * MIB)
    objects = Objects()
    assert other.read(objects, PACK, 5 * MIB, 100) == objects.objects[PACK][5 * MIB :][:100]
    assert objects.asked == []
    other.close()


def test_many_readers_of_a_cold_block_make_one_request(cache: BlockCache) -> None:
    objects = Objects()
    objects.gate.clear()
    others = [BlockCache(cache.directory) for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        reads = [pool.submit(each.read, objects, PACK, 7 * MIB, 1000) for each in (cache, *others) for _ in range(3)]
        while not objects.asked:
            os.sched_yield()
        objects.gate.set()
        assert {read.result() for read in reads} == {objects.objects[PACK][7 * MIB : 7 * MIB + 1000]}
    assert objects.asked == [(7, 1)]
    for each in others:
        each.close()


class _File(Readable):
    """A source that leaves a byte in a file for every request."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        with self.path.open("ab") as file:
            file.write(b"x")
        return bytes(size)


def _read_all(directory: pathlib.Path, path: pathlib.Path) -> None:
    cache = BlockCache(directory)
    for index in range(0, 40, 3):  # no two beside each other, so that nothing is fetched ahead
        cache.read(_File(path), PACK, index * BLOCK_BYTES, 10)
    cache.close()


def test_processes_share_requests(tmp_path: pathlib.Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    processes = [spawning.Process(target=_read_all, args=(tmp_path / "cache", tmp_path / "asked")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    counted = statistics(tmp_path / "cache")
    assert len((tmp_path / "asked").read_bytes()) == counted.requests
    assert counted.hits + counted.misses == 3 * 14
    assert 14 <= counted.requests <= 16  # the first few are the beginning of the pack, fetched ahead


def test_a_sequential_reader_finds_the_next_blocks_there(cache: BlockCache) -> None:
    objects = Objects()
    data = objects.objects[PACK]
    for at in range(0, len(data), 128 << 10):
        assert cache.read(objects, PACK, at, 128 << 10) == data[at : at + (128 << 10)]
    within = [asked for asked in objects.asked if asked[0] <= 12]
    assert len(within) <= 6
    assert sum(min(count, 13 - first) for first, count in within) <= 16


def test_a_reader_here_and_there_fetches_nothing_ahead(cache: BlockCache) -> None:
    objects = Objects()
    for index in (9, 2, 11, 5):
        cache.read(objects, PACK, index * MIB + 5, 10)
    assert objects.asked == [(9, 1), (2, 1), (11, 1), (5, 1)]


def test_many_small_reads_at_once_are_fetched_in_large_ranges(cache: BlockCache) -> None:
    objects = Objects()
    cache.begin(objects, [(PACK, at, 1000) for at in range(MIB, 7 * MIB, 100_000)]).wait()
    assert objects.asked == [(1, 6)]
    cache.read(objects, PACK, 3 * MIB, MIB)
    assert len(objects.asked) == 1


def test_a_block_is_there_as_soon_as_it_has_come(cache: BlockCache) -> None:
    class Slow(Objects):
        def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
            take(self.objects[name][offset : offset + piece])
            assert self.gate.wait(10)
            super().stream(name, offset + piece, size - piece, piece, take)

    objects = Slow()
    data = objects.objects[PACK]
    objects.gate.clear()
    coming = cache.begin(objects, [(PACK, MIB, 3 * MIB)])
    assert cache.read(objects, PACK, MIB + 5, MIB - 5, coming) == data[MIB + 5 : 2 * MIB]
    objects.gate.set()
    assert cache.read(objects, PACK, MIB + 5, 3 * MIB - 5, coming) == data[MIB + 5 : 4 * MIB]
    assert objects.asked == [(2, 2)]


def test_a_request_that_breaks_off_leaves_what_came(cache: BlockCache) -> None:
    class Broken(Objects):
        def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
            take(self.objects[name][offset : offset + piece])
            raise UnavailableError("gone")

    data = Objects().objects[PACK]
    coming = cache.begin(Broken(), [(PACK, MIB, 3 * MIB)])
    coming.wait()
    assert cache.read(Broken(), PACK, MIB, MIB, coming) == data[MIB : 2 * MIB]
    objects = Objects()
    assert cache.read(objects, PACK, MIB, 3 * MIB, coming) == data[MIB : 4 * MIB]
    assert objects.asked == [(2, 2)]


def test_the_limit_holds_and_the_oldest_blocks_go(tmp_path: pathlib.Path) -> None:
    cache = BlockCache(tmp_path / "cache", 5 * MIB)
    objects = Objects()
    for index in (0, 2, 4, 6, 8, 10):
        cache.read(objects, PACK, index * MIB, 10)
        for path in (tmp_path / "cache" / "ab").glob(f"*.{index}"):
            os.utime(path, (index, index))
    held = sum(path.stat().st_size for path in (tmp_path / "cache" / "ab").iterdir())
    assert held <= 5 * MIB
    assert told(cache).bytes == held
    assert told(cache).evicted > 0
    assert not list((tmp_path / "cache" / "ab").glob("*.0"))
    cache.close()


def test_a_torn_block_is_dropped_and_fetched_again(cache: BlockCache) -> None:
    objects = Objects()
    cache.read(objects, PACK, 2 * MIB, 10)
    (block,) = (cache.directory / "ab").glob("*.2")
    os.truncate(block, 3)  # shorter than what is read: seen at once
    assert cache.read(objects, PACK, 2 * MIB, 10) == objects.objects[PACK][2 * MIB :][:10]
    block.write_bytes(bytes(MIB))  # wrong: whoever checks the hash says so
    assert cache.forget(PACK, 2 * MIB, 10)
    assert cache.read(objects, PACK, 2 * MIB, 10) == objects.objects[PACK][2 * MIB :][:10]
    assert not cache.forget(PACK, 11 * MIB, 10)
    assert told(cache).damaged == 1


def test_what_was_just_stored_needs_no_request(cache: BlockCache, tmp_path: pathlib.Path) -> None:
    objects = Objects()
    (tmp_path / "pack").write_bytes(objects.objects[PACK])
    with (tmp_path / "pack").open("rb") as file:
        cache.keep(PACK, file.fileno())
    assert cache.read(objects, PACK, 11 * MIB, MIB + 1234) == objects.objects[PACK][11 * MIB :]
    assert [asked for asked in objects.asked if asked[0] <= 12] == []
    cache.forget_all(PACK)
    assert not list((cache.directory / "ab").iterdir())


def test_an_error_of_the_store_reaches_the_reader_and_holds_nobody_up(cache: BlockCache) -> None:
    class Gone(Objects):
        def read_fresh(self, name: str, offset: int, size: int) -> bytes:
            raise UnavailableError("gone")

    with pytest.raises(UnavailableError, match="gone"):
        cache.read(Gone(), PACK, 2 * MIB, 10)
    assert cache.read(Objects(), PACK, 2 * MIB, 10)


def test_a_directory_that_can_not_be_used_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidError, match=r"the cache directory .*file can't be used: "):
        BlockCache(tmp_path / "file")
    with pytest.raises(InvalidError, match="there is no block cache in"):
        statistics(tmp_path)


def test_blocks_survive_a_full_disk(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blockfiles, "write_all", full)
    objects = Objects()
    assert cache.read(objects, PACK, 2 * MIB, 10) == objects.objects[PACK][2 * MIB :][:10]
    assert told(cache).bytes == 0
    assert list((cache.directory / "ab").iterdir()) == []


HOLDER = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def stopped_holder(directory: pathlib.Path) -> Iterator[None]:
    """A process that holds every lock of a cache and was stopped."""
    command = [sys.executable, "-c", HOLDER, str(directory / "locks")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            holder.kill()


def test_a_stopped_process_that_holds_all_locks_holds_nobody_up(
    cache: BlockCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blockfiles, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(blockfiles, "COUNT_SECONDS", 0.1)
    objects = Objects()
    data = objects.objects[PACK]

    def use() -> bytes:
        other = BlockCache(cache.directory, 5 * MIB)
        read = b"".join(each.read(objects, PACK, at, MIB) for at in range(0, len(data), MIB) for each in (cache, other))
        other.close()
        return read

    with stopped_holder(cache.directory), ThreadPoolExecutor(1) as pool:
        read = pool.submit(use).result(120)
    assert len(read) == 2 * len(data)
    assert read[:MIB] == data[:MIB]
    assert "may be stopped" in caplog.text
    assert told(cache).misses, "what was counted meanwhile is told once that can be"


def test_strange_files_in_a_cache_stay_and_harm_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = BlockCache(tmp_path / "cache", 3 * MIB)
    objects = Objects()
    place = tmp_path / "cache" / "ab"
    place.mkdir()
    pack = PACK.rpartition("/")[2]
    (place / "notes.txt").write_bytes(b"mine")
    (place / f"{pack}.bak").write_bytes(b"mine")
    (place / "folder").mkdir()
    (place / f"{pack}.2").mkdir()  # where a block belongs
    os.mkfifo(place / f"{pack}.4")
    (place / f"{pack}.6").symlink_to(place / "nothing")
    for _ in range(2):
        for index in range(0, 12, 2):
            assert cache.read(objects, PACK, index * MIB, 10) == objects.objects[PACK][index * MIB :][:10]
    cache.forget(PACK, 2 * MIB, 10)
    cache.forget_all(PACK)
    left = {path.name for path in place.iterdir()}
    assert {"notes.txt", f"{pack}.bak", "folder", f"{pack}.2"} <= left
    assert "notes.txt is no block of the cache: it is left alone" in caplog.text
    cache.close()
