"""pfsd._core against its description and against values written down: it shapes what is on disk."""

from __future__ import annotations

import hashlib
import itertools
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pfsd._core import (
    AVG_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    add_summaries,
    decode_node,
    encode_node,
    next_boundary,
    next_cut,
    rank,
)

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


@given(st.lists(st.binary(max_size=3), max_size=600), st.integers(0, 700), st.integers(0, 3))
def test_a_boundary_is_the_first_key_of_a_rank_above_the_level(keys: list[bytes], start: int, level: int) -> None:
    start = min(start, len(keys))
    expected = next((i + 1 for i in range(start, len(keys)) if model_rank(keys[i]) > level), 0)
    assert next_boundary(keys, start, level) == expected


def test_boundaries_are_sought_in_lists_of_bytes() -> None:
    for start in (-1, 2, 1 << 62):
        with pytest.raises(ValueError, match="start is outside the list"):
            next_boundary([b"key"], start, 0)
    with pytest.raises(TypeError):
        next_boundary([b"key", "text"], 0, 0)  # type: ignore[list-item]
    with pytest.raises(TypeError):
        next_boundary((b"key",), 0, 0)  # type: ignore[arg-type]


# ---- nodes and sums --------------------------------------------------------------------------------------

PAIRS = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=200)
COUNTS = st.integers(0, 2**62)


def model_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def model_read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > WORD or shift > 70:
            raise IndexError
        if byte < 0x80:
            return value, at


def model_encode_node(level: int, keys: list[bytes], values: list[bytes]) -> bytes:
    parts = [b"PT\x01", bytes([level]), model_varint(len(keys))]
    for key, value in zip(keys, values, strict=True):
        parts += (model_varint(len(key)), key, model_varint(len(value)), value)
    return b"".join(parts)


def model_decode_node(data: bytes) -> tuple[int, list[bytes], list[bytes]] | None:
    try:
        if data[:3] != b"PT\x01":
            return None
        level = data[3]
        count, at = model_read_varint(data, 4)
        keys: list[bytes] = []
        values: list[bytes] = []
        for _ in range(count):
            for part in (keys, values):
                size, at = model_read_varint(data, at)
                if size > len(data) - at:
                    return None
                part.append(data[at : at + size])
                at += size
    except IndexError:
        return None
    return (level, keys, values) if at == len(data) else None


def model_sums(data: bytes, at: int) -> tuple[int, int, int, int] | None:
    sums = []
    try:
        for _ in range(3):
            value, at = model_read_varint(data, at)
            sums.append(value)
        if at == len(data):
            return sums[0], sums[1], sums[2], 0
        links, at = model_read_varint(data, at)
    except IndexError:
        return None
    return (sums[0], sums[1], sums[2], links) if at + 32 == len(data) else None


@given(st.integers(0, 255), PAIRS)
@example(7, [(b"k" * 127, b"v" * 128), (b"", b"v" * 20_000)])
def test_a_node_is_encoded_as_the_model_does_and_decoded_again(level: int, pairs: list[tuple[bytes, bytes]]) -> None:
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    data = encode_node(level, keys, values)
    assert data == model_encode_node(level, keys, values)
    assert decode_node(data) == (level, keys, values)
    assert decode_node(memoryview(b"x" + data)[1:]) == (level, keys, values)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=4), st.data())
def test_damaged_nodes_are_refused_or_read_as_the_model_does(
    pairs: list[tuple[bytes, bytes]], draw: st.DataObject
) -> None:
    data = bytearray(model_encode_node(1, [key for key, _ in pairs], [value for _, value in pairs]))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0x81, 0xFF]))
    data = data[: draw.draw(st.integers(0, len(data)))] + draw.draw(st.binary(max_size=12))
    expected = model_decode_node(bytes(data))
    if expected is None:
        with pytest.raises(ValueError, match="tree node"):
            decode_node(data)
    else:
        assert decode_node(data) == expected


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff" * 9 + b"\x01",  # 2 ** 64 - 1 pairs
        b"\xff" * 20,
        b"\x01" + b"\xff" * 9 + b"\x01" + b"key",
        b"\x01\x03key" + b"\xff" * 9 + b"\x01",
        b"\x01\x03key" + b"\x80" * 9 + b"\x02",  # 2 ** 64
    ],
)
def test_lengths_beyond_the_data_are_refused(tail: bytes) -> None:
    with pytest.raises(ValueError, match="length is wrong"):
        decode_node(b"PT\x01\x00" + tail)


def test_a_node_is_made_of_bytes() -> None:
    with pytest.raises(ValueError, match="as many values as keys"):
        encode_node(0, [b"key"], [])
    with pytest.raises(TypeError):
        encode_node(0, [b"key"], ["text"])  # type: ignore[list-item]
    with pytest.raises(OverflowError):
        encode_node(256, [], [])
    with pytest.raises(TypeError):
        decode_node("text")  # type: ignore[arg-type]


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), max_size=3))
def test_sums_are_added(rows: list[tuple[int, int, int]]) -> None:
    values = [bytes(32) + b"".join(map(model_varint, row)) for row in rows]
    assert add_summaries(values) == (*(sum(row[i] for row in rows) for i in range(3)), 0)


@given(
    st.binary(max_size=36)
    | st.binary(max_size=12).map(lambda tail: bytes(32) + tail)
    | st.binary(max_size=6).map(lambda sums: bytes(32) + sums + bytes(32))
)
def test_malformed_sums_are_refused(value: bytes) -> None:
    expected = model_sums(value, 32) if len(value) >= 32 else None
    if expected is None:
        with pytest.raises(ValueError, match="can't be decoded"):
            add_summaries([value])
    else:
        assert add_summaries([value]) == expected


def test_sums_do_not_overflow_unseen() -> None:
    with pytest.raises(ValueError, match="can't be decoded"):
        add_summaries([bytes(32) + model_varint(WORD) + b"\0\0"] * 2)
