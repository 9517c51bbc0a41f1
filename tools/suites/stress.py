"""The file stressors of stress-ng, one after the other, with its own checks on."""

from __future__ import annotations

import re
from pathlib import Path

from tools.suites import bounded, getting, places
from tools.suites.counts import Counts
from tools.suites.suite import Suite

# Stressors, and what bounds those that are large by default.
STRESSORS: dict[str, tuple[str, ...]] = {
    "access": (),
    "aio": (),
    "aiol": (),
    "chdir": ("--chdir-dirs", "64"),
    "chmod": (),
    "chown": (),
    "dentry": ("--dentries", "50"),
    "dir": ("--dir-dirs", "64"),
    "dirdeep": ("--dirdeep-inodes", "500"),
    "dirmany": (),
    "dnotify": (),
    "fallocate": ("--fallocate-bytes", "8m"),
    "fcntl": (),
    "fiemap": ("--fiemap-bytes", "2m"),
    "filename": (),
    "flock": (),
    "fpunch": (),
    "fsize": (),
    "fstat": (),
    "getdent": (),
    "hdd": ("--hdd-bytes", "1m"),
    "inotify": (),
    "io-uring": (),
    "iomix": ("--iomix-bytes", "8m"),
    "lease": (),
    "link": (),
    "locka": (),
    "lockf": (),
    "lockofd": (),
    "mknod": (),
    "mmap": ("--mmap-file", "--mmap-bytes", "8m"),
    "mmapfork": (),
    "msync": ("--msync-bytes", "8m"),
    "open": (),
    "readahead": ("--readahead-bytes", "8m"),
    "rename": (),
    "revio": ("--revio-bytes", "8m"),
    "seek": ("--seek-size", "8m"),
    "sendfile": ("--sendfile-size", "1m"),
    "symlink": (),
    "sync-file": ("--sync-file-bytes", "8m"),
    "touch": (),
    "utime": (),
    "xattr": (),
}
_OPERATIONS = "50"
_SECONDS = 10
# Exit statuses of stress-ng's own: there was no room for it, or the machine lacks what it needs.
_SKIPPED = (3, 4)
# What a stressor that did nothing says, also with status 0; not what skips but a part of itself.
_SAYS_SKIPPED = re.compile(
    r"will be skipped|skipping(?! (concurrent|crypto|method)\b)|skipped \(out of|aborted early|No stress workers"
)
_SAYS_DONE = "successful run completed"
_TOLD = 8
_TOLD_BYTES = 800


def run_one(name: str, where: Path) -> bounded.Ended:
    """One stressor in a directory."""
    command = [str(places.program("stress-ng")), f"--{name}", "1", f"--{name}-ops", _OPERATIONS, *STRESSORS[name]]
    command += ["--verify", "--timeout", str(_SECONDS), "--temp-path", str(where), "--oom-avoid"]
    return bounded.run(command, where, 6 * _SECONDS)


def _run(where: Path) -> Counts:
    counts = Counts()
    for name in STRESSORS:
        count(counts, name, run_one(name, where))
    return counts


def count(counts: Counts, name: str, ended: bounded.Ended) -> None:
    """Enter how a stressor ended: it passed only if it says that it ran, and not that it did nothing."""
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    skipped = [line for line in lines if _SAYS_SKIPPED.search(line)]
    if ended.status in _SKIPPED or (ended.status == 0 and skipped):
        counts.skipped[name] = (skipped or lines or [ended.why])[0][:200]
    elif ended.status == 0 and any(_SAYS_DONE in line for line in lines):
        counts.passed.add(name)
    else:
        how = "its time was up" if ended.status is None else f"exit status {ended.status}"
        said = [line for line in lines if "fail:" in line or "error:" in line] or lines
        counts.failed[name] = f"{how}: {'; '.join(said[-_TOLD:])[:_TOLD_BYTES]}"


SUITE = Suite(
    "stress-ng",
    f"{len(STRESSORS)} stressors of files and directories",
    lambda _into: getting.packages("stress-ng:stress-ng"),
    lambda: places.program("stress-ng") is not None,
    _run,
)
