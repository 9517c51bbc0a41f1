"""What the mounts cost: reading, listing and writing, beside the disk and other programs' mounts.

"Cold" is: just mounted, with none of the bytes in memory (see `places.drop_memory`). "Again" is the same once more.
"daemon" is the peak of the process that mounts, "calls" how often it asked its own daemon.
"""

from __future__ import annotations

import json
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.bench import written
from tools.bench.goals import Goal, Goals
from tools.bench.measure import MIB, Bench, Contender, Sample, Server, alternate, compare, line, serving
from tools.bench.measure import run_command as run
from tools.bench.peers import places
from tools.bench.places import DISK, REPO, Place, pfsd_place
from tools.bench.scale import DEFAULT, LARGE, QUICK, Scale
from tools.bench.sources import write_files, write_source
from tools.bench.store import write_random

KIB = 1024

_ON_DISK = "cp -r on the disk"
_RANDOM = """
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
chosen = random.Random(1)
for _ in range(int(sys.argv[2])):
    assert os.pread(fd, 4096, chosen.randrange(size - 4096))
"""


def run_all(bench: Bench, large: bool, quick: bool) -> None:
    """Print all tables."""
    _run(list(_GROUPS), bench, large, quick)


def run_group(name: str) -> Callable[[Bench, bool, bool], None]:
    """What prints the tables of one group."""
    return lambda bench, large, quick: _run([name], bench, large, quick)


def _run(names: Sequence[str], bench: Bench, large: bool, quick: bool) -> None:
    goals = Goals()
    try:
        for name in names:
            _GROUPS[name](bench, LARGE if large else QUICK if quick else DEFAULT, goals)
    finally:
        goals.show()


# --- reading


def one_file(bench: Bench, scale: Scale, goals: Goals) -> None:
    """One large file of random bytes, in order and at random."""
    with bench.scratch() as source:
        write_random(source / "file", scale.file_bytes, random.Random(1))
        with places(bench, source, scale.peers) as found:
            size = scale.file_bytes // MIB
            reading = Reading(bench, scale.rounds, goals)
            reading.both(found, f"cat of {size} MiB", ["cat", "file"], size, "MiB", Goal(1), Goal(1.5))
            command = [sys.executable, "-c", _RANDOM, "file", str(scale.random_reads)]
            title = f"{scale.random_reads:,} random reads in {size} MiB"
            reading.both(found, title, command, scale.random_reads, "reads", Goal(1.3))


def small_files(bench: Bench, scale: Scale, goals: Goals) -> None:
    """Files of 1 KiB, in one directory."""
    with bench.scratch() as source:
        write_files(source, scale.small, KIB, a_directory=scale.small)
        with places(bench, source, scale.peers) as found:
            count = scale.small
            reading = Reading(bench, scale.rounds, goals)
            command = ["ls", "-l", "00000"]
            reading.both(found, f"ls -l of {count:,} files", command, count, "files", Goal(1), Goal(1), count)
            command = ["sh", "-c", "cat */*"]
            reading.both(found, f"cat of {count:,} files of 1 KiB", command, count, "files", Goal(1), Goal(2))


def source_files(bench: Bench, scale: Scale, goals: Goals) -> None:
    """Files as those of programs, in many directories."""
    with bench.scratch() as source:
        write_source(source, scale.source)
        with places(bench, source, scale.peers) as found:
            reading = Reading(bench, scale.rounds, goals)
            command = ["sh", "-c", "tar c . | cat"]  # tar reads nothing where it sees that it writes to /dev/null
            title = f"tar c of {scale.source:,} source files"
            reading.both(found, title, command, scale.source, "files", Goal(1.5), Goal(1.5))


def walk(bench: Bench, scale: Scale, goals: Goals) -> None:
    """`find` over a tree that others would take very long to store: beside the disk only."""
    with bench.scratch() as scratch:
        write_files(scratch / "source", scale.found, 0)
        with serving(scratch / "root") as server:
            server.pachctl("create-repo", REPO)
            server.pachctl("put-file", "-c", "-r", REPO, "master", "/", "-f", str(scratch / "source"))
            found = [pfsd_place(server), Place(DISK, scratch / "source")]
            reading = Reading(bench, scale.slow_rounds, goals)
            for name, command in (("find", ["find", "."]), ("find -ls", ["find", ".", "-ls"])):
                title = f"{name} over {scale.found:,} files"
                reading.both(found, title, command, scale.found, "files", Goal(3), Goal(3), scale.found)


