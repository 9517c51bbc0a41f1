"""URLs that the daemon fetches: signing in, what nobody gets to see of them, bounds, and other daemons' files."""

from __future__ import annotations

import http.server
import pathlib
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.errors import PfsError, SourceError
from pfsd.fetching import web
from pfsd.names.pfsurls import FORM
from pfsd.redact import redacted, redacted_url
from tests.support.daemons import Daemon, commit, running

SIGNED_IN = "Basic bcO8OnAvQHM="
"""Of the user `mü` with the password `p/@s`."""
LARGE = random.Random(4).randbytes(9_000_000)


class _Site(http.server.BaseHTTPRequestHandler):
    """Tells who signed in. `/to/URL` redirects there."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        said = (self.headers.get("Authorization") or "nobody").encode()
        is_wanted = not self.path.startswith("/secret") or said == SIGNED_IN.encode()
        self.send_response(200 if is_wanted else 401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """A web server; its HOST:PORT."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def fetched(url: str) -> bytes:
    return b"".join(web.blocks(url, threading.Event()))


def put_url(
    daemon: Daemon, url: str, *, recursive: bool = False, path: str = "f", repo: str = "r", overwrite: bool = False
) -> pfs_pb2.Commit:
    at = daemon.start_commit(repo)
    file = pfs_pb2.File(commit=at, path=path)
    request = pfs_pb2.PutFileRequest(file=file, url=url, recursive=recursive, overwrite=overwrite)
    try:
        daemon.pfs.PutFile(iter([request]), timeout=60)
    except BaseException:
        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=at))
        raise
    daemon.finish_commit(at)
    return at


# --- signing in


def test_user_and_password_of_a_url_sign_in() -> None:
    with site() as host:
        assert fetched(f"http://m%C3%BC:p%2F%40s@{host}/secret") == SIGNED_IN.encode()
        assert fetched(f"http://{host}/") == b"nobody"
        assert fetched(f"http://user@{host}/") == b"Basic dXNlcjo="


def test_they_follow_a_redirection_on_their_server_and_to_no_other() -> None:
    with site() as host, site() as other:
        user = f"http://m%C3%BC:p%2F%40s@{host}"
        assert fetched(f"{user}/to/http://{host}/secret") == SIGNED_IN.encode()
        assert fetched(f"{user}/to//secret") == SIGNED_IN.encode()
        assert fetched(f"{user}/to/http://{other}/") == b"nobody"
        assert fetched(f"{user}/to/http://user@{other}/") == b"Basic dXNlcjo="


def test_no_message_and_no_log_shows_a_password_or_a_query(daemon: Daemon) -> None:
    daemon.create_repo("r")
    with site() as host:
        urls = [
            f"http://me:s3cret@{host}/secret?sig=s3cret",
            f"http://me:s3cret@{host}/to/http://me:s3cret@127.0.0.1:9/?sig=s3cret",
            "http://me:s3cret@127.0.0.1:9/x",
            "http://me:s3cret@no-such-host.invalid/?sig=s3cret",
            "http://me:s3c/s3cret@127.0.0.1/x",
            "http://me:s3cret@[::1/x",
            "http://me:s3cret@127.0.0.1:port/x",
            "http://me:s3cret\u2100@host/x",
            "s3://me:s3cret@bucket/key?sig=s3cret",
            "as://container/key?sig=s3cret",
            "gopher://me:s3cret@host/",
            "pfs://me:s3cret@127.0.0.1:9/r/master/f",
            "pfs://127.0.0.1:9/r/master/f?sig=s3cret",
        ]
        said = []
        for url in urls:
            with pytest.raises(grpc.RpcError) as failure:
                put_url(daemon, url, path="x")
            assert failure.value.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT), url
            said.append(failure.value.details() or "")
            said.append(daemon.pachctl("-v", "put-file", "r", "b", "-c", "-f", url, check=False).stderr.decode())
        for url in urls[:2]:
            said.append(daemon.pachctl("-v", "put-file", "r", "b", "-c", "-i", url, check=False).stderr.decode())
            said.append(daemon.pachctl("-v", "create-pipeline", "-f", url, check=False).stderr.decode())
    assert all(said)
    assert [text for text in [*said, daemon.log()] if "s3cret" in text] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("can't fetch http://me:pw@host/f?x=1 now", "can't fetch http://***@host/f?*** now"),
        ("http://me:p@w@host:80/f", "http://***@host:80/f"),
        ("http://me:p/w?x@host/f", "http://***@host/f"),
        ("http://host/to/http://me:pw@host/", "http://host/to/http://***@host/"),
        ("http://host/name@there", "http://host/name@there"),
        ("'s3://bucket/key?sig=1'", "'s3://bucket/key?***'"),
        (
            "Max retries exceeded with url: /key?X-Amz-Signature=1 (Caused by x)",
            "Max retries exceeded with url: /key?***",
        ),
        ("pfs:///repo/master/file", "pfs:///repo/master/file"),
        (f"write it as {FORM}", f"write it as {FORM}"),
        ("what? why: a@b", "what? why: a@b"),
    ],
)
def test_what_is_secret_in_a_url_is_hidden(text: str, shown: str) -> None:
    assert redacted(text).startswith(shown)
    assert str(PfsError(text)) == redacted(text)


