"""How a program ends: its exit status, and what it says on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pfsd.errors import PfsError, leaves


def status_of(run: Callable[[], object], prefix: str = "", *, every: bool = False) -> int:
    """Run a program; returns 0, or 1 after an error that stderr tells in one sentence, behind `prefix`.

    Of a group of errors, whose first cause may be missed in several places at once, only the first is told, or
    `every` one.
    """
    status = 0
    try:
        run()
    except* PfsError as group:
        status = 1
        found = leaves(group)
        for error in found if every else found[:1]:
            sys.stderr.write(f"{prefix}{error}\n")
    return status
