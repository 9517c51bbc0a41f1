"""Names that are bytes come back as they were, and what is UTF-8 stays it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from pfsd.names.bytenames import shown_name, stored_name


@given(st.binary())
@example("\uf780\uf7ff".encode())
@example(b"\xef\x9e")
@example(b"a\xff/\xc3\xa4")
def test_every_name_comes_back(name: bytes) -> None:
    assert shown_name(stored_name(name).encode()) == name


@given(st.text(st.characters(exclude_categories=["Cs", "Co"])))
@example("\uf77f")
def test_what_is_utf_8_is_kept_as_it_is(name: str) -> None:
    assert stored_name(name.encode()) == name
    assert shown_name(name.encode()) == name.encode()


def test_a_byte_that_is_not_utf_8_is_a_character_of_its_own() -> None:
    assert stored_name(b"caf\xe9") == "caf\uf7e9"
