"""pachctl against a real daemon."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pfsd.version import VERSION
from tests.support.daemons import Daemon, running
from tests.support.places import TREE

CHUNK = 1 << 20


def out(daemon: Daemon, *args: str, stdin: bytes = b"") -> str:
    return daemon.pachctl(*args, stdin=stdin).stdout.decode()


def error(daemon: Daemon, *args: str, stdin: bytes = b"") -> str:
    result = daemon.pachctl(*args, stdin=stdin, check=False)
    assert result.returncode == 1
    text = result.stderr.decode()
    assert "Traceback" not in text
    return text


def found(daemon: Daemon, repo: str, commit: str = "master") -> dict[str, int]:
    """The files of a commit with their sizes."""
    decoder = json.JSONDecoder()
    text = out(daemon, "glob-file", repo, commit, "**", "--raw", "-R")
    sizes = {}
    while text.strip():
        info, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        if info["fileType"] == "FILE":
            sizes[info["file"]["path"]] = int(info.get("sizeBytes", 0))
    return sizes


def commit_count(daemon: Daemon, repo: str) -> int:
    lines = out(daemon, "list-commit", repo).splitlines()
    return sum(line.startswith(f"{repo} ") for line in lines)


@contextlib.contextmanager
def served(directory: pathlib.Path) -> Iterator[str]:
    """The URL of a web server for a directory."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(directory))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def clidir(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The directory `clidir` with two files, in the current directory."""
    directory = tmp_path / "clidir"
    (directory / "sub").mkdir(parents=True)
    (directory / "a.txt").write_text("a\n")
    (directory / "sub" / "b.txt").write_text("b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TREE))
    return directory


def test_the_session_recorded_from_the_original(daemon: Daemon, clidir: pathlib.Path) -> None:
    pathlib.Path("list.txt").write_text("clidir/a.txt\nclidir/sub/b.txt\n")
    pathlib.Path("rows.json").write_text('{"a":1} {"b":2} {"c":3}')
    assert out(daemon, "create-repo", "images", "-d", "Sample pictures") == ""
    assert "already exists" in error(daemon, "create-repo", "images")
    put = daemon.pachctl("put-file", "images", "master", "greeting", "-c", stdin=b"hello\n")
    assert (put.stdout, put.stderr) == (b"", b"Reading from stdin.\n")
    out(daemon, "put-file", "images", "master", "-c", "-r", "-f", "clidir")
    out(daemon, "put-file", "images", "master", "copies", "-c", "-f", "clidir/a.txt", "-f", "clidir/sub/b.txt")
    out(daemon, "put-file", "images", "master", "-c", "-i", "list.txt")
    split = ["--split", "json", "--target-file-datums", "2"]
    out(daemon, "put-file", "images", "master", "rows", "-c", "-f", "rows.json", *split)
    assert "Size: 43B\n" in out(daemon, "inspect-repo", "images")
    ids = re.findall(r"^images +(\w{32}) ", out(daemon, "list-commit", "images"), re.MULTILINE)
    assert len(ids) == 5
    assert out(daemon, "list-branch", "images") == f"BRANCH              HEAD\nmaster              {ids[0]}\n"
    assert out(daemon, "inspect-commit", "images", "master").splitlines()[:2] == [
        f"Commit: images/{ids[0]}",
        f"Parent: {ids[1]}",
    ]
    assert out(daemon, "list-file", "images", "master") == (
        "NAME                TYPE                SIZE\n"
        "clidir              dir                 8B\n"
        "copies              dir                 4B\n"
        "greeting            file                6B\n"
        "rows                dir                 21B\n"
    )
    raw = out(daemon, "list-file", "images", "master", "clidir", "--raw")
    assert raw.count('"path"') == 2
    assert out(daemon, "inspect-file", "images", "master", "rows").endswith(
        "Children:  0000000000000000  0000000000000001\n"
    )
    out(daemon, "set-branch", "images", "master", "v1")
    assert out(daemon, "get-file", "images", "v1", "greeting") == "hello\n"
    assert error(daemon, "get-file", "images", "master", "nope") == (
        f"file nope not found in repo images at commit {ids[0]}\n"
    )
    started = out(daemon, "start-commit", "images", "-b", "master").strip()
    assert re.fullmatch(r"\w{32}", started)
    assert "has not been finished" in error(daemon, "start-commit", "images", "master")
    assert out(daemon, "list-commit", "images", "master", "-n", "1").splitlines()[1].endswith("-                   -")
    out(daemon, "put-file", "images", "master", "greeting", stdin=b"more\n")
    out(daemon, "put-file", "images", started, "greeting", "-f", "clidir/a.txt")
    out(daemon, "put-file", "images", started, "clidir/a.txt", "-o", "-f", "clidir/sub/b.txt")
    out(daemon, "finish-commit", "images", "master")
    assert "already been finished" in error(daemon, "finish-commit", "images", "master")
    assert out(daemon, "get-file", "images", "master", "greeting") == "hello\nmore\na\n"
    assert out(daemon, "get-file", "images", "master", "clidir/a.txt") == "b\n"
    out(daemon, "delete-branch", "images", "v1")
    assert out(daemon, "flush-commit", "images/master") == ""
    out(daemon, "delete-repo", "images")
    assert error(daemon, "delete-repo", "images") == "repo images not found\n"


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


def test_two_stars_are_one_component_unless_recursion_is_asked_for(daemon: Daemon) -> None:
    out(daemon, "create-repo", "r")
    daemon.commit_files("r", {"foo-1": b"1", "bar/bar-1": b"1", "bar/deep/x": b"1"})

    def names(*args: str) -> list[str]:
        return [line.split()[0] for line in out(daemon, "glob-file", "r", "master", *args).splitlines()[1:]]

    assert names("/**/*") == names("/*/*") == names("-R", "/*/*") == ["/bar/bar-1", "/bar/deep"]
    assert names("**") == ["/bar", "/foo-1"]
    assert names("-R", "**") == ["/bar", "/bar/bar-1", "/bar/deep", "/bar/deep/x", "/foo-1"]
    assert names("--recursive", "/**/x") == ["/bar/deep/x"]
    assert names("/b[!x]r/{bar-1,deep/x}") == ["/bar/bar-1", "/bar/deep/x"]


def test_the_table_of_patterns_in_the_documentation(daemon: Daemon) -> None:
    out(daemon, "create-repo", "r")
    daemon.commit_files("r", {"foo": b"1", "bar/x.csv": b"1", "bar/deep/y.csv": b"1"})
    text = (TREE / "docs" / "names-and-patterns.md").read_text()
    table = text.split("| pattern | of `foo`, `bar/x.csv`, `bar/deep/y.csv` | with recursion |\n")[1].split("\n\n")[0]
    for row in table.splitlines()[1:]:
        pattern, plain, recursive = (re.findall("`([^`]*)`", cell) for cell in row.strip("|").split(" | "))
        for options, names in ((), plain), (("-R",), recursive or plain):
            lines = out(daemon, "glob-file", "r", "master", *pattern, *options).splitlines()[1:]
            assert [line.split()[0] for line in lines] == names, (row, options)


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
    assert error(daemon, "put-file", "r", "master", "-c", "-r", "-f", "clidir") == (
        "open clidir/sub/gone: no such file or directory\n"
    )
    assert "JSON" in error(daemon, "put-file", "r", "master", "x", "-c", "--split", "json", stdin=b"{")
    error(daemon, "put-file", "r", "master", "../x", "-c", "-f", "clidir/a.txt")
    assert commit_count(daemon, "r") == 0
    assert out(daemon, "list-branch", "r") == "BRANCH              HEAD\n"


def test_a_named_pipe_in_a_directory_is_left_out_and_told(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    os.mkfifo(clidir / "pipe")
    assert error(daemon, "put-file", "r", "master", "-c", "-r", "-f", "clidir") == (
        "clidir/pipe is left out: it is a named pipe\n"
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
    assert error(daemon, "put-file", "r", "other", "-c", "-r", "-f", "clidir").startswith("open clidir/a.txt: ")
    assert commit_count(daemon, "r") == 2


def test_garbage_collect_and_fsck(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    data = os.urandom(3 * CHUNK)
    daemon.commit_files("r", {"gone": data})
    out(daemon, "delete-repo", "r")
    text = out(daemon, "garbage-collect")
    assert re.search(r"^Chunks: [1-9]\d* removed, 0 kept$", text, re.MULTILINE)
    assert re.search(r"^Freed: 3(\.\d*)?MiB$", text, re.MULTILINE)
    daemon.create_repo("r")
    kept = daemon.commit_files("r", {"kept": data})
    summary = r"Checked 1 repos, 1 commits, \d+ tree nodes, \d+ chunks, 1 packs of 3(\.\d*)?MiB\n"
    assert re.fullmatch(summary + "Problems: 0, repaired: 0\n", out(daemon, "fsck"))
    (pack,) = (daemon.root / "spool").iterdir()
    with pack.open("r+b") as file:
        file.seek(CHUNK)
        file.write(b"damaged")
    result = daemon.pachctl("fsck", check=False)
    assert result.returncode == 1
    assert f"touches r/{kept.id}:/kept" in result.stdout.decode()
    assert "is served by another pfsd" in error(daemon, "fsck", "--root", str(daemon.root))
    daemon.stop()
    offline = daemon.pachctl("fsck", "--root", str(daemon.root), check=False)
    assert offline.returncode == 1
    assert f"touches r/{kept.id}:/kept" in offline.stdout.decode()


def test_migrate_says_what_there_is_to_do(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    root = str(daemon.root)
    assert "is served by another pfsd" in error(daemon, "migrate", "--root", root)
    daemon.stop()
    assert out(daemon, "migrate", "--root", root) == f"{root} has the present format: nothing to do\n"
    assert "nowhere is not a directory" in error(daemon, "migrate", "--root", str(tmp_path / "nowhere"))
    assert "put-file" in error(daemon, "migrate", "--from", "1.4.8", "--to", "1.5.0")
    assert "--root DIR" in error(daemon, "migrate")


def test_get_file_never_leaves_its_directory(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"sub/b.txt": b"new", "a.txt": b"new"})
    outside = pathlib.Path("outside")
    outside.mkdir()
    (outside / "a.txt").write_text("old")
    got = pathlib.Path("got")
    got.mkdir()
    (got / "a.txt").symlink_to("../outside/a.txt")
    out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    assert (outside / "a.txt").read_text() == "old"
    assert (got / "a.txt").read_text() == "new"
    (got / "sub" / "b.txt").unlink()
    (got / "sub").rmdir()
    (got / "sub").symlink_to("../outside")
    assert "got/sub is a symlink" in error(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    assert sorted(os.listdir(outside)) == ["a.txt"]


def test_get_file_keeps_what_was_there_until_all_has_come(daemon: Daemon, clidir: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"a": b"new"})
    target = pathlib.Path("target")
    target.write_text("old")
    assert "not found" in error(daemon, "get-file", "r", "master", "nope", "-o", "target")
    assert target.read_text() == "old"
    assert error(daemon, "get-file", "r", "master", "a", "-o", "clidir") == "open clidir: is a directory\n"
    assert error(daemon, "get-file", "r", "master", "a", "-o", "no/x").endswith("/no/x: no such file or directory\n")
    assert "directory" in error(daemon, "get-file", "r", "master", "/")
    pathlib.Path("link").symlink_to("target")
    out(daemon, "get-file", "r", "master", "a", "-o", "link")
    assert target.read_text() == "new"
    out(daemon, "get-file", "r", "master", "a", "-o", "/dev/null")
    assert not pathlib.Path("/dev/null").is_file()
    assert not list(pathlib.Path().rglob(".pachctl-*"))


def test_a_reader_that_goes_ends_get_file_quietly(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"big": bytes(8 * CHUNK)})
    with subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "get-file", "r", "master", "big"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ADDRESS": daemon.address},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_subscribing_prints_commits_as_they_finish(daemon: Daemon) -> None:
    daemon.create_repo("r")
    old = daemon.commit_files("r", {"a": b"1"})
    command = [sys.executable, "-m", "pachctl.main", "subscribe-commit", "r", "master"]
    environment = {**os.environ, "ADDRESS": daemon.address}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("REPO                ID   ")
        assert old.id in process.stdout.readline()
        new = daemon.commit_files("r", {"b": b"2"})
        assert new.id in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    with subprocess.Popen([*command, "--from", old.id, "--raw"], stdout=subprocess.PIPE, env=environment) as raw:
        assert raw.stdout is not None
        text = b""
        while not text.rstrip().endswith(b"\n}"):
            text += raw.stdout.readline()
        assert json.loads(text)["commit"]["id"] == new.id
        raw.send_signal(signal.SIGINT)
        raw.wait(30)


def test_listing_repos_by_provenance(daemon: Daemon) -> None:
    daemon.create_repo("raw")
    daemon.create_repo("derived", "raw")
    assert out(daemon, "list-repo", "-p", "raw").splitlines()[1].startswith("derived ")
    assert "Provenance:  raw\n" in out(daemon, "inspect-repo", "derived")
    assert "derived" in error(daemon, "delete-repo", "raw")
    out(daemon, "delete-repo", "--force", "raw")
    out(daemon, "delete-repo", "--all", stdin=b"y\n")
    assert out(daemon, "list-repo") == "NAME                CREATED             SIZE\n"


def test_what_deletes_everything_tells_where_and_how_much_and_asks(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.create_repo("s")
    daemon.commit_files("r", {"f": bytes(2048)})
    for args, question in (
        (("delete-all",), "Are you sure you want to delete all repos, commits, files, pipelines and jobs? yN"),
        (("delete-repo", "--all"), "Are you sure you want to delete all repos? yN"),
    ):
        for answer in (b"", b"n\n", b"\n"):
            result = daemon.pachctl(*args, stdin=answer, check=False)
            first, second = result.stdout.decode().splitlines()
            assert first.startswith(f"pfsd at {daemon.address} has 2 repos with 1 commit (2KiB): all of it goes")
            assert (result.returncode, second, result.stderr) == (1, question, b"nothing was deleted\n")
        assert len(out(daemon, "list-repo").splitlines()) == 3
    assert out(daemon, "delete-all", stdin=b"y\n").count("\n") == 2
    assert out(daemon, "list-repo") == "NAME                CREATED             SIZE\n"


def test_delete_all_tells_of_pipelines_too(pipeline_daemon: Daemon) -> None:
    said = pipeline_daemon.pachctl("delete-all", check=False).stdout.decode()
    assert "has 0 repos with 0 commits (0B), 0 pipelines and 0 jobs: all" in said


def test_versions_of_the_api_and_of_the_product(daemon: Daemon) -> None:
    assert out(daemon, "version") == (
        "COMPONENT           VERSION             PFSD\n"
        f"pachctl             1.5.3               {VERSION}\n"
        f"pachd               1.5.3               {VERSION}\n"
    )


def test_a_call_that_the_daemon_lacks(daemon: Daemon) -> None:
    assert error(daemon, "list-pipeline") == f"pfsd at {daemon.address} does not offer this command yet\n"


def test_a_path_may_end_in_a_slash_wherever_it_names_a_directory(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"d/e/f": b"x"})
    assert out(daemon, "list-file", "r", "master", "d/e/").splitlines()[1].split()[0].strip("/") == "d/e/f"
    assert "Path: " in out(daemon, "inspect-file", "r", "master", "d/e/")
    assert out(daemon, "glob-file", "r", "master", "d/*/").count("d/e") == 1
    out(daemon, "get-file", "r", "master", "d/", "-r", "-o", f"{tmp_path}/got/")
    assert (tmp_path / "got/e/f").read_bytes() == b"x"
    (tmp_path / "local").mkdir()
    (tmp_path / "local/g").write_bytes(b"y")
    out(daemon, "put-file", "r", "master", "d/new/", "-c", "-r", "-f", f"{tmp_path}/local/")
    assert out(daemon, "get-file", "r", "master", "d/new/g") == "y"
    out(daemon, "put-file", "r", "master", "copy/", "-c", "-r", "-f", "pfs:///r/master/d/")
    assert out(daemon, "get-file", "r", "master", "copy/e/f") == "x"
    out(daemon, "start-commit", "r", "master")
    out(daemon, "delete-file", "r", "master", "d/e/")
    out(daemon, "finish-commit", "r", "master")
    assert "d/e" not in out(daemon, "list-file", "r", "master", "d/")
