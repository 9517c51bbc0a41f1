"""pachctl against a real daemon."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from pfsd.version import VERSION
from tests.support.daemons import Daemon
from tests.support.pachctl import CHUNK, error, out
from tests.support.places import TREE


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
