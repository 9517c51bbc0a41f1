"""Names that are any bytes become names of entries and come back."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pfsd.names.bytenames import shown_name, stored_name

_PRIVATE = st.characters(min_codepoint=0xF770, max_codepoint=0xF810)
_PIECES = st.one_of(
    st.binary(max_size=4),
    st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace")),
    st.text(_PRIVATE, max_size=2).map(str.encode),
    st.sampled_from([b"\xef", b"\xef\x9e", b"\x9f\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"]),
)
NAMES = st.lists(_PIECES, max_size=6).map(b"".join)


@settings(max_examples=1000, deadline=None)
@given(NAMES)
@example(b"\xef\x9e\x80")
@example(b"\xef\x9f\xbf")
def test_a_name_comes_back(name: bytes) -> None:
    key = stored_name(name).encode()

    assert shown_name(key) == name


@settings(max_examples=1000, deadline=None)
@given(st.text(st.one_of(_PRIVATE, st.characters(exclude_categories=["Cs"])), max_size=8))
def test_an_entrys_name_is_shown_as_a_name_that_leads_to_it_or_as_it_is(text: str) -> None:
    key = text.encode()
    shown = shown_name(key)

    assert stored_name(shown).encode() == key or shown == key


@given(NAMES, NAMES)
def test_two_names_never_become_one(one: bytes, other: bytes) -> None:
    assert (stored_name(one) == stored_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["plain", "käse", "\uf77f", "\uf800", "\U0001f9c0"])
def test_names_in_utf_8_stay(name: str) -> None:
    assert stored_name(name.encode()) == name
    assert shown_name(name.encode()) == name.encode()


def test_bytes_that_are_not_utf_8_become_characters() -> None:
    assert stored_name(b"caf\xe9") == "caf\uf7e9"
    assert stored_name("\uf7e9".encode()) == "\uf7ef\uf79f\uf7a9"
