"""Putting files: from URLs, on a full disk, by many writers at once, broken off in the middle."""

from __future__ import annotations

import http.server
import os
import pathlib
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from pachproto import pfs_pb2
from tests.support.daemons import Daemon, commit, running

BODY = random.Random(1).randbytes(3_000_000)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/sick":
            self.send_error(503)
            return
        if self.path == "/to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/broken" else BODY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[str]:
    """A web server's address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def put_url(daemon: Daemon, at: pfs_pb2.Commit, path: str, url: str) -> None:
    daemon.pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=path), url=url)]))


def test_the_daemon_fetches_a_url(daemon: Daemon, website: str) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    put_url(daemon, at, "page", f"{website}/page")
    daemon.finish_commit(at)
    assert daemon.get(at, "page") == BODY


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("{site}/missing", grpc.StatusCode.NOT_FOUND, "/missing answers 404"),
        ("{site}/broken", grpc.StatusCode.FAILED_PRECONDITION, "/broken broke off"),
        ("http://127.0.0.1:9/x", grpc.StatusCode.FAILED_PRECONDITION, "http://127.0.0.1:9/x does not answer"),
        ("{site}/sick", grpc.StatusCode.FAILED_PRECONDITION, "/sick answers 503"),
        (
            "http://no-such-host.invalid/x",
            grpc.StatusCode.FAILED_PRECONDITION,
            "http://no-such-host.invalid/x does not",
        ),
        ("pfs://127.0.0.1:9/r/master/x", grpc.StatusCode.FAILED_PRECONDITION, "127.0.0.1:9 can't be reached"),
        ("pfs://127.0.0.1:9/r", grpc.StatusCode.INVALID_ARGUMENT, "write it as pfs://HOST:PORT/REPO/COMMIT/PATH"),
        ("pfs://host/r/master/x", grpc.StatusCode.INVALID_ARGUMENT, "write it as pfs://HOST:PORT/REPO/COMMIT/PATH"),
        ("gopher://example.org/x", grpc.StatusCode.INVALID_ARGUMENT, "only http, https and s3, gs, as, gcs, pfs are"),
        ("file:///etc/passwd", grpc.StatusCode.INVALID_ARGUMENT, "only http, https and s3, gs, as, gcs, pfs are"),
        ("/etc/passwd", grpc.StatusCode.INVALID_ARGUMENT, "only http, https and s3, gs, as, gcs, pfs are known"),
        ("{site}/to-file", grpc.StatusCode.FAILED_PRECONDITION, "/to-file answers 302"),
        ("http://", grpc.StatusCode.INVALID_ARGUMENT, "names no host"),
        ("http://[::1/x", grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
        ("s3://[x/y", grpc.StatusCode.INVALID_ARGUMENT, "is not the address of an object"),
    ],
)
def test_a_url_that_does_not_answer_is_an_error_and_leaves_nothing(
    daemon: Daemon, website: str, url: str, code: grpc.StatusCode, words: str
) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.put(at, "kept", b"x")
    with pytest.raises(grpc.RpcError) as caught:
        put_url(daemon, at, "page", url.format(site=website))
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
    daemon.finish_commit(at)
    assert daemon.list(at) == ["kept"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a/../../b",
        "..",
        "nul\0byte",
        "x" * 5000,
        "b/" * 2000,
        "f" * 4000 + "/" + "g/" * 40_000,
        "file/below",
        "dir",
    ],
)
def test_a_bad_path_is_refused_by_the_put_itself_and_the_commit_goes_on(daemon: Daemon, path: str) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.put(at, "file", b"x")
    daemon.put(at, "dir/inside", b"y")
    with pytest.raises(grpc.RpcError) as caught:
        daemon.put(at, path, b"z")
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    daemon.finish_commit(at)
    assert daemon.list(at) == ["dir", "file"]


def test_one_stream_may_carry_many_files(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    files = {f"d{number % 7}/f{number}": b"%d" % number * (number * 3) for number in range(500)}
    daemon.pfs.PutFile(
        pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=path), value=data) for path, data in files.items()
    )
    daemon.finish_commit(at)
    for path, data in files.items():
        assert daemon.get(at, path) == data


def test_a_put_that_its_client_breaks_off_leaves_nothing(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    sent = threading.Event()

    def requests() -> Iterator[pfs_pb2.PutFileRequest]:
        file = pfs_pb2.File(commit=at, path="half")
        yield pfs_pb2.PutFileRequest(file=file, value=b"x" * 1_000_000)
        sent.set()
        threading.Event().wait(30)

    call = daemon.pfs.PutFile.future(requests())
    assert sent.wait(10)
    call.cancel()
    daemon.put(at, "whole", b"y")
    daemon.finish_commit(at)
    assert daemon.list(at) == ["whole"]


def test_many_writers_of_one_commit_lose_nothing(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")

    def write(number: int) -> None:
        for step in range(10):
            daemon.put(at, f"own/{number}/{step}", b"%d" % number * 1000)
            daemon.put(at, "log", b"%02d\n" % number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    daemon.finish_commit(at)
    lines = daemon.get(at, "log").split()
    assert sorted(lines) == sorted(b"%02d" % number for number in range(16) for _ in range(10))
    assert len(daemon.list(at, "own")) == 16
    assert daemon.get(at, "own/15/9") == b"15" * 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_an_error_and_what_was_there_stays(tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)], check=True)
    try:
        with running(disk / "root", "--no-pipelines") as daemon:
            daemon.create_repo("r")
            kept = daemon.commit_files("r", {"kept": BODY})
            opened = daemon.start_commit("r")
            daemon.put(opened, "before", b"x")
            with pytest.raises(grpc.RpcError) as caught:
                daemon.put(opened, "huge", random.Random(2).randbytes(130 << 20))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "full" in (caught.value.details() or "")
            assert daemon.get(kept, "kept") == BODY
            daemon.finish_commit(opened)
            assert daemon.list(opened) == ["before", "kept"]
            assert daemon.stop() == 0
            daemon.start()
            assert daemon.get(commit("r", "master"), "kept") == BODY
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def put_stream(daemon: Daemon, at: pfs_pb2.Commit, *files: tuple[str, bytes, dict[str, object]]) -> None:
    """One PutFile stream with a message for each file."""
    daemon.pfs.PutFile(
        pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=path), value=data, **options)  # type: ignore[arg-type]
        for path, data, options in files
    )


SPLIT: dict[str, object] = {"delimiter": pfs_pb2.LINE}
OVER: dict[str, object] = {"overwrite": True}


def test_overwriting_what_was_split_replaces_it(daemon: Daemon) -> None:
    daemon.create_repo("r")
    first = daemon.start_commit("r")
    put_stream(daemon, first, ("d/l", b"a\nb\n", SPLIT), ("d/m", b"c\n", SPLIT))
    daemon.finish_commit(first)
    at = daemon.start_commit("r")
    daemon.put(at, "d/l", b"whole", overwrite=True)
    daemon.put(at, "d/m", BODY, overwrite=True)
    put_stream(daemon, at, ("d/n", b"e\nf\n", SPLIT))
    daemon.put(at, "d/n", b"whole too", overwrite=True)
    put_stream(daemon, at, ("d/o", b"e\nf\n", SPLIT), ("d/p", b"p", {}), ("d/o", b"in one stream", OVER))
    daemon.pachctl("put-file", "r", "master", "d/l2", "--split", "line", stdin=b"x\n")
    daemon.pachctl("put-file", "r", "master", "d/l2", "-o", stdin=b"from pachctl")
    daemon.finish_commit(at)
    assert daemon.list(at, "d") == ["d/l", "d/l2", "d/m", "d/n", "d/o", "d/p"]
    assert (daemon.get(at, "d/l"), daemon.get(at, "d/m"), daemon.get(at, "d/n")) == (b"whole", BODY, b"whole too")
    assert (daemon.get(at, "d/o"), daemon.get(at, "d/l2")) == (b"in one stream", b"from pachctl")
    assert daemon.get(first, "d/l/0000000000000001") == b"b\n"


def test_a_split_that_overwrites_replaces_a_file_and_without_that_is_refused(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"f": b"x"})
    at = daemon.start_commit("r")
    with pytest.raises(grpc.RpcError) as failure:
        put_stream(daemon, at, ("f", b"a\nb\n", SPLIT))
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    put_stream(daemon, at, ("f", b"a\nb\n", {**SPLIT, **OVER}))
    daemon.finish_commit(at)
    assert daemon.list(at, "f") == ["f/0000000000000000", "f/0000000000000001"]


@pytest.mark.parametrize("inside", ["name", "0000000000000000/deeper"])
def test_overwriting_another_directory_by_a_file_is_refused_and_it_stays(daemon: Daemon, inside: str) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.put(at, f"d/{inside}", b"x")
    put_stream(daemon, at, ("d", b"a\n", SPLIT))
    for data in (b"y", BODY):
        with pytest.raises(grpc.RpcError) as failure:
            daemon.put(at, "d", data, overwrite=True)
        assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "is a directory" in (failure.value.details() or "")
    daemon.finish_commit(at)
    assert daemon.get(at, f"d/{inside}") == b"x"


def test_a_split_beside_other_files_of_a_stream_loses_nothing_that_is_staged(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    daemon.put(at, "d/before", b"0")
    put_stream(daemon, at, ("d/file", b"1", {}), ("d/l", b"a\nb\n", SPLIT), ("d/later", b"2", {}))
    daemon.finish_commit(at)
    assert daemon.list(at, "d") == ["d/before", "d/file", "d/l", "d/later"]
    assert daemon.list(at, "d/l") == ["d/l/0000000000000000", "d/l/0000000000000001"]


def test_a_stream_without_a_message_does_nothing_and_succeeds(daemon: Daemon) -> None:
    assert daemon.pfs.PutFile(iter(())) is not None
    daemon.create_repo("r")
    assert list(daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"))).commit_info) == []


def test_a_put_into_a_finished_commit_is_told_of_c(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"f": b"x"})
    for arguments in (("r", "master", "f"), ("r", "none", "f")):
        result = daemon.pachctl("put-file", *arguments, stdin=b"y", check=False)
        assert result.returncode == 1
        assert "-c" in result.stderr.decode(), arguments
