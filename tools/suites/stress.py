"""The file stressors of stress-ng, one after the other, with its own checks on."""

from __future__ import annotations

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
# stress-ng's own: what it lacks, or what this machine does.
_SKIPPED = (3, 4)


def run_one(name: str, where: Path) -> bounded.Ended:
    """One stressor in a directory."""
    command = [str(places.program("stress-ng")), f"--{name}", "1", f"--{name}-ops", _OPERATIONS, *STRESSORS[name]]
    command += ["--verify", "--timeout", str(_SECONDS), "--temp-path", str(where), "--oom-avoid"]
    return bounded.run(command, where, 6 * _SECONDS)


def _run(where: Path) -> Counts:
    counts = Counts()
    for name in STRESSORS:
        ended = run_one(name, where)
        if ended.status == 0 and "skipped" not in ended.output.rpartition("passed")[0].split("failed")[0]:
            counts.passed.add(name)
        elif ended.status in (0, *_SKIPPED):
            counts.skipped[name] = _reason(ended)
        else:
            counts.failed[name] = _reason(ended)
    return counts


def _reason(ended: bounded.Ended) -> str:
    said = [line for line in ended.output.splitlines() if "fail:" in line or "error:" in line or "skipp" in line]
    return said[0].strip()[:200] if said and ended.status is not None else ended.why


SUITE = Suite(
    "stress-ng",
    f"{len(STRESSORS)} stressors of files and directories",
    lambda _into: getting.packages("stress-ng:stress-ng"),
    lambda: places.program("stress-ng") is not None,
    _run,
)
