"""Running the programs of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from pfsd.errors import UnavailableError


def run(command: Sequence[str], text: str | None = None) -> str:
    """What a command wrote to stdout, with `text` as its stdin.

    Raises UnavailableError with the end of what it wrote to stderr where it fails.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, input=text)
    except FileNotFoundError as error:
        raise UnavailableError(
            f"the program {command[0]} is not installed: `python -m tools.cluster up` as root installs it"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(
            f"`{' '.join(command)}` failed: {said[-1] if said else f'exit status {done.returncode}'}"
        )
    return done.stdout


def succeeds(command: Sequence[str]) -> bool:
    """Whether a command ends with status 0."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
