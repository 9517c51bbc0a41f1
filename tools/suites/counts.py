"""What a suite says of a directory: what passed, failed and was skipped, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Counts:
    """The checks of a run. Those that failed or were skipped have a line that says why."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def unexpected(self, left_out: Mapping[str, str]) -> dict[str, str]:
        """What failed, but for the names that a pattern of `left_out` is found in."""
        patterns = [re.compile(pattern) for pattern in left_out]
        return {name: why for name, why in self.failed.items() if not any(one.search(name) for one in patterns)}

    def lines(self) -> list[str]:
        """What to print of it."""
        told = [f"failed  {name}: {why}" for name, why in sorted(self.failed.items())]
        told += [f"skipped {name}: {why}" for name, why in sorted(self.skipped.items())]
        return [*told, f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"]
