"""`pachctl put-file` against a real daemon: where things go, what fails, and what an end in the middle leaves."""

from __future__ import annotations

import contextlib
import http.server
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from tests.support.daemons import Daemon, running
from tests.support.pachctl import CHUNK, commit_count, error, found, out, served


def test_where_put_file_puts_things(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    for branch, args, expected in (
        ("path", ["there", "-f", "clidir/a.txt"], {"/there"}),
        ("below", ["there", "-r", "-f", "clidir"], {"/there/a.txt", "/there/sub/b.txt"}),
        ("typed", ["-f", "clidir/a.txt"], {"/clidir/a.txt"}),
        ("absolute", ["-f", str(clidir / "a.txt")], {"/a.txt"}),
        ("absolute-directory", ["-r", "-f", str(clidir)], {"/clidir/a.txt", "/clidir/sub/b.txt"}),
        ("here", ["-r", "-f", "clidir/."], {"/clidir/a.txt", "/clidir/sub/b.txt"}),
        ("several", ["t", "-f", "clidir/a.txt", "-f", "clidir/sub/b.txt"], {"/t/clidir/a.txt", "/t/clidir/sub/b.txt"}),
        ("documented", ["-r", "clidir"], {"/clidir/a.txt", "/clidir/sub/b.txt"}),
    ):
        out(daemon, "put-file", "r", branch, "-c", *args)
        assert set(found(daemon, "r", branch)) == expected, branch


def test_a_path_may_end_in_a_slash_where_it_names_a_directory(daemon: Daemon, clidir: pathlib.Path) -> None:
    out(daemon, "create-repo", "r")
    out(daemon, "put-file", "-c", "r", "master", "d/", "-f", "clidir/a.txt")
    out(daemon, "put-file", "-c", "r", "master", "/", "-f", "clidir/a.txt")
    out(daemon, "put-file", "-c", "-r", "r", "master", "e/f/", "-f", "clidir/")
    assert {"/d/clidir/a.txt", "/clidir/a.txt", "/e/f/a.txt"} <= found(daemon, "r").keys()
    assert "d/clidir" in out(daemon, "list-file", "r", "master", "d/")
    assert "/d/clidir" in out(daemon, "glob-file", "r", "master", "/d/*/")
    assert "Type: dir" in out(daemon, "inspect-file", "r", "master", "/d/clidir/")
    out(daemon, "get-file", "-r", "r", "master", "d/clidir/", "-o", "got")
    assert pathlib.Path("got/a.txt").read_bytes() == pathlib.Path("clidir/a.txt").read_bytes()
    out(daemon, "start-commit", "r", "master")
    out(daemon, "delete-file", "r", "master", "e/f/")
    out(daemon, "finish-commit", "r", "master")
    assert found(daemon, "r").keys() == {"/d/clidir/a.txt", "/clidir/a.txt"}
    assert "the path of a file" in error(daemon, "put-file", "-c", "r", "master", "d/", stdin=b"x")


def test_put_from_urls(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    with served(clidir) as url:
        out(daemon, "put-file", "r", "master", "-c", "-f", f"{url}/sub/b.txt")
        out(daemon, "put-file", "r", "master", "one", "-c", "-f", f"{url}/a.txt")
        assert found(daemon, "r") == {"/sub/b.txt": 2, "/one": 2}
        assert "404" in error(daemon, "put-file", "r", "master", "x", "-c", "-f", f"{url}/nope")
    # The daemon answers here that something else does not: that is no unreachable daemon.
    assert url in error(daemon, "put-file", "r", "master", "x", "-c", "-f", f"{url}/a.txt")
    assert url in error(daemon, "put-file", "r", "master", "x", "-c", "-i", f"{url}/list")
    assert commit_count(daemon, "r") == 2


def test_put_from_the_same_and_from_another_daemon(
    daemon: Daemon, clidir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    daemon.create_repo("r")
    with running(tmp_path / "other", "--no-pipelines") as other:
        other.create_repo("source")
        data = os.urandom(3 * CHUNK)
        other.commit_files("source", {"d/a": b"a", "d/e/b": data})
        base = f"pfs://{other.address}/source/master"
        out(daemon, "put-file", "r", "master", "-c", "-f", f"{base}/d/a")
        out(daemon, "put-file", "r", "master", "t", "-c", "-r", "-f", f"{base}/d")
        out(daemon, "put-file", "r", "master", "again", "-c", "-f", "pfs:///r/master/t/e/b")
        assert found(daemon, "r") == {"/d/a": 1, "/t/a": 1, "/t/e/b": len(data), "/again": len(data)}
        assert daemon.pachctl("get-file", "r", "master", "again").stdout == data
        assert "not found" in error(daemon, "put-file", "r", "master", "x", "-c", "-f", f"{base}/nope")
        address = other.address
    unreachable = error(daemon, "put-file", "r", "master", "x", "-c", "-f", f"pfs://{address}/source/master/d/a")
    assert unreachable.startswith(f"can't reach pfsd at {address}")
    assert commit_count(daemon, "r") == 3


def test_awkward_names_and_sizes_come_back_as_they_were(daemon: Daemon, clidir: pathlib.Path) -> None:
    contents = {
        "empty": b"",
        "sp ace/new\nline": b"x",
        "ünïcode/\N{SNOWMAN}": b"y",
        "chunk": os.urandom(CHUNK),
        "more": os.urandom(5 * CHUNK + 1),
    }
    for name, data in contents.items():
        path = clidir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir", "-p", "3")
    out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got", "-p", "3")
    for name, data in contents.items():
        assert (pathlib.Path("got") / name).read_bytes() == data
        assert daemon.pachctl("get-file", "r", "master", name).stdout == data
    out(daemon, "put-file", "r", "piped", "x", "-c", stdin=contents["more"])
    out(daemon, "get-file", "r", "piped", "x", "-o", "one")
    assert pathlib.Path("one").read_bytes() == contents["more"]
    assert not list(pathlib.Path().rglob(".pachctl-*"))


def test_the_same_path_given_twice_is_appended_in_order(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    first, second = os.urandom(4 * CHUNK), b"second"
    pathlib.Path("1").mkdir()
    pathlib.Path("2").mkdir()
    pathlib.Path("1/x").write_bytes(first)
    pathlib.Path("2/x").write_bytes(second)
    here = os.getcwd()
    out(daemon, "put-file", "r", "master", "-c", "-f", f"{here}/1/x", "-f", f"{here}/2/x")
    assert daemon.pachctl("get-file", "r", "master", "x").stdout == first + second


def test_what_fails_leaves_no_commit(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    (clidir / "sub" / "gone").symlink_to("nowhere")
    assert error(daemon, "put-file", "r", "master", "-c", "-r", "--no-attributes", "-f", "clidir") == (
        "open clidir/sub/gone: no such file or directory\n"
    )
    assert "JSON" in error(daemon, "put-file", "r", "master", "x", "-c", "--split", "json", stdin=b"{")
    error(daemon, "put-file", "r", "master", "../x", "-c", "-f", "clidir/a.txt")
    assert commit_count(daemon, "r") == 0
    assert out(daemon, "list-branch", "r") == "BRANCH              HEAD\n"


@pytest.mark.parametrize(
    ("kind", "named", "option"), [("socket", "a socket", "-c"), ("pipe", "a named pipe", "--no-attributes")]
)
def test_what_is_no_file_in_a_directory_is_left_out_and_told(
    daemon: Daemon, clidir: pathlib.Path, kind: str, named: str, option: str
) -> None:
    daemon.create_repo("r")
    os.mknod(clidir / "other", stat.S_IFSOCK if kind == "socket" else stat.S_IFIFO)
    assert error(daemon, "put-file", "r", "master", "-c", option, "-r", "-f", "clidir") == (
        f"clidir/other is left out: it is {named}\n"
    )
    assert set(found(daemon, "r")) == {"/clidir/a.txt", "/clidir/sub/b.txt"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_put_leaves_no_commit(daemon: Daemon, number: signal.Signals) -> None:
    daemon.create_repo("r")
    with subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "-v", "put-file", "r", "master", "x", "-c"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ADDRESS": daemon.address},
    ) as process:
        assert process.stdin is not None
        # More than a pipe holds: once it is written, the commit has begun.
        process.stdin.write(bytes(4 * CHUNK))
        process.stdin.flush()
        process.send_signal(number)
        assert process.wait(30) == 1
        assert process.stderr is not None
        text = process.stderr.read()
    assert text.endswith(b"interrupted\n")
    assert b"Traceback" not in text
    assert commit_count(daemon, "r") == 0


def test_a_put_whose_daemon_dies_fails_and_its_commit_goes_at_the_next_start(daemon: Daemon) -> None:
    daemon.create_repo("r")
    with subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "put-file", "r", "master", "x", "-c"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ADDRESS": daemon.address},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(4 * CHUNK))
        process.stdin.flush()
        daemon.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr is not None
        lines = process.stderr.read().decode().splitlines()
    assert lines[-1].startswith(f"can't reach pfsd at {daemon.address}")
    daemon.start()
    assert commit_count(daemon, "r") == 0


@pytest.mark.parametrize("line", ["clidir/a.txt", "/etc/hostname", "-", "file:///etc/hostname"])
def test_a_list_from_a_url_names_no_local_files(daemon: Daemon, clidir: pathlib.Path, line: str) -> None:
    daemon.create_repo("r")
    with served(clidir) as url:
        (clidir / "list").write_text(f"{url}/a.txt\n{line}\n")
        text = error(daemon, "put-file", "r", "master", "-c", "-i", f"{url}/list")
    assert "may only name URLs" in text or "only http, https and s3, gs, as, gcs, pfs are known" in text
    assert commit_count(daemon, "r") == 0


def test_a_redirection_leads_to_web_servers_only(daemon: Daemon) -> None:
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1:9/secret")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    daemon.create_repo("r")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = error(daemon, "put-file", "r", "master", "-c", "-f", f"http://127.0.0.1:{server.server_port}/x")
        finally:
            server.shutdown()
            thread.join()
    assert "unknown url type: ftp" in text


def interrupted_put(daemon: Daemon, directory: pathlib.Path, stop: Callable[[subprocess.Popen[bytes]], None]) -> str:
    """What pachctl says when it puts a directory, in which a file never ends, and `stop` was called meanwhile."""
    for number in range(3000):
        (directory / f"small-{number}").write_bytes(b"%d" % number)
    process = subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "put-file", "r", "master", "-c", "-r", "-f", str(directory)],
        stderr=subprocess.PIPE,
        env={**os.environ, "ADDRESS": daemon.address},
    )
    with process:
        assert process.stderr is not None
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            while commit_count(daemon, "r") == 0:
                assert process.poll() is None
            stop(process)
            assert process.wait(60) == 1
            stack.pop_all()
        return process.stderr.read().decode()


def test_an_interrupted_put_of_a_directory_leaves_no_commit(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    with (clidir / "endless").open("wb") as file:
        file.truncate(1 << 40)
    text = interrupted_put(daemon, clidir, lambda process: process.send_signal(signal.SIGINT))
    assert text == "interrupted\n"
    assert commit_count(daemon, "r") == 0


def test_a_put_of_a_directory_whose_daemon_dies_fails_and_its_commit_goes(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    with (clidir / "endless").open("wb") as file:
        file.truncate(1 << 40)
    text = interrupted_put(daemon, clidir, lambda process: daemon.kill())
    assert text.startswith(f"can't reach pfsd at {daemon.address}")
    daemon.start()
    assert commit_count(daemon, "r") == 0


def test_a_file_that_goes_bad_is_named(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"clidir": b"a file"})
    assert error(daemon, "put-file", "r", "master", "-c", "-r", "-f", "clidir").startswith("/clidir is a file")
    out(daemon, "put-file", "r", "other", "-c", "-f", "clidir/a.txt")
    (clidir / "a.txt").unlink()
    (clidir / "a.txt").symlink_to("/proc/self/mem")
    put = ("put-file", "r", "other", "-c", "-r", "--no-attributes", "-f", "clidir")
    assert error(daemon, *put).startswith("open clidir/a.txt: ")
    assert commit_count(daemon, "r") == 2
