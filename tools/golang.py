"""The Go toolchain, with which servers for tests are built."""

from __future__ import annotations

import shutil
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
