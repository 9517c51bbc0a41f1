"""Attributes, links and special files that PutFiles puts, and what they change of a commit."""

from __future__ import annotations

import dataclasses

import pytest

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import MOST_XATTR_BYTES, NONE, Attributes
from pfsd.trees.entries import SymlinkEntry
from tests.support.attributes import TIME, Keeper, encoded, pipe, refused, symlink
from tests.support.daemons import Daemon
from tests.support.putfiles import BODY, FilePut, request


@pytest.fixture
def keeper(daemon: Daemon) -> Keeper:
    return Keeper(daemon)


ALL = Attributes(0o4711, (5, 70_000), -TIME, ((b"user.a", b"1"), (b"user.b", b"\0")), b"LINKLINK")


@pytest.mark.parametrize("data", [b"", b"small", BODY], ids=["empty", "small", "large"])
def test_what_is_given_is_kept(keeper: Keeper, data: bytes) -> None:
    keeper.put(FilePut(path="d/f", data=data, attributes=attributes.encode(ALL)))
    assert keeper.kept("d/f") == ALL
    done = keeper.commit()
    assert keeper.kept("d/f", done) == keeper.kept("d/f") == ALL
    assert keeper.daemon.get(done, "d/f") == data


@pytest.mark.parametrize("folded", [False, True])
def test_what_a_put_that_says_nothing_keeps(keeper: Keeper, folded: bool) -> None:
    for path in ("appended", "overwritten", "nothing"):
        keeper.put(FilePut(path=path, data=b"1", attributes=attributes.encode(ALL)))
    if folded:
        keeper.commit()
    keeper.put(
        FilePut(path="appended", data=b"2"),
        FilePut(path="overwritten", data=b"2", overwrite=True),
        FilePut(path="nothing"),
    )
    done = keeper.commit()
    assert keeper.kept("appended", done) == dataclasses.replace(ALL, time_ns=None, link=b"")
    assert keeper.daemon.get(done, "appended") == b"12"
    assert keeper.kept("overwritten", done) == NONE
    assert keeper.kept("nothing", done) == ALL
    keeper.put(FilePut(path="appended", data=b"3", attributes=b""))
    assert keeper.kept("appended") == NONE
    assert keeper.daemon.get(keeper.at, "appended") == b"123"


def test_a_put_of_1_5_keeps_what_an_append_keeps(keeper: Keeper) -> None:
    keeper.put(FilePut(path="f", data=b"1", attributes=encoded(mode=0o755, time_ns=TIME)))
    keeper.daemon.put(keeper.at, "f", b"2")
    assert keeper.kept("f") == Attributes(0o755)
    keeper.daemon.put(keeper.at, "f", b"3", overwrite=True)
    assert keeper.kept("f") == NONE


def test_one_file_is_put_at_several_paths(keeper: Keeper) -> None:
    given = encoded(mode=0o600, link=b"12345678")
    keeper.put(FilePut(path="a", data=b"x", overwrite=True, attributes=given, also=["b", "d/c"]))
    keeper.put(FilePut(path="big", data=BODY, overwrite=True, also=["big2"]))
    done = keeper.commit()
    for path in ("a", "b", "d/c"):
        assert keeper.kept(path, done) == Attributes(0o600, link=b"12345678")
        assert keeper.daemon.get(done, path) == b"x"
    assert keeper.daemon.get(done, "big2") == BODY
    assert "with overwrite" in refused(keeper.put, FilePut(path="a", data=b"x", also=["b"]))


def test_links_and_pipes_take_the_place_of_what_is_no_directory(keeper: Keeper) -> None:
    keeper.put(FilePut(path="f", data=BODY), FilePut(path="d/g", data=b"g"))
    keeper.put(symlink("f", "d/g", owner=(1, 2), time_ns=TIME), pipe("p"), symlink("q", b"\xff/x"))
    assert keeper.kept("f") == Attributes(owner=(1, 2), time_ns=TIME)
    assert keeper.info("f").attributes.symlink == b"d/g"
    assert keeper.info("p").attributes.special_kind == 1
    keeper.put(pipe("f"), symlink("p", "f"))
    done = keeper.commit()
    assert keeper.info("f", done).attributes.special_kind == 1
    assert keeper.info("q", done).attributes.symlink == b"\xff/x"
    assert "named pipe" in refused(keeper.daemon.get, done, "f")
    assert "is a directory" in refused(keeper.put, symlink("d", "f"))
    assert "no regular file" in refused(keeper.put, FilePut(path="f", data=b"x"))
    keeper.put(FilePut(path="f", data=b"x", overwrite=True))
    assert keeper.daemon.get(keeper.at, "f") == b"x"
    assert keeper.info("f").attributes == pfs_pb2.FileAttributes()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (FilePut(path="f", attributes=encoded(mode=0o10000)), "mode 10000 is more than 7777"),
        (FilePut(path="f", attributes=encoded(xattrs=((b"user.a", bytes(MOST_XATTR_BYTES)),))), "more than 4096 bytes"),
        (FilePut(path="f", attributes=encoded(xattrs=((b"a", b"1"), (b"a", b"2")))), "comes twice"),
        (FilePut(path="f", attributes=encoded(owner=(1 << 32, 0))), "more than 32 bits"),
        (FilePut(path="f", attributes=encoded(time_ns=1 << 63)), "can't be read"),
        (FilePut(path="f", attributes=b"\x09"), "can't be read"),
        (FilePut(path="f", attributes=b"\x06\x01"), "can't be read"),
        (FilePut(path="f", attributes=b"\x05short"), "can't be read"),
        (FilePut(path="f", attributes=bytes(1 << 16)), "can't be read"),
        (symlink("f", "x" * 4096), "its target has 1 to 4095 bytes"),
        (symlink("f", ""), "its target has 1 to 4095 bytes"),
        (symlink("f", "a\0b"), "its target has 1 to 4095 bytes"),
        (symlink("f", "a", mode=0o77777), "can't be decoded"),
        (FilePut(path="f", other=b"\x04\x08\x00"), "can't be a special file of kind 8"),
        (FilePut(path="f", other=entries.encode(entries.EMPTY_DIR)), "not a link's or special file's entry"),
        (FilePut(path="f", other=entries.encode(entries.EMPTY_FILE)), "not a link's or special file's entry"),
        (FilePut(path="f", other=b"\x09"), "can't be decoded"),
    ],
)
def test_what_is_wrong_is_refused_and_named(keeper: Keeper, file: pfsd_pb2.FilePut, sentence: str) -> None:
    told = refused(keeper.put, FilePut(path="before", data=b"x"), file)
    assert sentence in told
    assert "f" in told.split()[4:] or "/f" in told
    assert "before" not in [path.strip("/") for path in keeper.daemon.list(keeper.at)]


