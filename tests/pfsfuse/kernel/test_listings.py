"""Lists of directories as the kernel is told them: by pages, and with the attributes that single entries show."""

from __future__ import annotations

import stat
import struct
from typing import cast

import pytest

from pfsd.trees import attributes, entries
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import Entry, FileEntry, SpecialEntry, SymlinkEntry, with_attributes
from pfsd.trees.tree import Pair
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import FOREVER, Inode, Snapshot
from pfsfuse.kernel.listings import TreeListing
from pfsfuse.kernel.ready import Ready
from pfsfuse.kernel.view import View

TIME = 1_234_567_890_123_456_789
ENTRY = struct.Struct("=QQQQII QQQqqqIIIIIIIIII QQII")


def kept(entry: Entry, **values: object) -> bytes:
    encoded = attributes.encode(Attributes(**values))  # type: ignore[arg-type]
    return entries.encode(with_attributes(entry, encoded))


ENTRIES = [
    kept(FileEntry(5_000_000_000, (), b"r" * 32, 9)),
    kept(FileEntry(1, (), b"r" * 32, 1), mode=0o4711, owner=(7, 8), time_ns=-1),
    kept(entries.EMPTY_DIR, time_ns=TIME),
    kept(entries.EMPTY_DIR, mode=0o1777, owner=(0, 1)),
    kept(SymlinkEntry(b"target"), time_ns=0),
]


@pytest.mark.parametrize("with_owners", [False, True])
def test_an_entry_of_a_list_shows_what_it_shows_alone(with_owners: bool) -> None:
    snapshot = Snapshot("repo", "commit", TIME)
    view = View(cast(Content, None), Inode(None, b"", snapshot, entries.encode(entries.EMPTY_DIR)))
    view.shows_stored_owners = with_owners
    view.show_as(1000, 1001)
    pairs = [(b"n" * (at + 6), value) for at, value in enumerate(ENTRIES)]
    numbers = [1000 + at for at in range(len(pairs))]
    answer = Ready().list(pairs, 0, numbers, 40, TIME, (1000, 1001, with_owners))
    assert answer is not None
    start = 0
    for at, ((name, value), number) in enumerate(zip(pairs, numbers, strict=True)):
        alone = view.entry_attributes(number, value, TIME, FOREVER)
        times = (alone.st_atime_ns, alone.st_mtime_ns, alone.st_ctime_ns)
        shown = ENTRY.unpack_from(answer, start)
        assert shown == (
            *(number, 0, FOREVER, FOREVER, 0, 0),
            *(number, alone.st_size, alone.st_blocks),
            *(each // 10**9 for each in times),
            *(each % 10**9 for each in times),
            *(alone.st_mode, alone.st_nlink, alone.st_uid, alone.st_gid, 0, 4096, 0),
            *(number, 41 + at, len(name), stat.S_IFMT(alone.st_mode) >> 12),
        )
        start += ENTRY.size
        padded = name + bytes(-len(name) % 8)
        assert answer[start : start + len(padded)] == padded
        start += len(padded)
    assert start == len(answer)


@pytest.mark.parametrize("value", [kept(SpecialEntry(1)), kept(entries.EMPTY_FILE, link=b"l" * 8), b"", b"\x09"])
def test_what_is_not_plain_is_left_to_others(value: bytes) -> None:
    pairs = [(b"a", ENTRIES[0]), (b"b", value)]
    assert Ready().list(pairs, 0, [1, 2], 0, 0, (0, 0, False)) is None
    assert Ready().list(pairs, 0, [1], 0, 0, (0, 0, False)) is not None


def test_a_list_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError):
        Ready().list([(b"a", ENTRIES[0])], 1, [1], 0, 0, (0, 0, False))
    with pytest.raises(TypeError):
        Ready().list(cast("list[Pair]", [b"a"]), 0, [1], 0, 0, (0, 0, False))
    with pytest.raises(ValueError, match="begins"):
        Ready().list([(b"a", ENTRIES[0])], -1, [1], 0, 0, (0, 0, False))


@pytest.mark.parametrize("wanted", [[0, 3, 10, 24, 25, 0, 12], [24, 3, 30, 29], [26]])
def test_pages_lead_to_any_entry(wanted: list[int]) -> None:
    pairs = [(b"%02d" % at, b"") for at in range(25)]
    listing = TreeListing(Inode(None, b"", None, b"\x01"), b"")
    for at in wanted:
        for index in listing.pages_to(at):
            start = listing.starts[index][1]
            listing.take(index, [pair for pair in pairs if pair[0] >= start][:4])
        assert listing.holds(at) == (at < len(pairs))
        assert at >= len(pairs) or listing.page[at - listing.first] == pairs[at]
