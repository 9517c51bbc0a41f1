"""The call PutFiles: files and patches in messages of any cut, chunks that are referred to, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from blake3 import blake3

from pachproto import pfs_pb2, pfsd_pb2
from pfsd._core import next_cut
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, FileEntry
from tests.support.daemons import Daemon
from tests.support.putfiles import BODY, FilePut, request


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks that content is cut into."""
    chunks, start = [], 0
    while end := next_cut(data, start):
        chunks.append(data[start:end])
        start = end
    return [*chunks, data[start:]] if start < len(data) else chunks


def reference(chunk: bytes, size: int | None = None) -> pfsd_pb2.ChunkReference:
    return pfsd_pb2.ChunkReference(hash=blake3(chunk).digest(), size=len(chunk) if size is None else size)


def refused(daemon: Daemon, *requests: pfsd_pb2.PutFilesRequest) -> tuple[grpc.StatusCode, str, int]:
    """The status and words of a PutFiles that fails, and how many files it had put."""
    with pytest.raises(grpc.RpcError) as caught:
        daemon.store.PutFiles(iter(requests))
    error: Any = caught.value
    return error.code(), error.details(), int(dict(error.trailing_metadata())["pfsd-files"])


# --- PutFiles


def test_files_of_any_size_in_messages_of_any_cut(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    daemon.put(opened, "log", b"one ")
    daemon.put(opened, "old", b"old")
    answer = daemon.store.PutFiles(
        iter(
            [
                request(
                    opened, FilePut(path="empty"), FilePut(path="log", data=b"two "), FilePut(path="a/b", data=b"x")
                ),
                request(opened, FilePut(path="big", data=BODY[:10], more=True)),
                pfsd_pb2.PutFilesRequest(files=[FilePut(data=BODY[10:2_500_000], more=True)]),
                pfsd_pb2.PutFilesRequest(
                    files=[FilePut(data=BODY[2_500_000:]), FilePut(path="old", data=b"new", overwrite=True)]
                ),
                pfsd_pb2.PutFilesRequest(files=[FilePut(path="log", data=b"three")]),
            ]
        )
    )
    assert answer.files == 6
    daemon.finish_commit(opened)
    for path, data in {"empty": b"", "log": b"one two three", "a/b": b"x", "big": BODY, "old": b"new"}.items():
        assert daemon.get(opened, path) == data


def test_content_that_is_referred_to_gives_the_file_that_sending_it_gives(
    daemon: Daemon, opened: pfs_pb2.Commit
) -> None:
    daemon.put(opened, "sent", BODY)
    parts = chunks_of(BODY)
    present = daemon.store.HasChunks(pfsd_pb2.ChunkRequest(hashes=[blake3(part).digest() for part in parts]))
    assert list(present.present) == [True] * len(parts)
    assert not daemon.store.HasChunks(pfsd_pb2.ChunkRequest(hashes=[bytes(32)])).present[0]
    mixed = [
        FilePut(path="mixed", chunks=[reference(parts[0])], more=True),
        FilePut(data=parts[1], more=True),
        FilePut(chunks=[reference(part) for part in parts[2:]]),
    ]
    daemon.store.PutFiles(
        iter([request(opened, FilePut(path="referred", chunks=[reference(part) for part in parts]), *mixed)])
    )
    daemon.finish_commit(opened)
    hashes = {
        daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=opened, path=path))).hash
        for path in ("sent", "referred", "mixed")
    }
    assert len(hashes) == 1
    assert daemon.get(opened, "referred") == BODY


