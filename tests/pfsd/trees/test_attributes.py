"""Attributes of entries: their bytes, their sums, and the plain trees that do not have them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsd import _core
from pfsd.errors import CorruptError, InvalidError
from pfsd.trees import attributes, entries, tree, writing
from pfsd.trees.attributes import NONE, Attributes
from pfsd.trees.entries import Chunk, DirEntry, Entry, FileEntry, SpecialEntry, SymlinkEntry
from tests.support.memory import MemoryNodes

TEXTS = st.binary(min_size=1, max_size=9)
ATTRIBUTES = st.builds(
    Attributes,
    st.none() | st.integers(0, 0o7777),
    st.none() | st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(TEXTS, st.binary(max_size=9), max_size=3).map(lambda found: tuple(sorted(found.items()))),
    st.just(b"") | st.binary(min_size=8, max_size=8),
)
ENCODED = st.just(b"") | ATTRIBUTES.map(attributes.encode)
SIZES = st.integers(1, 2**40)
CHUNKS = st.builds(Chunk, st.binary(min_size=32, max_size=32), st.integers(1, 2**22))
FILES = st.builds(
    lambda chunks, kept: FileEntry(sum(each.size for each in chunks), tuple(chunks), None, len(chunks), kept),
    st.lists(CHUNKS, max_size=3),
    ENCODED,
)
LARGE = st.builds(
    lambda size, root, count, kept: FileEntry(size, (), root, count, kept),
    SIZES,
    st.binary(min_size=32, max_size=32),
    SIZES,
    ENCODED,
)
SYMLINKS = st.builds(SymlinkEntry, TEXTS, ENCODED)
SPECIALS = st.builds(SpecialEntry, st.sampled_from([1, 2, 6, 12]), st.integers(0, 2**32), ENCODED)
UNLINKED = (st.just(b"") | ATTRIBUTES.map(lambda one: attributes.encode(dataclasses.replace(one, link=b"")))).map(bytes)
LEAVES = FILES | LARGE | SYMLINKS | SPECIALS
NAMES = st.integers(0, 400).map(lambda number: b"name %d" % number)


def directory(nodes: MemoryNodes, children: dict[bytes, Entry], kept: bytes = b"") -> DirEntry:
    pairs = [(name, entries.encode(entry)) for name, entry in sorted(children.items())]
    root = writing.build(nodes, pairs, entries.MEASURE)
    return dataclasses.replace(entries.dir_entry(nodes, root), attributes=kept)


def made_plain(nodes: MemoryNodes, entry: Entry) -> Entry:
    """The plain form, put together from the bottom."""
    if isinstance(entry, DirEntry):
        children = {name: made_plain(nodes, entries.decode(value)) for name, value in tree.items(nodes, entry.root)}
        return directory(nodes, children)
    mode = entries.attributes_of(entry).mode or 0
    is_executable = isinstance(entry, FileEntry) and mode & 0o111
    return entries.with_attributes(entry, attributes.encode(Attributes(0o755)) if is_executable else b"")


@given(ATTRIBUTES)
def test_attributes_are_read_as_they_were_written(kept: Attributes) -> None:
    assert attributes.decode(attributes.encode(kept)) == kept
    assert bool(kept) == (kept != NONE) == bool(attributes.encode(kept))


@given(LEAVES | st.builds(DirEntry, st.binary(min_size=32, max_size=32), SIZES, SIZES, SIZES, attributes=UNLINKED))
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    value = entries.encode(entry)
    assert entries.decode(value) == entry
    kept = entries.attributes_of(entry)
    kind, size, mode, user, group, time_ns, link = _core.stat_entry(value)
    assert (mode, time_ns, link or b"") == (kept.mode, kept.time_ns, kept.link)
    assert (None if user is None else (user, group)) == kept.owner
    assert kind == {FileEntry: 1, DirEntry: 2, SymlinkEntry: 3, SpecialEntry: 4}[type(entry)]
    assert size == (len(entry.target) if isinstance(entry, SymlinkEntry) else 0 if entry.is_dir else entry.size)
    sums = entries.MEASURE.sums(value)
    assert sums.links == bool(kept.link)
    with pytest.raises(CorruptError):
        entries.decode(value + b"\xff")


@given(LEAVES)
def test_a_torn_entry_is_refused_or_has_fewer_attributes(entry: Entry) -> None:
    value = entries.encode(entry)
    bare = len(value) - len(entry.attributes)
    for end in range(len(value)):
        try:
            read = entries.decode(value[:end])
        except CorruptError:
            continue
        assert end >= bare
        assert entries.encode(read) == value[:end]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(NAMES, LEAVES, max_size=300),
    st.dictionaries(NAMES, st.dictionaries(NAMES, LEAVES, max_size=5), max_size=3),
    st.lists(st.dictionaries(NAMES, st.none() | LEAVES, max_size=40), max_size=3),
    UNLINKED,
)
def test_the_plain_root_is_that_of_the_tree_without_attributes(
    children: dict[bytes, Entry],
    below: dict[bytes, dict[bytes, Entry]],
    steps: list[dict[bytes, Entry | None]],
    kept: bytes,
) -> None:
    nodes = MemoryNodes()
    children = children | {name: directory(nodes, found, kept) for name, found in below.items()}
    made = directory(nodes, children)
    for step in steps:
        mutations = [(name, None if entry is None else entries.encode(entry)) for name, entry in sorted(step.items())]
        changes = writing.Update(nodes, made.root, entries.MEASURE)
        changes.apply(mutations)
        root, sums = changes.finish()
        made = DirEntry(root, *sums)
        children = {name: entry for name, entry in (children | step).items() if entry is not None}
    assert made == directory(MemoryNodes(), children)
    plain = made_plain(nodes, made)
    assert isinstance(plain, DirEntry)
    assert (made.plain or made.root) == plain.root
    assert bool(made.plain) == (plain.root != made.root)
    assert entries.content_hash(made) == entries.content_hash(plain) == entries.plain_hash(made)
    linked = [
        entry for entry in children.values() if not isinstance(entry, DirEntry) and entries.attributes_of(entry).link
    ]
    assert made.links == len(linked) + sum(entry.links for entry in children.values() if isinstance(entry, DirEntry))


def test_content_and_who_may_execute_it_tell_files_apart_and_nothing_else() -> None:
    chunk = Chunk(bytes(32), 1)
    plain = FileEntry(1, (chunk,), None, 1)
    touched = dataclasses.replace(
        plain, attributes=attributes.encode(Attributes(0o600, (1, 2), 3, ((b"user.a", b""),)))
    )
    script = dataclasses.replace(plain, attributes=attributes.encode(Attributes(0o744)))
    assert entries.content_hash(plain) == entries.content_hash(touched) == entries.content_hash(script)
    assert entries.plain_hash(plain) == entries.plain_hash(touched) != entries.plain_hash(script)


@pytest.mark.parametrize(
    "kept",
    [
        Attributes(0o10000),
        Attributes(owner=(2**32 - 1, 0)),
        Attributes(xattrs=((b"user.a", b"x" * 4096),)),
        Attributes(xattrs=((b"", b""),)),
        Attributes(link=b"short"),
    ],
)
def test_what_can_not_be_kept_is_refused(kept: Attributes) -> None:
    with pytest.raises(InvalidError, match="attributes given for /a can't be"):
        attributes.checked(attributes.encode(kept), attributes.FILE_MODE, "/a")


def test_attributes_have_one_form() -> None:
    pairs = ((b"user.b", b"1"), (b"user.a", b"2"))
    given_ = attributes.encode(Attributes(0o644, xattrs=pairs))
    assert attributes.decode(attributes.checked(given_, attributes.FILE_MODE, "/a")) == Attributes(xattrs=pairs[::-1])
    assert attributes.checked(attributes.encode(Attributes(0o644)), attributes.DIRECTORY_MODE, "/a")


@pytest.mark.parametrize(
    "entry", [SymlinkEntry(b""), SymlinkEntry(b"a\0b"), SymlinkEntry(b"x" * 4096), SpecialEntry(3)]
)
def test_links_to_nothing_and_unknown_kinds_are_refused(entry: Entry) -> None:
    with pytest.raises(InvalidError):
        entries.check(entry, "/a")
