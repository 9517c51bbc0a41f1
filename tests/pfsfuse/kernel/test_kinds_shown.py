"""What a mount shows of entries that are more than content: kinds, modes, owners, attributes, links, names."""

from __future__ import annotations

import os
import pathlib
import stat
from typing import cast

import pytest
import trio

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import CorruptError
from pfsd.names.bytenames import stored_name
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import EMPTY_DIR, EMPTY_FILE, Entry, FileEntry, SpecialEntry, SymlinkEntry, with_attributes
from pfsfuse.client.daemon import Daemon as Connection
from pfsfuse.content.content import Content, open_content
from pfsfuse.kernel import hardlinks
from pfsfuse.kernel.inodes import FOREVER, Inode, Snapshot, stat_of
from pfsfuse.kernel.view import View
from tests.pfsfuse.job.test_job import needs_root
from tests.support.daemons import Daemon
from tests.support.mounts import mounting
from tests.support.putfiles import request

TIME = 1_234_567_890_123_456_789
SHOWN_AT = 5


def put(daemon: Daemon, *files: pfsd_pb2.FilePut) -> pfs_pb2.Commit:
    """A finished commit of the new repo `r` with these files."""
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.store.PutFiles(iter([request(at, *files)]))
    daemon.finish_commit(at)
    return at


def other(path: str, entry: Entry, **kept: object) -> pfsd_pb2.FilePut:
    encoded = attributes.encode(Attributes(**kept))  # type: ignore[arg-type]
    return pfsd_pb2.FilePut(path=path, other=entries.encode(with_attributes(entry, encoded)))


def file(path: str, data: bytes = b"", **kept: object) -> pfsd_pb2.FilePut:
    encoded = attributes.encode(Attributes(**kept))  # type: ignore[arg-type]
    return pfsd_pb2.FilePut(path=path, data=data, attributes=encoded, overwrite=True)


@needs_root
def test_kinds_modes_and_times_are_shown(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    put(
        daemon,
        file("/file", b"data", mode=0o4711, time_ns=TIME, owner=(1234, 1234)),
        other("/link", SymlinkEntry(b"caf\xe9/x"), time_ns=-1),
        other("/pipe", SpecialEntry(1, 0), mode=0o600),
        other("/socket", SpecialEntry(12, 0)),
        other("/null", SpecialEntry(2, os.makedev(1, 3)), mode=0o666),
        other("/block", SpecialEntry(6, os.makedev(7, 1))),
    )
    with mounting(daemon, tmp_path / "mnt") as mounted:
        top = mounted.path / "r/master"
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(top)}
        assert {name: stat.filemode(one.st_mode) for name, one in found.items()} == {
            "block": "brw-r--r--",
            "file": "-rws--x--x",
            "link": "lrwxrwxrwx",
            "null": "crw-rw-rw-",
            "pipe": "prw-------",
            "socket": "srw-r--r--",
        }
        assert (found["file"].st_mtime_ns, found["link"].st_mtime_ns) == (TIME, -1)
        assert (found["file"].st_uid, found["link"].st_size) == (os.getuid(), 6)
        assert (found["null"].st_rdev, found["block"].st_rdev) == (os.makedev(1, 3), os.makedev(7, 1))
        assert os.readlink(os.fsencode(top / "link")) == b"caf\xe9/x"
        with pytest.raises(OSError, match="Invalid argument"):
            os.readlink(top / "file")


