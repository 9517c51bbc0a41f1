"""What is missing on an empty machine is said once, and completely."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.places import TREE

SCRIPT = TREE / "tools/debian-packages"


@pytest.fixture
def bare_path(tmp_path: pathlib.Path) -> str:
    """A PATH with a shell, its tools and Python alone: nothing to install packages with."""
    for name in ("sh", "id", "env"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(tmp_path)


def looked_for(path: str, *pairs: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *pairs],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=TREE,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_all_that_is_missing_is_named_at_once(bare_path: str) -> None:
    result = looked_for(
        bare_path,
        *("one:/no/such/file", "two:no-such-command", "three:python:include/no-such.h"),
        *("shell:sh", f"script:{SCRIPT}", "library:python:stdlib/os.py", "/no/such/directory", "/"),
    )
    assert result.returncode == 1
    assert result.stderr == (
        "This machine lacks something. Run this as root and try again: "
        "apt-get install one two three && mkdir -p /no/such/directory\n"
    )


def test_without_python_its_packages_are_missing_too(bare_path: str) -> None:
    result = looked_for(bare_path, "python3-venv:python:stdlib/os.py", PYTHON="no-such-python")
    assert result.stderr.endswith(": apt-get install python3-venv\n")


def test_where_nothing_is_missing_nothing_is_said(bare_path: str) -> None:
    result = looked_for(bare_path, "shell:sh", "library:python:stdlib/os.py", "/")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def program(place: pathlib.Path, script: str) -> str:
    """A shell script as a program; its path."""
    place.unlink(missing_ok=True)
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    return str(place)


def test_root_gets_a_directory_made_and_others_are_told_of_it(bare_path: str, tmp_path: pathlib.Path) -> None:
    wanted = tmp_path / "wanted"
    program(tmp_path / "id", "echo 1000")
    program(tmp_path / "mkdir", f'exec {shutil.which("mkdir")} "$@"')
    result = looked_for(bare_path, str(wanted))
    assert result.stderr.endswith(f": mkdir -p {wanted}\n")
    assert not wanted.exists()
    program(tmp_path / "id", "echo 0")
    result = looked_for(bare_path, str(wanted))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert wanted.is_dir()


def test_an_old_python_is_told_of_together_with_the_packages(tmp_path: pathlib.Path) -> None:
    program(tmp_path / "id", "echo 1000")
    old = program(tmp_path / "old-python", "exit 1")
    result = make("packages", f"PYTHON={old}", "PACKAGES=one:/no/such/file", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode != 0
    said = result.stderr.splitlines()
    assert said[0].endswith(": apt-get install one")
    assert said[1].startswith("Python 3.11 or later is needed")


@pytest.mark.parametrize(
    ("goal", "further"), [("setup", set()), ("demo", {"file"}), ("test", {"file", "attr", "rsync", "procps"})]
)
def test_make_looks_for_everything_that_its_goal_needs_before_anything_else(goal: str, further: set[str]) -> None:
    result = make("-n", goal)
    assert result.returncode == 0, result.stderr
    first = result.stdout.splitlines()[0]
    assert "tools/debian-packages" in first
    assert (" /pfs " in first) == (goal != "setup")
    packages = set(re.findall(r"(\S+?):\S+", first))
    assert packages == further | {
        *("gcc", "libc6-dev", "libfuse3-dev", "fuse3", "pkg-config", "python3-venv", "python3-dev")
    }
    assert result.stdout.count("debian-packages") == 1
