"""Puts that are split into lines or JSON values, through the daemon: large values, broken ones."""

from __future__ import annotations

import grpc
import pytest

from pachproto import pfs_pb2
from tests.support.daemons import Daemon

MIB = 1 << 20


def put_split(daemon: Daemon, at: pfs_pb2.Commit, path: str, data: bytes, delimiter: int) -> None:
    file = pfs_pb2.File(commit=at, path=path)
    first = pfs_pb2.PutFileRequest(file=file, delimiter=delimiter)  # type: ignore[arg-type]
    rest = (pfs_pb2.PutFileRequest(value=data[start : start + MIB]) for start in range(0, len(data), MIB))
    daemon.pfs.PutFile(iter([first, *rest]))


def test_large_values_are_stored_whole(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    line = b"chromosome " * (2 * MIB)
    array = b"[" + b",".join(b'{"number": %d}' % number for number in range(500_000)) + b"]"
    put_split(daemon, at, "lines", b"short\n" + line + b"\n" + line, pfs_pb2.LINE)
    put_split(daemon, at, "values", array + b' {"next": 1}', pfs_pb2.JSON)
    put_split(daemon, at, "digits", b'{"modulus": ' + b"7" * 10_000 + b"}", pfs_pb2.JSON)
    daemon.finish_commit(at)
    assert daemon.get(at, "lines/0000000000000000") == b"short\n"
    assert daemon.get(at, "lines/0000000000000001") == line + b"\n"
    assert daemon.get(at, "lines/0000000000000002") == line
    assert daemon.get(at, "values/0000000000000000") == array
    assert daemon.get(at, "values/0000000000000001") == b'{"next": 1}'
    assert daemon.get(at, "digits/0000000000000000") == b'{"modulus": ' + b"7" * 10_000 + b"}"


@pytest.mark.parametrize(
    "text",
    [b'{"a": NaN}', b"[" * 100_000, b'{"a": "' + b"x" * (8 * MIB), b"[1] [2] ["],
    ids=lambda text: repr(text[:8]),
)
def test_broken_json_is_refused_and_leaves_nothing(daemon: Daemon, text: bytes) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    with pytest.raises(grpc.RpcError) as caught:
        put_split(daemon, at, "values", text, pfs_pb2.JSON)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "broken JSON" in (caught.value.details() or "")
    daemon.finish_commit(at)
    assert daemon.list(at) == []
