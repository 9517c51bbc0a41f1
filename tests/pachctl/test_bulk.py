"""pachctl puts and gets many files: only what the store lacks is sent, memory is bounded, and any daemon will do."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from pachctl.files.bulk import BulkUploader
from pachctl.files.sources import LocalFile
from pachctl.terminal.parallel import Calls
from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd._core import MAX_CHUNK
from tests.support.daemons import Daemon, commit
from tests.support.putfiles import BODY

# --- the client


class Counting:
    """A daemon's Store service that counts what is sent to PutFiles, and lets something happen before it."""

    def __init__(self, daemon: Daemon, before: Any = None) -> None:
        self._store = daemon.store
        self._before = before
        self.HasChunks = daemon.store.HasChunks
        self.PutFiles = self
        self.sent = 0
        self.calls = 0

    def future(self, requests: Iterator[pfsd_pb2.PutFilesRequest]) -> Any:
        self.calls += 1
        return self._store.PutFiles.future(self._counted(requests))

    def _counted(self, requests: Iterator[pfsd_pb2.PutFilesRequest]) -> Iterator[pfsd_pb2.PutFilesRequest]:
        for message in requests:
            if self._before is not None and any(file.chunks for file in message.files):
                self._before, before = None, self._before
                before()
            self.sent += message.ByteSize()
            yield message


def local_files(directory: pathlib.Path, contents: dict[str, bytes]) -> list[LocalFile]:
    files = []
    for name, data in contents.items():
        (directory / name).write_bytes(data)
        files.append(LocalFile(str(directory / name), name))
    return files


CONTENTS = {
    "big": BODY * 2,
    "again": BODY * 2,
    "mid": BODY[:20_000],
    "small": b"s",
    "empty": b"",
    "zeros": bytes(9 << 20),
}


def test_a_file_that_is_cut_while_it_is_read_is_not_put(
    daemon: Daemon, opened: pfs_pb2.Commit, tmp_path: pathlib.Path
) -> None:
    (file,) = local_files(tmp_path, {"cut": BODY * 8})

    class Cut(LocalFile):
        def blocks(self) -> Iterator[bytes]:
            for number, block in enumerate(super().blocks()):
                yield block
                if number == 1:
                    os.truncate(self.path, len(BODY))

    with pytest.raises(OSError, match=r"it became shorter while it was read: '.*/cut'"):
        BulkUploader(Counting(daemon), opened, False, 1, Calls()).put([Cut(file.path, file.target)])
    assert daemon.list(opened) == []


def test_content_that_the_store_has_is_not_sent(daemon: Daemon, opened: pfs_pb2.Commit, tmp_path: pathlib.Path) -> None:
    files = local_files(tmp_path, CONTENTS)
    first = Counting(daemon)
    BulkUploader(first, opened, False, 1, Calls()).put(files)
    assert first.calls == 1
    assert first.sent < len(BODY) * 2 + MAX_CHUNK * 2 + 100_000
    daemon.finish_commit(opened)
    opened = daemon.start_commit("r")
    second = Counting(daemon)
    BulkUploader(second, opened, True, 3, Calls()).put(files)
    assert second.sent < 10_000
    daemon.finish_commit(opened)
    for name, data in CONTENTS.items():
        assert daemon.get(opened, name) == data
    (commits,) = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"), number=1)).commit_info
    assert commits.size_bytes == sum(map(len, CONTENTS.values()))


def test_chunks_that_a_collection_took_meanwhile_are_sent(
    daemon: Daemon, opened: pfs_pb2.Commit, tmp_path: pathlib.Path
) -> None:
    files = local_files(tmp_path, CONTENTS)
    daemon.create_repo("going")
    daemon.commit_files("going", CONTENTS)

    admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])

    def collect() -> None:
        daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="going")))
        assert admin.CollectGarbage(Empty()).chunks_removed

    store = Counting(daemon, collect)
    BulkUploader(store, opened, False, 1, Calls()).put(files)
    assert store.calls == 2
    daemon.finish_commit(opened)
    for name, data in CONTENTS.items():
        assert daemon.get(opened, name) == data


# --- pachctl


