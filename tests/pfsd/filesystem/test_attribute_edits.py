"""Edits of what an open commit keeps beside content: attributes, links, and what a rename takes along."""

from __future__ import annotations

import pytest

from pfsd.trees import entries
from pfsd.trees.attributes import NONE, Attributes
from pfsd.trees.entries import FileEntry, SpecialEntry, SymlinkEntry
from tests.support.attributes import TIME, Keeper, encoded, pipe, refused, symlink
from tests.support.daemons import Daemon
from tests.support.putfiles import BODY, FilePut

KEPT = Attributes(0o750, (1, 2), TIME, ((b"user.a", b"1"),))


@pytest.fixture
def keeper(daemon: Daemon) -> Keeper:
    keeper = Keeper(daemon)
    keeper.put(FilePut(path="d/f", data=b"f"), FilePut(path="d/e/big", data=BODY), symlink("link", "d/f"), pipe("pipe"))
    return keeper


def set_attributes(path: str, data: bytes) -> dict[str, object]:
    return {"set_attributes": {"path": path, "attributes": data}}


@pytest.mark.parametrize("folded", [False, True])
def test_everything_gets_attributes_and_keeps_its_content(keeper: Keeper, folded: bool) -> None:
    if folded:
        keeper.commit()
    given = encoded(mode=0o750, owner=(1, 2), time_ns=TIME, xattrs=((b"user.a", b"1"),))
    paths = ("d/f", "d/e/big", "d", "d/e", "pipe", "link", "/")
    keeper.edit(*(set_attributes(path, given) for path in paths))
    done = keeper.commit()
    for path in paths:
        assert keeper.kept(path, done) == keeper.kept(path) == KEPT
    assert keeper.daemon.get(done, "d/f") == b"f"
    assert keeper.daemon.get(done, "d/e/big") == BODY
    assert keeper.info("link", done).attributes.symlink == b"d/f"
    assert keeper.info("pipe", done).attributes.special_kind == 1
    keeper.edit(*(set_attributes(path, b"") for path in paths))
    for path in paths:
        assert keeper.kept(path) == NONE


def test_the_root_hands_its_attributes_down(keeper: Keeper) -> None:
    keeper.give("/", mode=0o700)
    first = keeper.commit()
    second = keeper.commit()
    assert keeper.tree(first).attributes == keeper.tree(second).attributes == encoded(mode=0o700)
    keeper.give("/", mode=0o755)  # as it is by default
    assert keeper.tree().attributes == b""
    assert keeper.tree(second).attributes == encoded(mode=0o700)
    assert keeper.info("/", first).hash == keeper.info("/").hash


def test_what_can_not_be_set_is_refused_and_nothing_is_changed(keeper: Keeper) -> None:
    ordinary = set_attributes("d", encoded(mode=0o700))
    for path in ("d", "/", "d/f", "link"):
        for wrong in (encoded(mode=0o10000), b"\x09", encoded(xattrs=((b"user.a", bytes(5000)),))):
            told = refused(keeper.edit, ordinary, set_attributes(path, wrong))
            assert f"given for {'/' + path.strip('/')} can't be" in told
    assert "only of files" in refused(keeper.edit, ordinary, set_attributes("d", encoded(link=b"12345678")))
    assert "only of files" in refused(keeper.edit, ordinary, set_attributes("/", encoded(link=b"12345678")))
    assert "/nope not found" in refused(keeper.edit, ordinary, set_attributes("nope", b""))
    assert "/d/f/x not found" in refused(keeper.edit, ordinary, set_attributes("d/f/x", b""))
    assert keeper.kept("d") == NONE
    keeper.commit()


