"""Streaming lists: whole, in batches, with the paths that were asked for."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from pachproto import pfs_pb2, pfsd_pb2
from tests.support.daemons import Daemon
from tests.support.putfiles import FilePut, request


def put_empty(daemon: Daemon, at: pfs_pb2.Commit, names: Iterator[str]) -> None:
    files = [FilePut(path=name) for name in names]
    daemon.store.PutFiles(request(at, *files[start : start + 1000]) for start in range(0, len(files), 1000))


def test_a_hundred_thousand_entries_are_listed_whole_and_in_batches(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    put_empty(daemon, opened, (f"d/file-{number:06d}" for number in range(100_000)))
    daemon.finish_commit(opened)
    expected = [f"d/file-{number:06d}" for number in range(100_000)]
    file = pfs_pb2.File(commit=opened, path="d")
    assert daemon.list(opened, "d") == expected
    batches = list(daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file)))
    assert [info.file.path for batch in batches for info in batch.files] == expected
    assert max(batch.ByteSize() for batch in batches) < 1 << 20
    globbed = daemon.pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=opened, pattern="d/*")).file_info
    assert len(globbed) == 100_000
    found = daemon.store.GlobFiles(pfsd_pb2.GlobRequest(commit=opened, pattern="d/*5"))
    assert sum(len(batch.files) for batch in found) == 10_000
    differing = daemon.store.DiffFiles(pfs_pb2.DiffFileRequest(new_file=pfs_pb2.File(commit=opened, path="/")))
    assert sum(len(batch.new_files) for batch in differing) == 100_000
    lines = daemon.pachctl("list-file", "r", "master", "d").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("", ["a", "a/b", "a/b/c", "x"]),
        ("/", ["/a", "/a/b", "/a/b/c", "/x"]),
        ("a", ["a/b", "a/b/c"]),
        ("/a/", ["/a/b", "/a/b/c"]),
        ("a/b", ["a/b/c"]),
    ],
)
def test_paths_in_lists_are_as_they_were_asked_for(
    daemon: Daemon, opened: pfs_pb2.Commit, asked: str, expected: list[str]
) -> None:
    put_empty(daemon, opened, iter(["a/b/c", "x"]))
    file = pfs_pb2.File(commit=opened, path=asked)
    batches = daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file, recursive=True))
    assert [info.file.path for batch in batches for info in batch.files] == expected
    shallow = daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file))
    assert [info for batch in shallow for info in batch.files] == list(
        daemon.pfs.ListFile(pfs_pb2.ListFileRequest(file=file)).file_info
    )


def test_lists_of_what_is_no_directory_are_refused(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    put_empty(daemon, opened, iter(["x"]))
    for path, code in (("x", grpc.StatusCode.FAILED_PRECONDITION), ("nope", grpc.StatusCode.NOT_FOUND)):
        for recursive in (False, True):
            file = pfs_pb2.File(commit=opened, path=path)
            with pytest.raises(grpc.RpcError) as caught:
                list(daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file, recursive=recursive)))
            assert caught.value.code() is code
    with pytest.raises(grpc.RpcError) as caught:
        list(daemon.store.GlobFiles(pfsd_pb2.GlobRequest(commit=opened, pattern="[")))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