def high_water(pid: int) -> int:
    """Most memory that a process had, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) << 10


def make_files(directory: pathlib.Path, count: int) -> dict[str, bytes]:
    contents = {f"d{number % 7}/ü{number}": b"%d" % number * (number % 50) for number in range(count)}
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return contents


def test_a_directory_of_many_files_goes_in_and_comes_out(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    contents = make_files(tmp_path / "in", 5000)
    (tmp_path / "in" / "large").write_bytes(BODY)
    (tmp_path / "in" / "nothing").mkdir()
    daemon.create_repo("r")
    daemon.pachctl("put-file", "r", "master", "/", "-c", "-r", "-f", str(tmp_path / "in"))
    daemon.pachctl("get-file", "r", "master", "/", "-r", "-o", str(tmp_path / "out"))
    assert {name: (tmp_path / "out" / name).read_bytes() for name in contents} == contents
    assert (tmp_path / "out" / "large").read_bytes() == BODY
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*(f"d{n}" for n in range(7)), "large"]


def test_memory_is_bounded_on_both_sides(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    block = random.Random(3).randbytes(1 << 20)
    for name in ("x", "y"):
        with (tmp_path / name).open("wb") as file:
            for number in range(200):
                file.write(number.to_bytes(4, "big") + name.encode() + block[:: -1 if number % 2 else 1])
    daemon.create_repo("r")
    daemon.pachctl("put-file", "r", "master", "-c", "-f", str(tmp_path / "x"), "-f", str(tmp_path / "y"))
    assert daemon.process is not None
    before = high_water(daemon.process.pid)
    assert before < 300 << 20
    call = daemon.pfs.GetFile(pfs_pb2.GetFileRequest(file=pfs_pb2.File(commit=commit("r", "master"), path="x")))
    next(call)  # and no more: what is not read is not sent, and so not held
    others = [
        daemon.pfs.GetFile(pfs_pb2.GetFileRequest(file=pfs_pb2.File(commit=commit("r", "master"), path="y")))
        for _ in range(5)
    ]
    for other in others:
        assert sum(len(part.value) for part in other) == (tmp_path / "y").stat().st_size
    assert high_water(daemon.process.pid) < before + (100 << 20)
    call.cancel()


# --- a daemon of Pachyderm 1.5


class _Forwarding(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Hands the calls of the 1.5 API on, and knows no others."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def service(self, details: Any) -> Any:
        if details.method.startswith("/pfsd."):
            return None
        forward = self._channel.stream_stream(details.method)  # type: ignore[call-arg]

        def run(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            call = forward(requests)
            try:
                yield from call
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")

        return grpc.stream_stream_rpc_method_handler(run)


@contextlib.contextmanager
def without_extensions(daemon: Daemon) -> Iterator[None]:
    """Within it, the daemon is reached at an address that offers the API of 1.5 alone."""
    server = grpc.server(ThreadPoolExecutor(20), options=rpc.CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers((_Forwarding(daemon.channel),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address, daemon.address = daemon.address, f"127.0.0.1:{port}"
    try:
        yield
    finally:
        daemon.address = address
        server.stop(None).wait()


def test_pachctl_works_with_a_daemon_that_offers_the_api_of_1_5_alone(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    contents = make_files(tmp_path / "in", 50)
    (tmp_path / "in" / "large").write_bytes(BODY)
    daemon.create_repo("r")
    with without_extensions(daemon):
        daemon.pachctl("put-file", "r", "master", "/", "-c", "-r", "-f", str(tmp_path / "in"))
        daemon.pachctl("get-file", "r", "master", "/", "-r", "-o", str(tmp_path / "out"))
        assert {name: (tmp_path / "out" / name).read_bytes() for name in contents} == contents
        assert (tmp_path / "out" / "large").read_bytes() == BODY
        assert daemon.pachctl("list-file", "r", "master", "d1").stdout.count(b"\n") == 8
        assert daemon.pachctl("glob-file", "r", "master", "d*").stdout.count(b"\n") == 8
        assert daemon.pachctl("diff-file", "r", "master", "/").stdout.count(b"\n") == 53
        daemon.pachctl("put-file", "r", "copy", "to", "-c", "-r", "-f", f"pfs://{daemon.address}/r/master/d1")
    assert len(daemon.list(commit("r", "copy"), "to")) == 7
