"""Bulk writes and streaming lists: PutFiles, HasChunks, ListFiles, uploads of very many files."""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from blake3 import blake3
from google.protobuf.empty_pb2 import Empty

from pachctl.files.bulk import BulkUploader
from pachctl.files.sources import LocalFile
from pachctl.terminal.parallel import Calls
from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd._core import MAX_CHUNK, next_cut
from pfsd.chunks import content
from pfsd.chunks.split import Delimiter
from pfsd.errors import NotADirectoryPfsError
from pfsd.filesystem import uploadsteps
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.trees import dirs, entries
from pfsd.trees.entries import Chunk, FileEntry
from tests.support.daemons import Daemon, commit


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks that content is cut into."""
    chunks, start = [], 0
    while end := next_cut(data, start):
        chunks.append(data[start:end])
        start = end
    return [*chunks, data[start:]] if start < len(data) else chunks


def reference(chunk: bytes, size: int | None = None) -> pfsd_pb2.ChunkReference:
    return pfsd_pb2.ChunkReference(hash=blake3(chunk).digest(), size=len(chunk) if size is None else size)


def request(at: pfs_pb2.Commit, *files: pfsd_pb2.FilePut) -> pfsd_pb2.PutFilesRequest:
    return pfsd_pb2.PutFilesRequest(commit=at, files=files)


def refused(daemon: Daemon, *requests: pfsd_pb2.PutFilesRequest) -> tuple[grpc.StatusCode, str, int]:
    """The status and words of a PutFiles that fails, and how many files it had put."""
    with pytest.raises(grpc.RpcError) as caught:
        daemon.store.PutFiles(iter(requests))
    error: Any = caught.value
    return error.code(), error.details(), int(dict(error.trailing_metadata())["pfsd-files"])


@pytest.fixture
def opened(daemon: Daemon) -> pfs_pb2.Commit:
    """An open commit on master in the repo r."""
    daemon.create_repo("r")
    return daemon.start_commit("r")


FilePut = pfsd_pb2.FilePut
BODY = random.Random(11).randbytes(6_000_000)

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


# --- lists


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


# --- uploads of very many files


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    opened = Store(tmp_path / "root")
    opened.repos.create("r")
    yield opened
    opened.close()


def contents(store: Store, at: Commit) -> dict[str, bytes]:
    return {
        "/".join(path): b"".join(content.read(store.root.nodes, store.root.chunks, entry))
        for path, entry in dirs.walk(store.root.nodes, store.commits.tree(at))
        if isinstance(entry, FileEntry)
    }


def upload_many(store: Store, at: Commit, *last: str) -> dict[str, bytes]:
    """Put more than memory holds in one upload; what the commit then has."""
    upload = store.files.upload(at)
    expected: dict[str, bytes] = {"log": b"before "}
    try:
        for number in range(uploadsteps.STEPS_HELD + 1000):
            for path, data, overwrite in (
                (f"d{number % 3}/{number}", b"%d" % number, False),
                *((("log", b"%d " % number, number == 500),) if number % 100 == 0 else ()),
            ):
                upload.begin(path, overwrite=overwrite)
                upload.write(data)
                expected[path] = data if overwrite else expected.get(path, b"") + data
        for path in last:
            upload.begin(path)
        upload.finish()
    finally:
        upload.close()
    return expected


def test_more_files_than_memory_holds_are_put_as_one(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    before = store.files.upload(at)
    before.begin("log")
    before.write(b"before ")
    before.finish()
    with pytest.raises(NotADirectoryPfsError, match="/log is a file"):
        upload_many(store, at, "log/below")
    assert contents(store, at) == {"log": b"before "}
    expected = upload_many(store, at)
    assert contents(store, at) == expected
    finished = store.commits.finish("r", at.id)
    assert contents(store, finished) == expected
    assert not list(store.root.db.scan("staging", b""))


def test_a_split_into_more_files_than_memory_holds_goes_on_after_the_last_one(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    lines = [b"%d\n" % number for number in range(uploadsteps.STEPS_HELD + 100)]
    for _ in range(2):
        upload = store.files.upload(at)
        for part in (lines[:50], lines[50:]):
            upload.begin("s", delimiter=Delimiter.LINE)
            upload.write(b"".join(part))
        upload.finish()
        upload.close()
    found = contents(store, at)
    assert found == {f"s/{number:016x}": line for number, line in enumerate(lines * 2)}


def test_a_file_that_comes_bit_by_bit_is_the_file_it_would_be_at_once(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    data = random.Random(9).randbytes(30_000_000)
    for path, step in (("one", len(data)), ("many", 1 << 20)):
        upload = store.files.upload(at)
        upload.begin(path)
        for start in range(0, len(data), step):
            upload.write(data[start : start + step])
        upload.finish()
    finished = store.commits.finish("r", at.id)
    assert store.files.inspect(finished, "one") == store.files.inspect(finished, "many")


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