@needs_root
def test_extended_attributes_stand_beside_the_mounts_own(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    put(daemon, file("/f", xattrs=((b"user.note", b"mine"), (b"user.pfs.state", b"not this"))), file("/g"))
    with mounting(daemon, tmp_path / "mnt") as mounted:
        path = mounted.path / "r/master/f"
        assert os.getxattr(path, "user.note") == b"mine"
        assert os.getxattr(path, "user.pfs.state") == b"finished"
        assert (os.listxattr(path), os.listxattr(path.with_name("g"))) == (["user.note"], [])
        with pytest.raises(OSError, match="No data"):
            os.getxattr(path, "user.other")


@needs_root
@pytest.mark.parametrize("most", [hardlinks.MOST_NAMES, 2])
def test_names_of_one_file_have_one_number(daemon: Daemon, tmp_path: pathlib.Path, most: int) -> None:
    one, two = b"1" * 8, b"2" * 8
    put(
        daemon,
        file("/a/first", b"data", link=one),
        file("/b/c/second", b"data", link=one),
        file("/b/third", b"other data", link=one),  # not equal
        file("/b/alone", b"data", link=two),
        file("/plain", b"data"),
    )
    program = "pfsfuse.mount" if most == hardlinks.MOST_NAMES else "tests.pfsfuse.kernel.test_kinds_shown"
    with mounting(daemon, tmp_path / "mnt", program=program) as mounted:
        top = mounted.path / "r/master"
        names = ["a/first", "b/c/second", "b/third", "b/alone", "plain"]
        found = {name: (top / name).stat() for name in names}
        assert [found[name].st_nlink for name in names] == ([2, 2, 1, 1, 1] if most > 2 else [1] * 5)
        numbers = [found[name].st_ino for name in names]
        assert (numbers[0] == numbers[1]) == (most > 2)
        assert len(set(numbers)) == (4 if most > 2 else 5)
        listed = {entry.name: entry.inode() for at in ("a", "b", "b/c") for entry in os.scandir(top / at)}
        assert {name: listed[os.path.basename(name)] for name in names[:4]} == dict(
            zip(names, numbers[:4], strict=False)
        )
        assert (top / "b/c/second").read_bytes() == (top / "a/first").read_bytes() == b"data"


@needs_root
def test_names_of_any_bytes_are_shown_and_found(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    names = [b"caf\xe9", "\uf7e9".encode(), b"\xff\xfe", "käse".encode(), b"plain"]
    put(daemon, *(file(f"/d/{stored_name(name)}", name) for name in names), file("/d/\uf7c3\uf7a9", b"unreachable"))
    with mounting(daemon, tmp_path / "mnt") as mounted:
        top = os.fsencode(mounted.path / "r/master/d")
        for name in names:
            assert pathlib.Path(os.fsdecode(top + b"/" + name)).read_bytes() == name
        assert sorted(os.listdir(top)) == sorted([*names, "\uf7c3\uf7a9".encode()])
        assert (mounted.path / "r/master/d/\uf7c3\uf7a9").read_bytes() == b"unreachable"
        assert not (mounted.path / "r/master/d/é").exists()


def test_owners_show_where_that_is_asked_for() -> None:
    value = entries.encode(with_attributes(EMPTY_FILE, attributes.encode(Attributes(owner=(12, 34)))))
    top = Inode(None, b"", Snapshot("r", "c", SHOWN_AT), entries.encode(EMPTY_DIR))
    own = (os.getuid(), os.getgid())
    for shown, owner in (
        (View(cast(Content, None), top), own),
        (View(cast(Content, None), top, stored_owners=True), (12, 34)),
    ):
        found = shown.entry_attributes(7, value, SHOWN_AT, FOREVER, 3)
        assert (found.st_uid, found.st_gid) == owner
        assert (found.st_ino, found.st_mtime_ns, found.st_nlink) == (7, SHOWN_AT, 3)
        plain = shown.entry_attributes(7, entries.encode(EMPTY_DIR), SHOWN_AT, FOREVER)
        assert (plain.st_uid, plain.st_gid, plain.st_mode) == (*own, stat.S_IFDIR | 0o755)
        shown.show_as(5, 6)
        assert shown.entry_attributes(7, entries.encode(FileEntry(0)), SHOWN_AT, FOREVER).st_uid == 5


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x05", b"\x02" + bytes(3)])
def test_an_entry_that_is_none_is_an_error(value: bytes) -> None:
    with pytest.raises(CorruptError):
        stat_of(value)


def test_a_tree_without_linked_names_is_not_walked(daemon: Daemon) -> None:
    at = put(daemon, file("/d/f", b"x"))

    async def check() -> None:
        connection = Connection(daemon.address)
        try:
            async with open_content(connection) as content:
                root = bytes.fromhex((await connection.commit_tree("r", at.id)).root.hex())
                entry = await content.run(lambda: entries.dir_entry(content.nodes, root))
                top = Inode(None, b"", Snapshot("r", at.id, SHOWN_AT), entries.encode(entry))
                assert await hardlinks.HardLinks(content).table(top) is None
        finally:
            connection.close()

    trio.run(check)


if __name__ == "__main__":  # a mount that counts few linked names
    from pfsfuse.mount import main

    hardlinks.MOST_NAMES = 2
    main()
