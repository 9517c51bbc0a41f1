"""pfsd._core against its description and against values written down: it shapes what is on disk."""

from __future__ import annotations

import hashlib
import itertools
from functools import cache

import pytest

from pfsd._core import AVG_CHUNK, MAX_CHUNK, MIN_CHUNK, next_cut, rank

MIB = 1 << 20
WORD = (1 << 64) - 1

GOLDEN_CUTS = [1208290, 2481368, 3955393, 5359888, 6721854, 8181814]
"""Where the chunks of random_bytes(8 * MIB) end."""


@cache
def random_bytes(size: int, seed: bytes = b"pfsd") -> bytes:
    return hashlib.shake_128(seed).digest(size)


def cuts(data: bytes) -> list[int]:
    """Where the chunks of data end; what follows the last one is undecided."""
    ends = []
    end = next_cut(data)
    while end:
        ends.append(end)
        end = next_cut(data, end)
    return ends


def chunks(data: bytes) -> list[bytes]:
    starts = [0, *cuts(data)]
    return [data[start:end] for start, end in itertools.pairwise(starts)]


def gear_table() -> list[int]:
    words = []
    state = 0x70667364
    for _ in range(256):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        words.append(z ^ (z >> 31))
    return words


def model_cut(data: bytes) -> int:
    """FastCDC as the format has it, for data longer than its first chunk."""
    gear = gear_table()
    value = 0
    for i in range(256 * 1024, 4096 * 1024):
        value = ((value << 1) + gear[data[i]]) & WORD
        zeros = 22 if i < 1024 * 1024 else 18
        if value >> (64 - zeros) == 0:
            return i + 1
    return 4096 * 1024


def model_rank(key: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in key:
        value = ((value ^ byte) * 0x100000001B3) & WORD
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value ^= value >> 33
        value = (value * factor) & WORD
    value ^= value >> 33
    return ((value & -value).bit_length() - 1 if value else 63) // 7


# ---- chunking --------------------------------------------------------------------------------------------


def test_sizes() -> None:
    assert (MIN_CHUNK, AVG_CHUNK, MAX_CHUNK) == (256 * 1024, 1024 * 1024, 4096 * 1024)


def test_cuts_are_the_format() -> None:
    assert cuts(random_bytes(8 * MIB)) == GOLDEN_CUTS


def test_cut_is_the_model() -> None:
    data = random_bytes(8 * MIB)
    for start in [0, *GOLDEN_CUTS[:2]]:
        assert next_cut(data, start) == start + model_cut(data[start:])


def test_cut_depends_on_its_chunk_alone() -> None:
    data = random_bytes(16 * MIB)
    start = 0
    for end in cuts(data):
        chunk = data[start:end]
        assert next_cut(chunk) == len(chunk)
        assert next_cut(chunk[:-1]) == 0
        assert next_cut(chunk + random_bytes(MIB, b"other")) == len(chunk)
        assert next_cut(bytes(7) + chunk + b"\xff", 7) == 7 + len(chunk)
        start = end


def test_chunk_sizes() -> None:
    data = random_bytes(96 * MIB)
    sizes = [len(chunk) for chunk in chunks(data)]
    assert all(MIN_CHUNK < size <= MAX_CHUNK for size in sizes)
    assert 0.9 * AVG_CHUNK < sum(sizes) / len(sizes) < 1.2 * AVG_CHUNK


def test_constant_data_gives_chunks_of_the_maximum_size() -> None:
    data = bytes(3 * MAX_CHUNK + 1)
    assert cuts(data) == [MAX_CHUNK, 2 * MAX_CHUNK, 3 * MAX_CHUNK]
    assert next_cut(data[:MAX_CHUNK]) == MAX_CHUNK
    assert next_cut(data[: MAX_CHUNK - 1]) == 0


@pytest.mark.parametrize("inserted", [b"x", bytes(1000), random_bytes(MIB, b"front")], ids=len)
def test_insertion_at_the_front_changes_few_chunks(inserted: bytes) -> None:
    data = random_bytes(32 * MIB)
    before, after = chunks(data), chunks(inserted + data)
    assert before[-20:] == after[-20:]


@pytest.mark.parametrize("size", [0, 1, MIN_CHUNK - 1, MIN_CHUNK])
def test_short_data_is_undecided(size: int) -> None:
    data = random_bytes(MIN_CHUNK)[:size]
    assert next_cut(data) == 0
    assert next_cut(data, size) == 0


@pytest.mark.parametrize("start", [-1, 11, 1 << 62])
def test_start_outside_the_data(start: int) -> None:
    with pytest.raises(ValueError, match="start is outside the data"):
        next_cut(bytes(10), start)


def test_any_buffer_is_taken() -> None:
    data = random_bytes(8 * MIB)
    assert next_cut(bytearray(data)) == GOLDEN_CUTS[0]
    assert next_cut(memoryview(data)[GOLDEN_CUTS[0] :]) == GOLDEN_CUTS[1] - GOLDEN_CUTS[0]
    with pytest.raises(TypeError):
        next_cut("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        next_cut(memoryview(data)[::2])


# ---- tree shape ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"", 0),
        (b"a", 0),
        (b"\x00", 0),
        (b"README.md", 0),
        (b"\xff" * 32, 0),
        (b"file-78", 1),
        (b"file-90", 1),
        (b"file-124", 1),
        (b"file-198", 1),
        (b"file-4789", 2),
        (b"file-11771", 2),
        (b"file-48264", 2),
        (b"2743140", 3),
    ],
)
def test_ranks_are_the_format(key: bytes, expected: int) -> None:
    assert rank(key) == expected


def test_rank_is_the_model() -> None:
    for size in (0, 1, 2, 7, 8, 9, 32, 255, 4096):
        for seed in range(40):
            key = random_bytes(size, b"%d" % seed)
            assert rank(key) == model_rank(key)


@pytest.mark.parametrize("pattern", [b"%d", b"%08d.jpg", b"a/b/%x"])
def test_one_key_in_128_reaches_the_next_rank(pattern: bytes) -> None:
    count = 400_000
    ranks = [rank(pattern % i) for i in range(count)]
    assert 0.9 < sum(r >= 1 for r in ranks) * 128 / count < 1.1
    assert 0.4 < sum(r >= 2 for r in ranks) * 128**2 / count < 2.0
    assert max(ranks) <= 9


def test_rank_takes_any_buffer() -> None:
    assert rank(bytearray(b"file-4789")) == rank(memoryview(b"xfile-4789")[1:]) == 2
    with pytest.raises(TypeError):
        rank("text")  # type: ignore[arg-type]
