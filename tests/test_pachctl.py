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
from collections.abc import Iterator

import pytest

from tests.daemons import Daemon, running

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
    text = out(daemon, "glob-file", repo, commit, "**", "--raw")
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
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent.parent))
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
        [sys.executable, "-m", "tools.pachctl.main", "-v", "put-file", "r", "master", "x", "-c"],
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


def test_a_put_whose_daemon_dies_tells_of_the_commit(daemon: Daemon) -> None:
    daemon.create_repo("r")
    with subprocess.Popen(
        [sys.executable, "-m", "tools.pachctl.main", "put-file", "r", "master", "x", "-c"],
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
    assert re.fullmatch(
        r"commit \w{32} may be left unfinished: delete it with pachctl delete-commit r \w{32}", lines[-2]
    )
    assert lines[-1].startswith(f"can't reach pfsd at {daemon.address}")


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
        [sys.executable, "-m", "tools.pachctl.main", "get-file", "r", "master", "big"],
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
    command = [sys.executable, "-m", "tools.pachctl.main", "subscribe-commit", "r", "master"]
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


def test_delete_all(daemon: Daemon) -> None:
    daemon.create_repo("r")
    assert out(daemon, "delete-all", stdin=b"y\n") == (
        "Are you sure you want to delete all repos, commits, files, pipelines and jobs? yN\n"
    )
    assert out(daemon, "list-repo") == "NAME                CREATED             SIZE\n"


def test_a_call_that_the_daemon_lacks(daemon: Daemon) -> None:
    assert error(daemon, "list-pipeline") == f"pfsd at {daemon.address} does not offer this command yet\n"
