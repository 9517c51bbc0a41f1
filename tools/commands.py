"""Running the programs of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pfsd.errors import UnavailableError

_SAID_LINES = 10


def run(command: Sequence[str], text: str | None = None, directory: Path | None = None) -> str:
    """What a command wrote to stdout, with `text` as its stdin.

    Raises UnavailableError with the end of what it wrote to stderr where it fails.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, input=text, cwd=directory)
    except FileNotFoundError as error:
        raise UnavailableError(f"the program {command[0]} is not installed: install the package that has it") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_SAID_LINES:])
        shown = " ".join(command[:6]) + (" ..." if len(command) > 6 else "")
        raise UnavailableError(f"`{shown}` failed: {said or f'exit status {done.returncode}'}")
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Whether a command ends with status 0."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
