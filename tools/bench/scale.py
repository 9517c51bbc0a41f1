"""How much the benchmark of the mounts measures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tools.bench.measure import MIB


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes, numbers of files, and rounds."""

    file_bytes: int = 256 * MIB
    random_reads: int = 4096
    small: int = 20_000
    source: int = 5_000
    """Files that look like those of programs."""
    found: int = 200_000
    """Files of the tree that is walked."""
    rounds: int = 3
    slow_rounds: int = 1
    """Where others take minutes."""
    peers: bool = True


DEFAULT = Scale()
LARGE = replace(DEFAULT, found=1_000_000)
QUICK = Scale(MIB, 50, 50, 30, 300, 1, 1, False)
