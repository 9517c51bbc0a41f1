"""Objects and tags, tree objects, and commits built from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd import rpc
from tests.support.daemons import Daemon, commit


@pytest.fixture
def objects(daemon: Daemon) -> Any:
    """A stub of `pfs.ObjectAPI`."""
    return rpc.Stub(daemon.channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])


def put(objects: Any, data: bytes, *tags: str) -> pfs_pb2.Object:
    blocks = [data[at : at + 100_000] for at in range(0, max(1, len(data)), 100_000)]
    named = [pfs_pb2.Tag(name=tag) for tag in tags]
    stored: pfs_pb2.Object = objects.PutObject(pfs_pb2.PutObjectRequest(value=block, tags=named) for block in blocks)
    return stored


def read(stream: Any) -> bytes:
    return b"".join(message.value for message in stream)


def refused(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


@pytest.mark.parametrize("size", [0, 1, 5000, 9_000_000])
def test_a_blob_comes_back_under_its_hash(objects: Any, size: int) -> None:
    data = random.Random(size).randbytes(size)
    stored = put(objects, data)
    assert put(objects, data) == stored
    assert read(objects.GetObject(stored)) == data
    info = objects.InspectObject(stored)
    assert info.block_ref.range.upper - info.block_ref.range.lower == size
    assert objects.CheckObject(pfs_pb2.CheckObjectRequest(object=stored)).exists
    assert stored in list(objects.ListObjects(pfs_pb2.ListObjectsRequest()))


def test_several_objects_are_read_as_one_stream(objects: Any) -> None:
    data = [random.Random(size).randbytes(size) for size in (10, 7_000_000, 0, 30)]
    stored = [put(objects, block) for block in data]
    whole = b"".join(data)
    for offset, size in [(0, 0), (5, 10), (10, 7_000_000), (6_999_999, 30), (7_000_035, 100), (9_000_000, 1)]:
        request = pfs_pb2.GetObjectsRequest(objects=stored, offset_bytes=offset, size_bytes=size)
        assert read(objects.GetObjects(request)) == whole[offset : offset + size if size else None]


def test_what_is_unknown_is_said_to_be(objects: Any) -> None:
    for name in ("0" * 64, "not hex", ""):
        unknown = pfs_pb2.Object(hash=name)
        assert not objects.CheckObject(pfs_pb2.CheckObjectRequest(object=unknown)).exists
        assert refused(partial(list, objects.GetObject(unknown))) is grpc.StatusCode.NOT_FOUND
    assert refused(lambda: read(objects.GetTag(pfs_pb2.Tag(name="t")))) is grpc.StatusCode.NOT_FOUND


def test_tags_move_are_listed_and_removed(objects: Any) -> None:
    first, second = put(objects, b"first", "a/1", "a/2"), put(objects, b"second", "b")
    objects.TagObject(pfs_pb2.TagObjectRequest(object=second, tags=[pfs_pb2.Tag(name="a/2")]))
    assert read(objects.GetTag(pfs_pb2.Tag(name="a/1"))) == b"first"
    assert read(objects.GetTag(pfs_pb2.Tag(name="a/2"))) == b"second"
    assert objects.InspectTag(pfs_pb2.Tag(name="b")).object == second
    listed = list(objects.ListTags(pfs_pb2.ListTagsRequest(prefix="a/", includeObject=True)))
    assert [(item.tag, item.object) for item in listed] == [("a/1", first), ("a/2", second)]
    objects.DeleteTags(pfs_pb2.DeleteTagsRequest(tags=["a/1", "not there"]))
    assert [item.tag for item in objects.ListTags(pfs_pb2.ListTagsRequest())] == ["a/2", "b"]


def test_a_deleted_object_is_gone_and_files_of_the_same_content_stay(daemon: Daemon, objects: Any) -> None:
    stored = put(objects, b"x" * 5000)
    daemon.create_repo("r")
    at = daemon.commit_files("r", {"f": b"x" * 5000})
    objects.DeleteObjects(pfs_pb2.DeleteObjectsRequest(objects=[stored]))
    assert not objects.CheckObject(pfs_pb2.CheckObjectRequest(object=stored)).exists
    assert daemon.get(at, "f") == b"x" * 5000
    put(objects, b"x" * 5000)
    assert read(objects.GetObject(stored)) == b"x" * 5000


def test_the_objects_of_a_file_joined_are_the_file(daemon: Daemon, objects: Any) -> None:
    data = random.Random(5).randbytes(6_000_000)
    daemon.create_repo("r")
    at = daemon.commit_files("r", {"f": data})
    info = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=at, path="f")))
    assert len(info.objects) > 1
    assert b"".join(read(objects.GetObject(item)) for item in info.objects) == data


def test_a_commit_is_built_from_the_tree_of_another(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.create_repo("s", "r")
    source = daemon.commit_files("r", {"a/b": b"x", "c": b"y"})
    info = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=source))
    request = pfs_pb2.BuildCommitRequest(parent=commit("s", ""), branch="master", tree=info.tree, provenance=[source])
    built = daemon.pfs.BuildCommit(request)
    got = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("s", "master")))
    assert (got.commit, got.size_bytes, got.tree) == (built, 2, info.tree)
    assert list(got.provenance) == [source]
    assert daemon.get(built, "a/b") == b"x"
    repo = daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="s")))
    assert repo.size_bytes == 2


def test_a_commit_is_not_built_from_what_is_no_tree(daemon: Daemon, objects: Any) -> None:
    daemon.create_repo("r")
    for tree in (put(objects, b"no tree"), put(objects, b"pfsd tree 1\n" + b"z" * 64 + b"\n"), pfs_pb2.Object()):
        request = pfs_pb2.BuildCommitRequest(parent=commit("r", ""), branch="master", tree=tree)
        code = refused(partial(daemon.pfs.BuildCommit, request))
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    lost = put(objects, b"pfsd tree 1\n" + b"0" * 64 + b"\n")
    request = pfs_pb2.BuildCommitRequest(parent=commit("r", ""), branch="master", tree=lost)
    assert refused(lambda: daemon.pfs.BuildCommit(request)) is grpc.StatusCode.DATA_LOSS
    assert not daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name="r"))).branch_info


def diff(daemon: Daemon, new: pfs_pb2.File, old: pfs_pb2.File | None = None, *, shallow: bool = False) -> Any:
    answer = daemon.pfs.DiffFile(pfs_pb2.DiffFileRequest(new_file=new, old_file=old, shallow=shallow))
    return [sorted(info.file.path for info in infos) for infos in (answer.new_files, answer.old_files)]


def test_differences_between_commits(daemon: Daemon) -> None:
    daemon.create_repo("r")
    first = daemon.commit_files("r", {"same": b"s", "d/changed": b"1", "d/gone": b"g", "d/e/deep": b"x", "turns": b"f"})
    second = daemon.start_commit("r")
    daemon.put(second, "d/changed", b"2")
    daemon.put(second, "d/new", b"n")
    for path in ("d/gone", "turns"):
        daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=second, path=path)))
    daemon.put(second, "turns/into", b"directory")
    daemon.finish_commit(second)

    def at(where: pfs_pb2.Commit, path: str) -> pfs_pb2.File:
        return pfs_pb2.File(commit=where, path=path)

    changed = [["d/changed", "d/new", "turns/into"], ["d/changed", "d/gone", "turns"]]
    assert diff(daemon, at(second, "")) == changed
    assert diff(daemon, at(second, ""), at(first, "")) == changed
    assert diff(daemon, at(second, "/d")) == [["/d/changed", "/d/new"], ["/d/changed", "/d/gone"]]
    assert diff(daemon, at(second, "d/changed")) == [["d/changed"], ["d/changed"]]
    assert diff(daemon, at(second, ""), shallow=True) == [["d", "turns"], ["d", "turns"]]
    assert diff(daemon, at(second, "d/e"), at(first, "")) == [
        ["d/e/deep"],
        ["d/changed", "d/e/deep", "d/gone", "same", "turns"],
    ]
    assert diff(daemon, at(first, "")) == [["d/changed", "d/e/deep", "d/gone", "same", "turns"], []]
    assert diff(daemon, at(second, "nowhere")) == [[], []]
    assert diff(daemon, at(second, "same")) == [[], []]
