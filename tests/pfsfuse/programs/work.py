"""Ordinary programs, as tests run them on an open commit: those that are here, and what they need."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import finish

PYTHON = os.environ.get("PFS_PROGRAMS_PYTHON", sys.executable)
"""The Python that has the packages that these tests try."""
RUN_SECONDS = 300


class Work:
    """The root of an open commit through a mount, and others that show the same."""

    def __init__(self, daemon: Daemon, mounted: Mounted, aside: pathlib.Path, options: tuple[str, ...]) -> None:
        self.daemon = daemon
        self.top = mounted.path / "r/master"
        self.aside = aside
        """A directory of the disk."""
        self._options = options

    @contextlib.contextmanager
    def second(self) -> Iterator[pathlib.Path]:
        """The open commit through another mount."""
        os.setxattr(self.top, "user.pfs.flush", b"")
        with mounting(self.daemon, self.aside / "second", *self._options) as made:
            yield made.path / "r/master"

    @contextlib.contextmanager
    def finished(self) -> Iterator[pathlib.Path]:
        """The commit, finished, through a new mount."""
        finish(self.top)
        with mounting(self.daemon, self.aside / "anew", *self._options) as made:
            yield made.path / "r/master"

    def run(self, *command: str | pathlib.Path, cwd: pathlib.Path | None = None) -> str:
        """What a program prints; it has to succeed."""
        done = subprocess.run(
            command,
            cwd=cwd or self.top,
            env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.aside), "TMPDIR": str(self.aside)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout.decode(errors="surrogateescape")

    def python(self, script: str, *arguments: str | pathlib.Path) -> str:
        """What a script prints that runs with the packages."""
        return self.run(PYTHON, "-c", script, *arguments)


def need(package: str, *programs: str) -> None:
    """Skip where a program is missing, which a package of Debian has."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not here: apt-get install {package}")


def need_modules(*names: str) -> None:
    """Skip where a package of Python is missing."""
    missing = [name for name in names if not _imports(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not here: {PYTHON} -m pip install {' '.join(missing)}")


@functools.cache
def _imports(name: str) -> bool:
    command = [PYTHON, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, timeout=RUN_SECONDS, check=False).returncode == 0


def contents(top: pathlib.Path) -> dict[str, bytes]:
    """All regular files below a directory."""
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
