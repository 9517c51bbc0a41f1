"""Reading through symbolic links: what leads where, what lists tell, and what leads nowhere."""

from __future__ import annotations

import pytest

from pachproto import pfs_pb2, pfsd_pb2
from tests.support.attributes import Keeper, refused, symlink
from tests.support.daemons import Daemon
from tests.support.putfiles import FilePut


@pytest.fixture
def keeper(daemon: Daemon) -> Keeper:
    keeper = Keeper(daemon)
    keeper.put(
        FilePut(path="d/e/f", data=b"deep"),
        FilePut(path="d/e/caf\uf7e9", data=b"latin"),
        FilePut(path="top", data=b"top"),
        symlink("d/same", "e/f"),
        symlink("d/up", "../top"),
        symlink("d/round", "./e/.././../d//up"),
        symlink("dir", "d/e"),
        symlink("chain", "dir/../up"),
        symlink("bytes", b"dir/caf\xe9"),
        symlink("root", "d/.."),
        symlink("gone", "d/nope"),
        symlink("below", "top/x"),
        symlink("absolute", "/top"),
        symlink("out", "d/../../top"),
        symlink("one", "two"),
        symlink("two", "d/../one"),
        symlink("self", "self"),
    )
    return keeper


@pytest.mark.parametrize("finished", [False, True])
def test_a_path_through_links_leads_where_the_kernel_would_go(keeper: Keeper, finished: bool) -> None:
    at = keeper.commit() if finished else keeper.at
    for path, data in {
        "d/same": b"deep",
        "d/up": b"top",
        "d/round": b"top",
        "dir/f": b"deep",
        "chain": b"top",
        "bytes": b"latin",
        "root/root/d/same": b"deep",
        "root/dir/f": b"deep",
    }.items():
        assert keeper.daemon.get(at, path) == data, path
        assert keeper.info(path, at).size_bytes == len(data), path
        assert keeper.info(path, at).file.path == path
    assert keeper.daemon.get(at, "d/same", 1, 2) == b"ee"
    assert keeper.info("d/same", at).hash == keeper.info("d/e/f", at).hash
    assert keeper.info("d/same", at).objects == keeper.info("d/e/f", at).objects


def test_what_leads_nowhere_is_told(keeper: Keeper) -> None:
    get = keeper.daemon.get
    assert refused(get, keeper.at, "gone") == "/gone is a symbolic link to d/nope and leads to nothing"
    assert refused(get, keeper.at, "root/gone") == "/gone is a symbolic link to d/nope and leads to nothing"
    assert refused(get, keeper.at, "below") == "/below is a symbolic link to top/x and leads to nothing"
    assert refused(get, keeper.at, "absolute") == "/absolute is a symbolic link to /top and leads out of the commit"
    assert refused(get, keeper.at, "out") == "/out is a symbolic link to d/../../top and leads out of the commit"
    for path in ("one", "self", "two/x"):
        assert "it may lead in a circle" in refused(get, keeper.at, path)
    assert refused(get, keeper.at, "dir/nope").startswith("file dir/nope not found")
    assert refused(keeper.info, "dir/nope").startswith("file dir/nope not found")
    assert "is a directory" in refused(get, keeper.at, "dir")


def test_a_link_itself_is_inspected(keeper: Keeper) -> None:
    directory = keeper.info("dir")
    assert directory.file_type == pfs_pb2.DIR
    assert sorted(directory.children) == ["caf\uf7e9", "f"]
    assert directory.attributes.symlink == b"d/e"
    for path, target in {"gone": b"d/nope", "absolute": b"/top", "self": b"self"}.items():
        info = keeper.info(path)
        assert (info.file_type, info.size_bytes, info.attributes.symlink) == (pfs_pb2.FILE, 0, target)
    assert keeper.info("top").attributes == pfs_pb2.FileAttributes()


def told(infos: object) -> dict[str, tuple[int, int, bytes]]:
    return {info.file.path: (info.file_type, info.size_bytes, info.attributes.symlink) for info in infos}  # type: ignore[attr-defined]


def test_lists_tell_of_links_as_of_files(keeper: Keeper) -> None:
    pfs, store = keeper.daemon.pfs, keeper.daemon.store
    file = pfs_pb2.File(commit=keeper.at, path="dir")
    assert keeper.daemon.list(keeper.at, "dir") == ["dir/caf\uf7e9", "dir/f"]
    streamed = store.ListFiles(pfsd_pb2.ListFilesRequest(file=file, recursive=True))
    assert sorted(info.file.path for batch in streamed for info in batch.files) == ["dir/caf\uf7e9", "dir/f"]
    top = pfs_pb2.File(commit=keeper.at, path="/")
    expected = {
        "absolute": (pfs_pb2.FILE, 0, b"/top"),
        "below": (pfs_pb2.FILE, 0, b"top/x"),
        "bytes": (pfs_pb2.FILE, 5, b"dir/caf\xe9"),
        "chain": (pfs_pb2.FILE, 3, b"dir/../up"),
        "d": (pfs_pb2.DIR, 9, b""),
        "dir": (pfs_pb2.FILE, 0, b"d/e"),
        "gone": (pfs_pb2.FILE, 0, b"d/nope"),
        "one": (pfs_pb2.FILE, 0, b"two"),
        "out": (pfs_pb2.FILE, 0, b"d/../../top"),
        "root": (pfs_pb2.FILE, 0, b"d/.."),
        "self": (pfs_pb2.FILE, 0, b"self"),
        "top": (pfs_pb2.FILE, 3, b""),
        "two": (pfs_pb2.FILE, 0, b"d/../one"),
    }
    listed = told(pfs.ListFile(pfs_pb2.ListFileRequest(file=top)).file_info)
    assert {path.strip("/"): item for path, item in listed.items()} == expected
    globbed = told(pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=keeper.at, pattern="/*")).file_info)
    assert {path.strip("/"): item for path, item in globbed.items()} == expected
    below = told(pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=keeper.at, pattern="/d*/*")).file_info)
    assert sorted(below) == ["/d/e", "/d/round", "/d/same", "/d/up"]  # a link to a directory is none to a pattern
    request = pfsd_pb2.ListFilesRequest(file=top, recursive=True, content_bytes=100)
    (batch,) = store.ListFiles(request)
    contents = {batch.files[each.index].file.path.strip("/"): each.data for each in batch.contents}
    assert contents["chain"] == b"top"
    assert contents["bytes"] == b"latin"


def test_a_difference_tells_of_a_link_as_of_what_it_leads_to(keeper: Keeper) -> None:
    first = keeper.commit()
    keeper.put(symlink("d/same", "../top"))
    second = keeper.commit()
    request = pfs_pb2.DiffFileRequest(
        new_file=pfs_pb2.File(commit=second, path="/"), old_file=pfs_pb2.File(commit=first, path="/")
    )
    found = keeper.daemon.pfs.DiffFile(request)
    assert told(found.new_files) == {"/d/same": (pfs_pb2.FILE, 3, b"../top")}
    assert told(found.old_files) == {"/d/same": (pfs_pb2.FILE, 4, b"e/f")}
    keeper.put(FilePut(path="top", data=b"more"))
    assert keeper.differing(keeper.commit(), second) == (["/top"], ["/top"])  # the link is as it was


def test_a_long_chain_ends(keeper: Keeper) -> None:
    keeper.put(*(symlink(f"many/{number}", f"{number + 1}") for number in range(60)))
    keeper.put(FilePut(path="many/60", data=b"end"))
    assert keeper.daemon.get(keeper.at, "many/20") == b"end"
    assert "too many links" in refused(keeper.daemon.get, keeper.at, "many/19")
