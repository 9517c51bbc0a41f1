"""fio writes with each of its engines, and compares what it reads with what it wrote."""

from __future__ import annotations

from pathlib import Path

from tools.suites import bounded, getting, places
from tools.suites.counts import Counts
from tools.suites.suite import Suite

_SECONDS = 120
_ENGINES = ("psync", "pvsync2", "mmap", "libaio", "io_uring")
_PATTERNS = {
    "write": ("--rw=write", "--bs=64k"),
    "randwrite": ("--rw=randwrite", "--bs=4k"),
    "randrw": ("--rw=randrw", "--bs=4k"),
    "odd": ("--rw=randwrite", "--bsrange=512-60k", "--bs_unaligned=1"),
}
_COMMON = ("--size=8m", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--iodepth=8", "--randrepeat=1")


def _run(where: Path) -> Counts:
    counts = Counts()
    for direct in (0, 1):
        for engine in _ENGINES:
            for pattern, options in _PATTERNS.items():
                if direct and (pattern == "odd" or engine == "mmap"):
                    continue
                name = f"{engine}-{pattern}{'-direct' if direct else ''}"
                command = [str(places.program("fio")), f"--name={name}", f"--directory={where}", f"--ioengine={engine}"]
                command += [f"--direct={direct}", "--group_reporting", *_COMMON, *options]
                ended = bounded.run(command, where, _SECONDS)
                (where / f"{name}.0.0").unlink(missing_ok=True)
                if ended.status == 0:
                    counts.passed.add(name)
                else:
                    counts.failed[name] = _reason(ended)
    return counts


def _reason(ended: bounded.Ended) -> str:
    said = [line for line in ended.output.splitlines() if "error" in line.lower() or "verify" in line.lower()]
    return said[0][:200] if said and ended.status is not None else ended.why


SUITE = Suite(
    "fio",
    "writing and comparing by psync, pvsync2, mmap, libaio and io_uring, through the cache and past it",
    lambda _into: getting.packages("fio:fio"),
    lambda: places.program("fio") is not None,
    _run,
)
