"""Splitting what is put: where lines and JSON values end, whatever their size and however they come in."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsd import _scan
from pfsd.chunks.split import Delimiter, Splitter
from pfsd.errors import InvalidError

MIB = 1 << 20


def files(delimiter: Delimiter, data: bytes, step: int, datums: int = 0, size: int = 0) -> list[bytes]:
    """The files that a stream becomes which comes in parts of `step` bytes."""
    splitter = Splitter(delimiter, datums, size)
    made = [b""]
    for at in range(0, len(data), step):
        parts = list(splitter.write(data[at : at + step]))
        if at + step >= len(data):
            parts += splitter.finish()
        for part in parts:
            made[-1] += part.data
            if part.ends_file:
                made.append(b"")
    assert made.pop() == b""
    return made


# ---- lines ---------------------------------------------------------------------------------------------


@given(st.text("ab\n", max_size=30), st.integers(1, 8), st.integers(0, 4), st.integers(0, 9))
def test_lines_are_gathered_into_files_however_they_come(text: str, step: int, datums: int, size: int) -> None:
    expected: list[bytes] = []
    closed = True
    count = 0
    for line in text.encode().splitlines(keepends=True):
        if closed:
            expected.append(b"")
            count = 0
        expected[-1] += line
        count += 1
        closed = count == (datums or (0 if size else 1)) or bool(size and len(expected[-1]) >= size)
    assert files(Delimiter.LINE, text.encode(), step, datums, size) == expected


@pytest.mark.parametrize("delimiter", [Delimiter.LINE, Delimiter.JSON])
def test_a_value_of_any_size_passes_through_and_is_not_held(delimiter: Delimiter) -> None:
    splitter = Splitter(delimiter, 0, 0)
    assert [part.data for part in splitter.write(b'"')] == [b'"']
    block = b"x" * MIB
    tracemalloc.start()
    try:
        for _ in range(64):
            [part] = splitter.write(block)
            assert (part.data, part.ends_file) == (block, False)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


# ---- JSON ----------------------------------------------------------------------------------------------


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.booleans(), st.sampled_from([None, 1])), max_size=5),
    st.sampled_from([" ", "\n", " \t\r\n"]),
    st.integers(1, 40),
)
def test_json_values_come_out_as_they_were_written(
    values: list[tuple[Any, bool, int | None]], between: str, step: int
) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii, indent=indent) for value, ascii, indent in values]
    data = (between + between.join(texts) + between).encode("utf-8", "replace")
    assert files(Delimiter.JSON, data, step) == [text.encode("utf-8", "replace") for text in texts]


def model(data: bytes) -> list[str]:
    """The values in a stream by Python's own reader; raises ValueError where it finds something else."""
    text = data.decode()
    decoder = json.JSONDecoder(parse_constant=refuse)
    found: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at == len(text):
            return found
        _, end = decoder.raw_decode(text, at)
        if text[end - 1] not in '"]}' and end < len(text) and text[end] not in ' \t\r\n"[{':
            raise ValueError("two values without white space between them")
        found.append(text[at:end])
        at = end


@settings(max_examples=2000, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *'{}[]:,"\\ \n',
                *"-+.eE0123",
                "true",
                "false",
                "null",
                "NaN",
                "tru",
                '"k"',
                '"k":',
                "\\u",
                "d800",
                "é",
                "\x01",
            ]
        ),
        max_size=10,
    ).map("".join),
    st.integers(1, 9),
)
def test_what_json_is_is_what_another_reader_says(text: str, step: int) -> None:
    data = text.encode()
    try:
        expected = model(data)
    except ValueError:
        with pytest.raises(InvalidError, match="broken JSON"):
            files(Delimiter.JSON, data or b" ", step)
    else:
        assert [made.decode() for made in files(Delimiter.JSON, data or b" ", step)] == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"[1,]",
        b'{"a":1,}',
        b"{1:2}",
        b"[1 2]",
        b"01",
        b"1.",
        b"-",
        b".5",
        b"+1",
        b"1e",
        b"truefalse",
        b"'a'",
        b'"\x01"',
        b'"\\x"',
        b'"\\u12g4"',
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',  # half of a surrogate pair
        b'"\xf4\x90\x80\x80"',  # above U+10FFFF
        b"\xef\xbb\xbf{}",  # a byte order mark
        b"]",
        b"[}",
        b"{",
        b'"abc',
        b"[" * (_scan.JSON_MAX_DEPTH + 1),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_is_no_json_is_refused(text: bytes, step: int) -> None:
    with pytest.raises(InvalidError, match="broken JSON") as caught:
        files(Delimiter.JSON, text, step)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        b"7" * 10_000,
        b"-" + b"7" * 10_000 + b".5e-99999",
        b"[" * _scan.JSON_MAX_DEPTH + b"]" * _scan.JSON_MAX_DEPTH,
        b'{"":' * 50_000 + b"null" + b"}" * 50_000,
        b'"\\ud800"',
        '"\U0010ffff\ud7ff\ue000"'.encode(),
        b'{"a":1,"a":2}',
    ],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize("step", [7, 1 << 20])
def test_odd_json_is_stored_as_it_is(text: bytes, step: int) -> None:
    assert files(Delimiter.JSON, text, step) == [text]


def test_a_scan_is_given_its_own_state() -> None:
    with pytest.raises(ValueError, match="state"):
        _scan.scan_json(bytearray(_scan.JSON_STATE_BYTES - 1), b"1", 0)
    for start in (-1, 2, 1 << 62):
        with pytest.raises(ValueError, match="start"):
            _scan.scan_json(bytearray(_scan.JSON_STATE_BYTES), b"1", start)
    with pytest.raises(TypeError):
        _scan.scan_json(bytes(_scan.JSON_STATE_BYTES), b"1", 0)  # type: ignore[arg-type]


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.binary(max_size=60))
def test_a_state_of_any_bytes_is_refused_or_read_within_its_bounds(head: bytes, data: bytes) -> None:
    state = bytearray(_scan.JSON_STATE_BYTES)
    state[:16] = head
    at = 0
    while at < len(data):
        try:
            begin, end, whole = _scan.scan_json(state, data, at)
        except ValueError:
            return
        assert at <= begin <= end <= len(data)
        assert whole or end == len(data)
        if end == at and not whole:
            return
        at = end


@pytest.mark.parametrize(
    "program", [b"\1\2\3", (0x110002).to_bytes(4, "little"), b"\xff" * 4, b"\2\0\x11\0" + b"\xff" * 8]
)
def test_a_malformed_program_is_refused(program: bytes) -> None:
    with pytest.raises(ValueError, match="program"):
        _scan.match_name(program, "name")