def test_a_chunk_that_is_not_there_is_named_and_what_came_before_stays(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    code, words, put = refused(
        daemon,
        request(opened, FilePut(path="before", data=b"x")),
        request(opened, FilePut(path="with", data=b"y"), FilePut(path="bad", chunks=[reference(b"never stored")])),
        request(opened, FilePut(path="after", data=b"z")),
    )
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert blake3(b"never stored").hexdigest() in words
    assert "/bad" in words
    assert put == 1
    daemon.finish_commit(opened)
    assert daemon.list(opened) == ["before"]


def test_what_a_client_says_of_chunks_is_not_believed(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    daemon.put(opened, "sent", BODY)
    daemon.put(opened, "short", BODY[:5000])
    first, second, *_ = chunks_of(BODY)
    for files in (
        [FilePut(path="f", chunks=[reference(first, len(first) - 1)])],
        [FilePut(path="f", data=b"in between", more=True), FilePut(chunks=[reference(first)])],
        [FilePut(path="f", chunks=[reference(BODY[:5000]), reference(first)])],
        [FilePut(path="f", chunks=[reference(BODY[:5000])], more=True), FilePut(data=second)],
        [FilePut(path="f", data=b"x", more=True), FilePut(path="g", data=b"y")],
        [FilePut(data=b"x")],
        [FilePut(path="..", data=b"x")],
    ):
        code, _, put = refused(daemon, request(opened, *files))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert put == 0
    daemon.finish_commit(opened)
    assert daemon.list(opened) == ["sent", "short"]


def test_a_stream_that_breaks_off_leaves_whole_files_only(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    whole = request(opened, FilePut(path="whole", data=b"x"))
    half = pfsd_pb2.PutFilesRequest(files=[FilePut(path="half", data=BODY, more=True)])
    code, words, put = refused(daemon, whole, half)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "/half goes on" in words
    assert put == 1
    broken = threading.Event()

    def requests() -> Iterator[pfsd_pb2.PutFilesRequest]:
        yield whole
        yield half
        broken.set()
        threading.Event().wait(30)

    call = daemon.store.PutFiles.future(requests())
    assert broken.wait(10)
    call.cancel()
    daemon.finish_commit(opened)
    assert daemon.list(opened) == ["whole"]


def test_a_path_in_the_way_refuses_its_message_alone(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    code, words, put = refused(
        daemon,
        request(opened, FilePut(path="a", data=b"1"), FilePut(path="b", data=b"2")),
        request(opened, FilePut(path="c", data=b"3"), FilePut(path="a/below", data=b"4")),
    )
    assert (code, put) == (grpc.StatusCode.FAILED_PRECONDITION, 2)
    assert "/a is a file" in words
    daemon.finish_commit(opened)
    assert daemon.list(opened) == ["a", "b"]
    code, words, _ = refused(daemon, request(opened, FilePut(path="late", data=b"x")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "is finished" in words


def test_streams_into_one_commit_side_by_side_lose_nothing(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    def write(number: int) -> None:
        daemon.store.PutFiles(
            request(opened, *(FilePut(path=f"d{place % 5}/{number}-{message}-{place}") for place in range(100)))
            for message in range(10)
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    daemon.finish_commit(opened)
    assert sum(len(daemon.list(opened, f"d{place}")) for place in range(5)) == 8000


# --- patches


def test_a_large_file_is_patched_by_sending_what_changes(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    told = daemon.store.PutFiles(
        iter([request(opened, FilePut(path="f", data=BODY, overwrite=True, more=True), FilePut(tell=True))])
    )
    first = FilePut(path="f", overwrite=True, base=told.entries[0], size=len(BODY) + 10, more=True)
    parts = [FilePut(offset=5, data=b"five", more=True), FilePut(offset=4_000_000, zeros=100, data=b"after", more=True)]
    answer = daemon.store.PutFiles(iter([request(opened, first, *parts, FilePut(tell=True))]))
    expected = bytearray(BODY + bytes(10))
    expected[5:9], expected[4_000_000:4_000_105] = b"five", bytes(100) + b"after"
    assert daemon.get(opened, "f") == expected
    again = [FilePut(path="g", data=bytes(expected), overwrite=True, more=True), FilePut(tell=True)]
    assert daemon.store.PutFiles(iter([request(opened, *again)])).entries == answer.entries


def test_a_patch_builds_on_anything_that_is_stored(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    tell = [FilePut(path="f", data=BODY, overwrite=True, more=True), FilePut(tell=True)]
    base = daemon.store.PutFiles(iter([request(opened, *tell)])).entries[0]
    daemon.put(opened, "f", b"something else", overwrite=True)
    patch = FilePut(path="elsewhere", overwrite=True, base=base, size=3_000_000, offset=1_000, data=b"patch")
    daemon.store.PutFiles(iter([request(opened, patch)]))
    assert daemon.get(opened, "elsewhere") == BODY[:1_000] + b"patch" + BODY[1_005:3_000_000]


def test_patches_that_can_not_be_are_refused(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    tell = [FilePut(path="f", data=BODY, overwrite=True, more=True), FilePut(tell=True)]
    base = daemon.store.PutFiles(iter([request(opened, *tell)])).entries[0]
    unknown = entries.encode(FileEntry(5, (Chunk(bytes(32), 5),), None, 1))
    invalid, failed = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    for expected, puts in (
        (failed, [FilePut(path="g", overwrite=True, base=unknown, size=5)]),
        (invalid, [FilePut(path="f", overwrite=True, base=b"\1nonsense", size=5)]),
        (invalid, [FilePut(path="f", overwrite=True, base=b"\2" + bytes(32) + b"\0\0\0", size=5)]),
        (invalid, [FilePut(path="f", base=base, size=5)]),
        (invalid, [FilePut(path="f", overwrite=True, base=base, size=5, offset=3, data=b"beyond")]),
        (invalid, [FilePut(path="f", overwrite=True, base=base, size=5, offset=1 << 63, data=b"x")]),
        (invalid, [FilePut(path="f", overwrite=True, base=base, size=(1 << 40) + 1)]),
        (invalid, [FilePut(path="f", overwrite=True, base=base, size=5, chunks=[reference(b"x")])]),
        (invalid, [FilePut(path="f", data=b"x", tell=True)]),
    ):
        assert refused(daemon, request(opened, *puts))[0] == expected, puts
    assert daemon.get(opened, "f") == BODY


def test_holes_cost_nothing_and_those_that_no_file_can_have_are_refused(daemon: Daemon, opened: pfs_pb2.Commit) -> None:
    hole = FilePut(path="hole", overwrite=True, zeros=1 << 40)
    daemon.store.PutFiles(iter([request(opened, hole)]))
    assert (
        daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=opened, path="hole"))).size_bytes
        == 1 << 40
    )
    for zeros in ((1 << 40) + 1, 1 << 50, (1 << 64) - 1):
        code, words, _ = refused(daemon, request(opened, FilePut(path="more", overwrite=True, zeros=zeros)))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "1 TiB" in words
    daemon.finish_commit(opened)
