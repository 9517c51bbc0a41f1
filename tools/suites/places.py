"""Where suites are kept, and which programs of them are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

COMMAND = "python -m tools.suites"


def directory() -> Path:
    """Where suites that are built are kept."""
    return Path(os.environ.get("PFS_SUITES") or Path.home() / ".cache" / "pfs-suites")


def program(name: str) -> Path | None:
    """A program that was built into `directory`, or is on the PATH; None where there is none."""
    built = directory() / "bin" / name
    if built.exists():
        return built
    found = shutil.which(name)
    return Path(found) if found else None
