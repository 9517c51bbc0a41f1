"""Paths: what falls away, what is refused, and how long and deep they may be."""

from __future__ import annotations

import posixpath

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import InvalidError
from pfsd.names import paths
from tests.support.daemons import Daemon


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("/", ()),
        ("a//b/./c/", ("a", "b", "c")),
        ("a/x/../y", ("a", "y")),
        ("a/..", ()),
        ("/a/../b/../c/", ("c",)),
        ("a/b/../../c", ("c",)),
        ("..a/...", ("..a", "...")),
    ],
)
def test_what_a_path_is(text: str, path: paths.Path) -> None:
    assert paths.parse(text) == path


@given(st.lists(st.sampled_from(["a", "b", ".", "..", ""]), max_size=8).map("/".join))
def test_a_path_is_cleaned_as_a_file_system_would_and_never_leaves_the_root(text: str) -> None:
    plain = posixpath.normpath(f"./{text}")
    if plain.split("/")[0] == "..":
        with pytest.raises(InvalidError, match="leads out of the root"):
            paths.parse(text)
    else:
        depth = 0
        for part in text.split("/"):
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
            if depth < 0:
                return  # it comes back in, and is refused as well
        assert "/".join(paths.parse(text)) == ("" if plain == "." else plain)


def test_what_leaves_the_root_is_refused_though_it_comes_back() -> None:
    with pytest.raises(InvalidError, match="leads out of the root"):
        paths.parse("../a")


@pytest.mark.parametrize("name", ["", "a b", "x" * 300, "\xe4"])
def test_a_repo_name_that_is_none(name: str) -> None:
    with pytest.raises(InvalidError, match="repo"):
        paths.check_repo_name(name)


def file(at: pfs_pb2.Commit, path: str) -> pfs_pb2.File:
    return pfs_pb2.File(commit=at, path=path)


def test_names_and_paths_as_long_and_deep_as_they_may_be(daemon: Daemon) -> None:
    daemon.create_repo("r")
    long_name = "oaidhzoshd()&)(@*^$@(#)oandoancoasid1)(&@$)(@U)" * 26
    deep = "/".join(["d"] * (paths.MAX_DEPTH - 1))
    files = {
        "n" * 255: b"1",
        "\u00e4" * 127 + "/" + "x" * 255: b"2",
        long_name: b"3",
        "y" * paths.MAX_NAME_BYTES: b"4",
        "/".join(["component"] * 900): b"5",
        f"{deep}/f": b"6",
    }
    at = daemon.commit_files("r", files)
    for path, data in files.items():
        assert daemon.get(at, path) == data
        assert daemon.get(at, f"{path.split('/')[0]}/../{path}") == data
    request = pfsd_pb2.GlobRequest(commit=at, pattern="/**/f", recursive=True)
    found = [info.file.path for batch in daemon.store.GlobFiles(request) for info in batch.files]
    assert found == [f"/{deep}/f"]
    walked = daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file(at, "/"), recursive=True))
    assert f"/{deep}/f" in {info.file.path for batch in walked for info in batch.files}
    later = daemon.commit_files("r", {f"{deep}/g": b"7"})
    differing = daemon.pfs.DiffFile(pfs_pb2.DiffFileRequest(new_file=file(later, "/")))
    assert [info.file.path for info in differing.new_files] == [f"/{deep}/g"]
    opened = daemon.start_commit("r")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=file(opened, "d/")))
    daemon.finish_commit(opened)
    assert "d" not in daemon.list(opened)


@pytest.mark.parametrize(
    "path",
    ["z" * (paths.MAX_NAME_BYTES + 1), "d/" * paths.MAX_DEPTH + "f", "e" * 4000 + "/" + "k/" * paths.MAX_PATH_BYTES],
    ids=["name", "deep", "long"],
)
def test_what_is_longer_is_refused_with_the_bound(daemon: Daemon, path: str) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    for call in (
        lambda: daemon.put(at, path, b"x"),
        lambda: daemon.get(at, path),
        lambda: daemon.pfs.ListFile(pfs_pb2.ListFileRequest(file=file(at, path))),
        lambda: daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=file(at, path))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(caught.value.details() or "") < 300