def test_a_password_with_white_space_and_quotes_is_hidden_where_the_whole_url_is_known() -> None:
    assert redacted_url("http://me:a b'c\"d@host/f") == "http://***@host/f"


# --- bounds


def test_a_fetch_ends_soon_after_nobody_wants_it_and_a_slow_server_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: list(web.blocks(url, stop)))
            accepted, _ = server.accept()
            with accepted:
                stop.set()
                with pytest.raises(SourceError, match="nobody waits"):
                    waiting.result(20)
        monkeypatch.setattr(web, "HEAD_SECONDS", 0.3)
        with pytest.raises(SourceError, match="it takes too long"):
            fetched(url)


def test_an_answer_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_SECONDS", 0.3)
    ended = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not ended.wait(0.01):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            with pytest.raises(SourceError, match="sends too slowly"):
                fetched(f"http://127.0.0.1:{server.getsockname()[1]}/")
        finally:
            ended.set()
            thread.join()


# --- pfs://


def test_a_daemon_fetches_from_another_one(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "other", "--no-pipelines") as other:
        other.create_repo("from")
        files = {"dir/a b": b"A", "dir/deep/c?d": LARGE, "dir/deep/empty": b"", "beside": b"B"}
        first = other.commit_files("from", files)
        other.commit_files("from", {"dir/later": b"L"})
        daemon.create_repo("r")
        at = put_url(daemon, f"pfs://{other.address}/from/master~1/dir/deep/c%3Fd", path="one")
        assert daemon.get(at, "one") == LARGE
        at = put_url(daemon, f"pfs://{other.address}/from/{first.id}/dir/", path="all", recursive=True)
        assert daemon.get(at, "all/a b") == b"A"
        assert daemon.get(at, "all/deep/c?d") == LARGE
        assert daemon.get(at, "all/deep/empty") == b""
        assert daemon.list(at, "all") == ["all/a b", "all/deep"]
        at = put_url(daemon, f"pfs://{other.address}/from/master", path="whole", recursive=True)
        assert daemon.list(at, "whole") == ["whole/beside", "whole/dir"]
        for url, recursive, code in (
            (f"pfs://{other.address}/from/master/none", False, grpc.StatusCode.NOT_FOUND),
            (f"pfs://{other.address}/none/master/x", True, grpc.StatusCode.NOT_FOUND),
            (f"pfs://{other.address}/from/master/dir", False, grpc.StatusCode.FAILED_PRECONDITION),
            (f"pfs://{other.address}/from/master/beside", True, grpc.StatusCode.FAILED_PRECONDITION),
        ):
            with pytest.raises(grpc.RpcError) as failure:
                put_url(daemon, url, recursive=recursive)
            assert failure.value.code() is code, (url, failure.value.details())


def test_a_daemon_fetches_from_itself_a_hundred_times_at_once(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"large": LARGE[:2_000_000], "d/small": b"s"})
    at = daemon.start_commit("r")

    def put(number: int) -> None:
        host = "" if number % 2 else daemon.address
        file = pfs_pb2.File(commit=at, path=f"copies/{number}")
        url = f"pfs://{host}/r/master~1/large"
        daemon.pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=file, url=url)]), timeout=120)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(put, range(100)))
    everything = pfs_pb2.PutFileRequest(
        file=pfs_pb2.File(commit=at, path="again"), url="pfs:///r/master~1/", recursive=True
    )
    daemon.pfs.PutFile(iter([everything]), timeout=60)
    daemon.finish_commit(at)
    assert len(daemon.list(at, "copies")) == 100
    assert daemon.get(at, "copies/77") == LARGE[:2_000_000]
    assert daemon.list(at, "again") == ["again/d", "again/large"]


def test_lines_that_come_from_another_daemon_can_be_split(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"lines": b"a\nb\n"})
    at = daemon.start_commit("r")
    file = pfs_pb2.File(commit=at, path="split")
    request = pfs_pb2.PutFileRequest(file=file, url="pfs:///r/master~1/lines", delimiter=pfs_pb2.LINE)
    daemon.pfs.PutFile(iter([request]), timeout=60)
    daemon.finish_commit(at)
    assert daemon.get(at, "split/0000000000000001") == b"b\n"


def test_a_wrong_pfs_url_is_answered_with_the_form(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"f": b"x"})
    for url in ("pfs://", "pfs://r/master/f", "pfs://host/r/master/f", "pfs:///r", "pfs://:1/r/master/f"):
        result = daemon.pachctl("put-file", "r", "new", "to", "-c", "-f", url, check=False)
        assert result.returncode == 1
        assert FORM in result.stderr.decode(), url
    assert commit("r", "new").id not in daemon.pachctl("list-branch", "r").stdout.decode()
