"""Running a program of a suite: for a bounded time, with bounded files, and with nothing left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import UnavailableError

_FILE_BYTES = 8 << 30
_GONE_SECONDS = 30
_OUTPUT_BYTES = 4 << 20


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, below zero for a signal, None where its time was up."""

    status: int | None
    output: str

    @property
    def why(self) -> str:
        """One line about an end that was no success."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        how = "its time was up" if self.status is None else f"exit status {self.status}"
        return f"{how}: {lines[-1][:200]}" if lines else how


def run(command: Sequence[str], directory: Path, seconds: float, settings: Mapping[str, str] | None = None) -> Ended:
    """Run a program in a directory, in a process group that is killed at the end.

    Raises UnavailableError where it can't be started, or where a killed one does not go.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                ["prlimit", f"--fsize={_FILE_BYTES}", "--core=0", *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(settings or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{command[0]} can't be run in {directory}: {error}") from error
        status = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(seconds)
        finally:
            _kill(process)
        output.seek(0)
        return Ended(status, output.read(_OUTPUT_BYTES).decode(errors="replace"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_GONE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"process {process.pid} does not go, though it was killed") from error
