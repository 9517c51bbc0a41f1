"""Servers for tests: where they are kept, and building them with the Go toolchain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pfsd.errors import UnavailableError

_USUAL = Path("/usr/local/go/bin/go")


def go() -> str:
    """The program `go`: on the PATH, or where its own archive puts it; raises UnavailableError where there is none."""
    found = shutil.which("go")
    if found is None and _USUAL.exists():
        found = str(_USUAL)
    if found is None:
        raise UnavailableError("there is no Go toolchain here: install Go 1.24 or later")
    return found


def tools_directory() -> Path:
    """Where programs that are built for tests are kept."""
    return Path(os.environ.get("PFSD_TOOLS") or Path.home() / ".cache" / "pfsd-tools")


def program_path(name: str, below: str = "") -> Path | None:
    """A program: the one that was got (into a directory `below`), or one on the PATH; None where there is none."""
    built = tools_directory() / below / name
    if built.exists():
        return built
    found = shutil.which(name)
    return Path(found) if found else None


def go_install(module: str) -> Path:
    """Build a program of a Go module into `tools_directory`; raises UnavailableError where that can't be done."""
    go_program = go()
    target = tools_directory()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pfsd-go-") as work:
        settings = {**os.environ, "GOBIN": str(target), "GOPATH": work, "GOFLAGS": "-modcacherw"}
        if subprocess.run([go_program, "install", module], env=settings, check=False).returncode:
            raise UnavailableError(f"{module} can't be built")
    return target / module.partition("@")[0].rpartition("/")[2]


def build(module: str, command: str) -> int:
    """Build a program for a command, and say where it is; returns the command's exit status."""
    try:
        print(go_install(module))
    except UnavailableError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0
