"""Changing parts of stored files: the outcome is the entry that the content has, and the cost that of what changed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsd.chunks import content
from pfsd.errors import InvalidError, StateError
from pfsd.filesystem.patches import FilePatch, hold
from pfsd.model.root import Root
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, ChunkList, FileEntry
from tests.support.memory import MemoryNodes

MiB = 1 << 20
Part = tuple[int, bytes | int]
"""Where a part begins, and its bytes or its number of zeros."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """An open root."""
    opened = Root(tmp_path_factory.mktemp("patches") / "root")
    yield opened
    opened.close()


def chunk(number: int, size: int = 1000) -> Chunk:
    return Chunk(number.to_bytes(32, "big"), size)


def listed(nodes: MemoryNodes, entry: FileEntry) -> list[Chunk]:
    return [found for _, found in entries.chunks_from(nodes, entry)]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 700), st.randoms(use_true_random=False))
def test_a_changed_chunk_list_is_the_one_that_its_chunks_make(count: int, rng: random.Random) -> None:
    nodes = MemoryNodes()
    before = [chunk(number, rng.choice((500, 1000, 1500))) for number in range(count)]
    entry = entries.file_entry(nodes, before)
    ends = [0, *itertools.accumulate(each.size for each in before)]
    made, after = ChunkList(nodes, entry), list[Chunk]()
    at = end = 0
    for new in range(1000, 1000 + rng.randrange(6)):
        kept = rng.randint(at, count)
        made.keep(ends[kept])
        after += before[at:kept]
        end = ends[kept]
        for number in range(rng.randrange(20)):
            after.append(chunk(new * 1000 + number, rng.choice((500, 700, 3000))))
            made.put(after[-1])
            end += after[-1].size
        if end not in ends:  # a chunk that ends where one of the former ones does
            further = next((other for other in ends if other > end), None)
            if further is None:
                break
            after.append(chunk(new * 1000 + 999, further - end))
            made.put(after[-1])
            end = further
        at = ends.index(end)
    assert made.finish() == entries.file_entry(nodes, after)


def test_changing_one_chunk_of_many_reads_few_nodes() -> None:
    nodes = MemoryNodes()
    before = [chunk(number) for number in range(200_000)]
    entry = entries.file_entry(nodes, before)
    made, nodes.reads = ChunkList(nodes, entry), 0
    made.keep(77_777_000)
    made.put(chunk(1_000_000))
    made.keep(200_000_000)
    changed = made.finish()
    assert nodes.reads < 40
    assert listed(nodes, changed) == [*before[:77_777], chunk(1_000_000), *before[77_778:]]


# --- real content


def patched(root: Root, base: FileEntry, size: int, parts: list[Part]) -> FileEntry:
    patch = FilePatch(root, base, size)
    for offset, part in parts:
        patch.seek(offset)
        if isinstance(part, int):
            patch.zeros(part)
        else:
            patch.write(part)
    pieces = patch.finish()
    assert all(isinstance(piece, FileEntry) for piece in pieces)
    return pieces[0] if pieces else entries.EMPTY_FILE  # type: ignore[return-value]


def after(base: bytes, size: int, parts: list[Part]) -> bytes:
    whole = bytearray(base[:size]) + bytes(max(0, size - len(base)))
    for offset, part in parts:
        data = bytes(part) if isinstance(part, int) else part
        whole[offset : offset + len(data)] = data
    return bytes(whole)


def some_parts(rng: random.Random, size: int) -> Iterator[Part]:
    at = 0
    for _ in range(rng.randrange(5)):
        if at >= size:
            return
        offset = rng.randrange(at, size)
        length = min(size - offset, rng.choice((0, 1, 4096, 70_000, 3 * MiB)))
        yield offset, rng.choice((length, rng.randbytes(length)))
        at = offset + length


@pytest.mark.parametrize("seed", range(25))
def test_a_patched_file_has_the_entry_of_its_content_and_goes_on_having_it(root: Root, seed: int) -> None:
    rng = random.Random(seed)
    whole = rng.randbytes(rng.choice((0, 5000, MiB, 15 * MiB)))
    whole += rng.choice((b"", bytes(9 * MiB) + b"end"))
    entry = content.concatenate(root.nodes, root.chunks, [whole])
    for _ in range(3):
        size = max(0, len(whole) + rng.choice((0, 0, 1, -1, 5000, -5000, 5 * MiB, -6 * MiB)))
        parts = list(some_parts(rng, size))
        entry, whole = patched(root, entry, size, parts), after(whole, size, parts)
        assert entry == content.concatenate(root.nodes, root.chunks, [whole])


def test_a_page_of_a_large_file_costs_the_chunk_around_it(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = content.concatenate(root.nodes, root.chunks, [random.Random(1).randbytes(48 * MiB)])
    read = list[bytes]()
    original = root.chunks.read
    monkeypatch.setattr(root.chunks, "read", lambda name: read.append(name) or original(name))  # type: ignore[func-returns-value]
    changed = patched(root, entry, entry.size, [(20 * MiB, b"x" * 4096)])
    assert len(read) <= 3
    old = {each.hash for _, each in entries.chunks_from(root.nodes, entry)}
    new = {each.hash for _, each in entries.chunks_from(root.nodes, changed)}
    assert 1 <= len(new - old) <= 3


def test_parts_out_of_order_or_beyond_the_end_are_refused(root: Root) -> None:
    patch = FilePatch(root, entries.EMPTY_FILE, 100)
    patch.seek(50)
    patch.write(b"x" * 10)
    for offset in (40, 101, 1 << 63):
        with pytest.raises(InvalidError):
            patch.seek(offset)
    with pytest.raises(InvalidError):
        patch.zeros(41)
    with pytest.raises(InvalidError):
        patch.write(b"x" * 41)


def test_only_what_is_stored_as_told_can_be_built_on(root: Root) -> None:
    entry = content.concatenate(root.nodes, root.chunks, [random.Random(1).randbytes(12 * MiB)])
    assert entry.chunk_root is not None
    short = content.concatenate(root.nodes, root.chunks, [b"short"])
    with root.references.operation():
        hold(root, entry, ("f",))
        hold(root, entries.EMPTY_FILE, ("f",))
        for wrong in (
            FileEntry(entry.size, (), bytes(32), entry.chunk_count),
            FileEntry(5, (Chunk(bytes(32), 5),), None, 1),
            FileEntry(6, (Chunk(short.chunks[0].hash, 6),), None, 1),
        ):
            with pytest.raises(StateError):
                hold(root, wrong, ("f",))
        for wrong in (
            FileEntry(entry.size + 1, (), entry.chunk_root, entry.chunk_count),
            FileEntry(entry.size, (), entry.chunk_root, entry.chunk_count + 1),
            FileEntry(10, (short.chunks[0], short.chunks[0]), None, 2),
        ):
            with pytest.raises(InvalidError):
                hold(root, wrong, ("f",))
