"""Numbers in messages: whatever they are, the answer comes at once, and is never a defect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import grpc

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from tests.support.daemons import Daemon

LEAST, MOST, MOST_UNSIGNED = -(2**63), 2**63 - 1, 2**64 - 1
SIGNED = (0, 1, 5, MOST, -1, LEAST)
DEADLINE = 60.0
"""Seconds that only a hang takes."""


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_where_a_read_begins_and_how_long_it_is(daemon: Daemon) -> None:
    daemon.create_repo("r")
    file = pfs_pb2.File(commit=daemon.commit_files("r", {"f": b"12345"}), path="f")
    for offset, size in itertools.product(SIGNED, SIGNED):
        request = pfs_pb2.GetFileRequest(file=file, offset_bytes=offset, size_bytes=size)
        if offset < 0 or size < 0:
            code = code_of(lambda: list(daemon.pfs.GetFile(request, timeout=DEADLINE)))  # noqa: B023 (called at once)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        else:
            got = b"".join(part.value for part in daemon.pfs.GetFile(request, timeout=DEADLINE))
            assert got == b"12345"[offset : offset + (size or MOST)]


def test_where_a_read_of_objects_begins(daemon: Daemon) -> None:
    api = rpc.Stub(daemon.channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])
    stored = api.PutObject(iter([pfs_pb2.PutObjectRequest(value=b"12345")]))
    for offset, size in itertools.product((0, 2, MOST, MOST_UNSIGNED), (0, 1, MOST, MOST_UNSIGNED)):
        request = pfs_pb2.GetObjectsRequest(objects=[stored], offset_bytes=offset, size_bytes=size)
        got = b"".join(part.value for part in api.GetObjects(request, timeout=DEADLINE))
        assert got == b"12345"[offset : offset + (size or MOST)]


def test_how_much_a_file_of_a_split_holds_and_what_splits_it(daemon: Daemon) -> None:
    daemon.create_repo("r")
    file = pfs_pb2.File(commit=daemon.start_commit("r"), path="d")
    cases: list[tuple[Any, int, int]] = [
        (pfs_pb2.LINE, datums, size) for datums, size in itertools.product(SIGNED, SIGNED)
    ]
    cases += [(delimiter, 0, 0) for delimiter in (3, -1, 2**31 - 1)]
    for delimiter, datums, size in cases:
        request = pfs_pb2.PutFileRequest(
            file=file,
            value=b"1\n2\n",
            delimiter=delimiter,
            target_file_datums=datums,
            target_file_bytes=size,
        )
        good = delimiter == pfs_pb2.LINE and datums >= 0 and size >= 0
        code = code_of(lambda: daemon.pfs.PutFile(iter([request]), timeout=DEADLINE))  # noqa: B023 (called at once)
        assert code is (grpc.StatusCode.OK if good else grpc.StatusCode.INVALID_ARGUMENT)


def test_how_many_commits_are_listed_and_how_large_contents_come_along(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {})
    at = daemon.commit_files("r", {"f": b"1"})
    for number in (0, 1, 2, MOST, MOST_UNSIGNED):
        request = pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"), number=number)
        assert len(daemon.pfs.ListCommit(request, timeout=DEADLINE).commit_info) == (1 if number == 1 else 2)
    for size in (1 << 16, (1 << 16) + 1, 2**32 - 1):
        asked = pfsd_pb2.ListFilesRequest(file=pfs_pb2.File(commit=at, path="/"), content_bytes=size)
        code = code_of(lambda: list(daemon.store.ListFiles(asked, timeout=DEADLINE)))  # noqa: B023 (called at once)
        assert code is (grpc.StatusCode.OK if size <= 1 << 16 else grpc.StatusCode.INVALID_ARGUMENT)