@dataclass(frozen=True, slots=True)
class Reading:
    """Commands that read, cold and again."""

    bench: Bench
    rounds: int
    goals: Goals

    def both(
        self,
        found: Sequence[Place],
        title: str,
        command: Sequence[str],
        amount: float,
        unit: str,
        cold: Goal | None = None,
        again: Goal | None = None,
        lines: int | None = None,
    ) -> None:
        """Two tables of a command; `lines` is how many it prints at least."""
        repeated: dict[str, list[Sample]] = {place.name: [] for place in found}

        def read(place: Place) -> Sample:
            with place.opened(self.bench) as opened:
                first = opened.run(command, lines)
                repeated[place.name].append(opened.run(command, lines))
                return first

        contenders: dict[str, Contender] = {place.name: lambda place=place: read(place) for place in found}  # type: ignore[misc]
        self.goals.compare(f"{title}, cold", alternate(contenders, self.rounds), amount, unit, cold)
        self.goals.compare(f"{title}, again", repeated, amount, unit, again)


# --- writing


def copy_into_out(bench: Bench, scale: Scale, goals: Goals) -> None:
    """`cp -r` of tiny files into a job's /pfs/out, as the command itself sees it, and beside it on the disk."""
    with bench.scratch() as scratch, serving(scratch / "root", pipelines=True) as server:
        write_files(scratch / "source", scale.small, 16)
        pipeline = Pipeline(server, scratch, f"cp -r {scratch / 'source'} /pfs/out/copy")
        jobs: list[float] = []

        def into_out() -> Sample:
            started = time.perf_counter()
            sample = pipeline.run()
            jobs.append(time.perf_counter() - started)
            return sample

        contenders = {"pfsd, into /pfs/out": into_out, _ON_DISK: lambda: _on_disk(bench, scratch)}
        samples = alternate(contenders, scale.rounds)
        compare(f"cp -r of {scale.small:,} tiny files in a job", samples, scale.small, "files")
        line("the whole job, with its output in the store", statistics.median(jobs))


def _on_disk(bench: Bench, scratch: pathlib.Path) -> Sample:
    """The cost of a copy on the disk."""
    with bench.scratch() as target:
        return run(["cp", "-r", str(scratch / "source"), str(target / "copy")])


class Pipeline:
    """A pipeline that runs one command for each commit."""

    def __init__(self, server: Server, scratch: pathlib.Path, command: str) -> None:
        self._server = server
        self._scratch = scratch
        self._commits = 0
        program = (
            f"import time, subprocess\nat = time.perf_counter()\nsubprocess.run({command!r}, shell=True, check=True)\n"
        )
        program += f"open({str(self._times)!r}, 'w').write(str(time.perf_counter() - at))\n"
        spec = {
            "pipeline": {"name": "out"},
            "transform": {"cmd": [sys.executable, "-c", program]},
            "input": {"atom": {"repo": "in", "glob": "/*"}},
        }
        (scratch / "spec.json").write_text(json.dumps(spec))
        server.pachctl("create-repo", "in")
        server.pachctl("create-pipeline", "-f", str(scratch / "spec.json"))

    @property
    def _times(self) -> pathlib.Path:
        return self._scratch / "seconds"

    def run(self) -> Sample:
        """Make a commit, await its job, and tell for how long its command ran."""
        self._commits += 1
        (self._scratch / "input").write_text(str(self._commits))
        self._server.pachctl("put-file", "-c", "-o", "in", "master", "input", "-f", str(self._scratch / "input"))
        self._server.pachctl("flush-commit", "in/master")
        seconds = float(self._times.read_text())
        self._times.unlink()
        return Sample(seconds, daemon=self._server.peak)


_GROUPS: dict[str, Callable[[Bench, Scale, Goals], None]] = {
    "file": one_file,
    "small": small_files,
    "source": source_files,
    "find": walk,
    "copy": written.one_file,
    "tiny": written.tiny_files,
    "untar": written.source_files,
    "out": copy_into_out,
}
GROUPS = list(_GROUPS)
