"""Getting suites: Debian's packages, and crates of one version each. Everything has a time limit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pfsd.errors import UnavailableError

_SECONDS = 1200
_SAID_LINES = 10
_DEBIAN_PACKAGES = Path(__file__).resolve().parent.parent / "debian-packages"


def _do(command: Sequence[str], where: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=where,
            env={**os.environ, **(settings or {})},
            timeout=_SECONDS,
        )
    except FileNotFoundError as error:
        raise UnavailableError(f"there is no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"`{' '.join(command[:4])}` took longer than {_SECONDS} s") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_SAID_LINES:])
        raise UnavailableError(f"`{' '.join(command[:4])}` failed: {said or f'exit status {done.returncode}'}")


def crate(name: str, version: str, into: Path) -> None:
    """Build a program of crates.io with the versions that it was released with, as `into/bin/NAME`."""
    if f'"{name} {version} ' in _installed(into):
        return
    with tempfile.TemporaryDirectory(prefix="pfs-suites-") as built:
        settings = {"CARGO_TARGET_DIR": built}
        _do(["cargo", "install", "--locked", "--root", str(into), "--version", version, name], settings=settings)


def _installed(into: Path) -> str:
    known = into / ".crates.toml"
    return known.read_text() if known.exists() else ""


def packages(*wanted: str) -> None:
    """Install Debian's packages that are missing, each as `PACKAGE:PROOF`."""
    _do([str(_DEBIAN_PACKAGES), *wanted])
