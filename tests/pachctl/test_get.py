"""`pachctl get-file` against a real daemon: what it writes, keeps and leaves alone."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from tests.support.daemons import Daemon
from tests.support.pachctl import CHUNK, error, out


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
