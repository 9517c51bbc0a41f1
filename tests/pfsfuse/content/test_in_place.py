"""Chunks that are read again in their packs: only where they were verified, and only as long as the pack is there."""

from __future__ import annotations

import os
import pathlib
import threading

import pytest
import trio
import trio.testing

from pfsd.trees.entries import FileEntry
from pfsfuse.content.content import Content
from pfsfuse.content.packfiles import Location, PackFile, PackFiles
from tests.pfsfuse.content.test_content import MemoryStore, using

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: pathlib.Path) -> MemoryStore:
    return MemoryStore(tmp_path)


def a_large_file(store: MemoryStore) -> FileEntry:
    return store.file(*(bytes([number]) * MIB for number in range(20)))


async def jump_to(content: Content, entry: FileEntry, offset: int) -> tuple[int, int, PackFile, int] | None:
    """What is known of the place of what a reader reads who was far away before."""
    for at in ((offset + 10 * MIB) % entry.size, offset):
        assert await content.read(entry, at, 4096) == bytes([at // MIB]) * 4096
    return content.in_place(entry, offset)


def test_what_was_read_at_random_is_found_in_its_pack(store: MemoryStore) -> None:
    entry = a_large_file(store)
    store.write_pack()

    async def test(content: Content) -> None:
        found = await jump_to(content, entry, 15 * MIB + 5000)
        assert found is not None
        start, size, pack, offset = found
        assert (start, size) == (15 * MIB, MIB)
        assert os.pread(pack.fd, size, offset) == bytes([15]) * MIB
        assert content.in_place(entry, 16 * MIB) is None

    using(store, test)


def test_a_reader_who_goes_on_is_answered_from_memory(store: MemoryStore) -> None:
    entry = a_large_file(store)
    store.write_pack()

    async def test(content: Content) -> None:
        for offset in range(0, 3 * MIB, 1 << 18):
            await content.read(entry, offset, 1 << 18)
            assert content.in_place(entry, offset) is None

    using(store, test)


def test_of_what_is_read_at_random_nothing_is_kept(store: MemoryStore) -> None:
    """Also across the end of a chunk, and of the file; and it costs few calls."""
    entry = a_large_file(store)
    store.write_pack()

    async def test(content: Content) -> None:
        for number in (15, 4, 11, 2, 17, 7):
            border = bytes([number]) * 1000 + bytes([number + 1]) * 3096
            assert await content.read(entry, (number + 1) * MIB - 1000, 4096) == border
            assert await content.read(entry, number * MIB, 4096) == bytes([number]) * 4096
        assert await content.read(entry, 20 * MIB - 10, 4096) == bytes([19]) * 10
        assert content.chunks.held == 0
        assert (store.count("locate"), store.count("chunks")) == (3, 0)

    using(store, test)


def test_readers_of_one_chunk_at_random_wait_for_one_verification(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = a_large_file(store)
    store.write_pack()
    verifications: list[bytes] = []
    all_ask = threading.Event()
    read_part = PackFiles.read_part

    def counted(packs: PackFiles, name: bytes, location: Location, start: int, end: int) -> bytes | None:
        verifications.append(name)
        assert all_ask.wait(60)
        return read_part(packs, name, location, start, end)

    monkeypatch.setattr(PackFiles, "read_part", counted)

    async def test(content: Content) -> None:
        async def read(offset: int) -> None:
            assert await content.read(entry, offset, 100) == bytes([offset // MIB]) * 100

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(read, (15 if number % 2 else 5) * MIB + number)
                await trio.testing.wait_all_tasks_blocked()  # in turn, so that each is far from the one before
            all_ask.set()
        assert len(verifications) == len(set(verifications)) == 2

    using(store, test)


def test_a_damaged_chunk_has_no_place(store: MemoryStore) -> None:
    entry = a_large_file(store)
    path = store.write_pack()
    damaged = bytearray(path.read_bytes())
    damaged[list(store.places.values())[15].offset + 9] ^= 1
    path.write_bytes(damaged)

    async def test(content: Content) -> None:
        assert await jump_to(content, entry, 15 * MIB) is None
        assert store.count("chunks") == 1
        assert await jump_to(content, entry, 14 * MIB) is not None

    using(store, test)


def test_a_pack_that_is_gone_has_no_places(store: MemoryStore) -> None:
    entry = a_large_file(store)
    path = store.write_pack()

    async def test(content: Content) -> None:
        assert await jump_to(content, entry, 15 * MIB) is not None
        path.unlink()
        while content.in_place(entry, 15 * MIB) is not None:
            await trio.sleep(0.01)

    using(store, test)