# --- what counts as a change


def test_attributes_change_no_hash_and_no_size(keeper: Keeper) -> None:
    keeper.put(FilePut(path="d/e/f", data=b"f"), FilePut(path="big", data=BODY))
    plain = keeper.commit()
    size = keeper.repo_size()
    for path in ("d/e/f", "big", "d", "d/e"):
        keeper.give(path, mode=0o600, owner=(1, 2), time_ns=TIME, xattrs=((b"user.a", b"1"),))
    kept = keeper.commit()
    assert keeper.tree(kept).root != keeper.tree(plain).root
    for path in ("d/e/f", "big", "d", "d/e", "/"):
        assert keeper.info(path, kept).hash == keeper.info(path, plain).hash
    assert keeper.repo_size() == size
    assert keeper.differing(kept, plain) == ([], [])
    for path in ("d/e/f", "big", "d", "d/e"):
        keeper.give(path)
    assert keeper.tree(keeper.commit()).root == keeper.tree(plain).root


def test_plain_files_have_the_same_tree_whoever_wrote_them(daemon: Daemon) -> None:
    roots = []
    for number in range(3):
        keeper = Keeper(daemon, f"r{number}")
        if number == 0:
            daemon.put(keeper.at, "d/f", b"f")
            daemon.put(keeper.at, "big", BODY)
        elif number == 1:
            default = encoded(mode=0o644)
            keeper.put(FilePut(path="big", data=BODY, attributes=default), FilePut(path="d/f", data=b"f"))
            keeper.give("d", mode=0o755)
        else:
            keeper.put(FilePut(path="x/f", data=b"f", attributes=encoded(time_ns=TIME)), FilePut(path="big", data=BODY))
            keeper.edit({"rename": {"from": "x", "to": "d"}}, {"set_attributes": {"path": "d/f"}})
        roots.append(keeper.tree(keeper.commit()).root)
    assert roots[0] == roots[1] == roots[2]


def globbed_changes(keeper: Keeper, new: pfs_pb2.Commit, old: pfs_pb2.Commit, pattern: str) -> list[str]:
    request = pfsd_pb2.GlobChangesRequest(old=old, new=new, pattern=pattern)
    return [change.path for batch in keeper.daemon.store.GlobChanges(request) for change in batch.changes]


def test_an_executable_bit_is_a_change_and_a_time_is_none(keeper: Keeper) -> None:
    keeper.put(FilePut(path="d/run", data=b"r"), FilePut(path="d/other", data=b"o"), symlink("d/link", "run"))
    first = keeper.commit()
    for path in ("d/run", "d/other", "d/link", "d"):
        keeper.give(path, time_ns=TIME, owner=(7, 7))
    touched = keeper.commit()
    assert keeper.differing(touched, first) == ([], [])
    assert globbed_changes(keeper, touched, first, "/*") == globbed_changes(keeper, touched, first, "/d/*") == []
    keeper.give("d/run", time_ns=TIME, mode=0o100)
    executable = keeper.commit()
    assert keeper.differing(executable, touched) == (["/d/run"], ["/d/run"])
    assert globbed_changes(keeper, executable, touched, "/d/*") == ["/d/run"]
    assert globbed_changes(keeper, executable, touched, "/*") == ["/d"]
    keeper.give("d/run", mode=0o711)
    assert keeper.differing(keeper.commit(), executable) == ([], [])
    keeper.put(symlink("d/link", "other"))
    assert keeper.differing(keeper.commit(), executable) == (["/d/link"], ["/d/link"])


def test_a_link_in_place_of_a_directory_and_the_other_way_differ(keeper: Keeper) -> None:
    keeper.put(FilePut(path="d/f", data=b"f"), FilePut(path="x", data=b"xx"))
    first = keeper.commit()
    keeper.edit({"remove": {"path": "d"}}, {"replace": {"path": "d", "entry": entries.encode(SymlinkEntry(b"x"))}})
    second = keeper.commit()
    assert keeper.differing(second, first) == (["/d"], ["/d/f"])
    assert keeper.differing(first, second) == (["/d/f"], ["/d"])


def test_a_stream_counts_what_it_put(keeper: Keeper) -> None:
    put = keeper.daemon.store.PutFiles(iter([request(keeper.at, symlink("a", "b"), pipe("p"), FilePut(path="f"))]))
    assert put.files == 3
