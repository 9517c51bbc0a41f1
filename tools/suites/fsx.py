"""fsx: random operations on one file, each read compared with what was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tools.suites import bounded, getting, places
from tools.suites.counts import Counts
from tools.suites.suite import Suite

VERSION = "0.3.2"
SEED = "3"
_SECONDS = 900

# The operations of each run, and what is mixed in. Reads, writes, truncations and both through memory are in all.
RUNS: dict[str, tuple[int, dict[str, float]]] = {
    "mmap": (100_000, {}),
    "many": (
        20_000,
        {
            "close_open": 1,
            "invalidate": 1,
            "fsync": 0.2,
            "fdatasync": 0.2,
            "sendfile": 1,
            "posix_fadvise": 1,
            "copy_file_range": 1,
        },
    ),
    "allocation": (20_000, {"posix_fallocate": 1}),
    "holes": (20_000, {"punch_hole": 1}),
}


def run_one(name: str, path: Path, seed: str = SEED) -> bounded.Ended:
    """One run on a file; it stays."""
    operations, weights = RUNS[name]
    with tempfile.TemporaryDirectory(prefix="pfs-suites-") as made:
        settings = Path(made) / "fsx.toml"
        settings.write_text("[weights]\n" + "".join(f"{key} = {float(value)}\n" for key, value in weights.items()))
        command = [str(places.program("fsx")), "-f", str(settings), "-P", made, "-N", str(operations), "-S", seed]
        return bounded.run([*command, str(path)], path.parent, _SECONDS)


def _run(where: Path) -> Counts:
    counts = Counts()
    for name in RUNS:
        ended = run_one(name, where / f"fsx-{name}")
        if ended.status == 0:
            counts.passed.add(name)
        elif "not supported" in ended.output:
            counts.skipped[name] = ended.why
        else:
            counts.failed[name] = ended.why
    return counts


SUITE = Suite(
    "fsx",
    "random operations on one file, through memory too",
    lambda into: getting.crate("fsx", VERSION, into),
    lambda: places.program("fsx") is not None,
    _run,
)
