"""Ending what tests have started."""

from __future__ import annotations

import subprocess


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """SIGTERM; what does not end by that is killed, and fails the test."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
