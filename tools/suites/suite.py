"""What all suites have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.suites.counts import Counts


@dataclass(frozen=True)
class Suite:
    """A suite: how it is got into a directory, whether it is there, and how it is run on another."""

    name: str
    about: str
    get: Callable[[Path], None]
    present: Callable[[], bool]
    run: Callable[[Path], Counts]