def test_other_entries_take_the_place_of_what_is_no_directory(keeper: Keeper) -> None:
    def replace(path: str, entry: entries.Entry) -> dict[str, object]:
        return {"replace": {"path": path, "entry": entries.encode(entry)}}

    keeper.edit(replace("d/f", SymlinkEntry(b"e/big", encoded(time_ns=TIME))), replace("new", SpecialEntry(12)))
    assert keeper.daemon.get(keeper.at, "link") == BODY
    assert keeper.kept("d/f") == Attributes(time_ns=TIME)
    keeper.edit(replace("d/f", FileEntry(0, attributes=encoded(mode=0o755, time_ns=TIME, link=b"LINKLINK"))))
    assert keeper.daemon.get(keeper.at, "link") == b""
    assert keeper.kept("d/f") == Attributes(0o755, None, TIME, link=b"LINKLINK")
    assert "is a directory" in refused(keeper.edit, replace("d/e", SymlinkEntry(b"f")))
    assert "is not a directory" in refused(keeper.edit, replace("link/x", SymlinkEntry(b"f")))
    assert "is not a directory" in refused(keeper.edit, replace("new/x", SymlinkEntry(b"f")))
    assert "its target has" in refused(keeper.edit, replace("d/f", SymlinkEntry(b"")))
    assert keeper.info("new", keeper.commit()).attributes.special_kind == 12


@pytest.mark.parametrize("folded", [False, True])
def test_a_rename_takes_all_along(keeper: Keeper, folded: bool) -> None:
    keeper.put(symlink("d/e/up", "../f", owner=(3, 4)), FilePut(path="d/e/empty", attributes=encoded(mode=0o600)))
    for path in ("d", "d/e", "d/f", "d/e/big"):
        keeper.give(path, mode=0o700, time_ns=TIME)
    if folded:
        keeper.commit()
    before = keeper.tree()
    keeper.edit({"make_directory": "x"}, {"rename": {"from": "d", "to": "x/moved"}})
    for path in ("x/moved", "x/moved/e", "x/moved/f", "x/moved/e/big"):
        assert keeper.kept(path) == Attributes(0o700, time_ns=TIME)
    assert keeper.kept("x/moved/e/up") == Attributes(owner=(3, 4))
    assert keeper.kept("x/moved/e/empty") == Attributes(0o600)
    assert keeper.daemon.get(keeper.at, "x/moved/e/up") == b"f"
    keeper.edit({"rename": {"from": "x/moved", "to": "d"}}, {"remove": {"path": "x", "empty_directory": True}})
    assert keeper.tree().root == before.root
    keeper.edit({"rename": {"from": "link", "to": "pipe"}})
    assert keeper.info("pipe").attributes.symlink == b"d/f"
    assert "is a directory" in refused(keeper.edit, {"rename": {"from": "pipe", "to": "d"}})
    assert "is not a directory" in refused(keeper.edit, {"rename": {"from": "d", "to": "pipe"}})


@pytest.mark.parametrize("folded", [False, True])
def test_a_link_is_removed_and_not_what_it_leads_to(keeper: Keeper, folded: bool) -> None:
    if folded:
        keeper.commit()
    keeper.put(symlink("to-directory", "d"))
    keeper.edit({"remove": {"path": "link", "file": True}}, {"remove": {"path": "pipe"}})
    told = refused(keeper.edit, {"remove": {"path": "to-directory", "empty_directory": True}})
    assert "is not a directory" in told
    keeper.edit({"remove": {"path": "to-directory", "file": True}})
    assert keeper.daemon.list(keeper.at) == ["d"]
    assert keeper.daemon.get(keeper.at, "d/f") == b"f"
    keeper.put(FilePut(path="link", data=b"now a file"))
    done = keeper.commit()
    assert keeper.daemon.get(done, "link") == b"now a file"


def test_a_directory_that_is_made_anew_keeps_nothing(keeper: Keeper) -> None:
    keeper.give("d", mode=0o700)
    keeper.commit()
    keeper.edit({"remove": {"path": "d"}}, {"make_directory": "d"})
    assert keeper.kept("d") == NONE
    keeper.give("d", mode=0o711)
    keeper.put(FilePut(path="d/new", data=b"n"))
    done = keeper.commit()
    assert keeper.kept("d", done) == Attributes(0o711)
    keeper.put(FilePut(path="d/new2", data=b"n"))
    assert keeper.kept("d", keeper.commit()) == Attributes(0o711)
