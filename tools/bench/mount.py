"""What the mounts cost: reading, listing and writing, beside the disk and other programs' mounts.

"Cold" is: just mounted, with none of the bytes in memory; only names and attributes on the disk itself stay there, in
favour of what is compared. "Again" is the same once more. "daemon" is the peak of the process that mounts, "calls" how
often it asked its own daemon.
"""

from __future__ import annotations

import json
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.bench.measure import MIB, Bench, Contender, Sample, Server, alternate, compare, line, serving
from tools.bench.measure import run_command as run
from tools.bench.places import REPO, Place, pfsd_place, places
from tools.bench.store import write_random

KIB = 1024
RANDOM_READS = 2000
A_DIRECTORY = 1000
"""Files to a directory, where there are several."""

_DISK = "cp -r on the disk"
_RANDOM = """
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
chosen = random.Random(1)
for _ in range(int(sys.argv[2])):
    assert os.pread(fd, 4096, chosen.randrange(size - 4096))
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    file_bytes: int = 256 * MIB
    small: int = 20_000
    listed: int = 100_000
    """Files in the one directory that is listed."""
    found: int = 200_000
    """Files of the tree that is walked."""
    rounds: int = 3
    slow_rounds: int = 1
    """Where others take minutes."""
    peers: bool = True


DEFAULT = Scale()
LARGE = replace(DEFAULT, found=1_000_000)
QUICK = Scale(MIB, 50, 200, 300, 1, 1, False)


def run_all(bench: Bench, large: bool, quick: bool) -> None:
    """Print all tables."""
    scale = LARGE if large else QUICK if quick else DEFAULT
    one_file(bench, scale)
    small_files(bench, scale)
    one_directory(bench, scale)
    walk(bench, scale)
    copy_into_commit(bench, scale)
    copy_into_out(bench, scale)


# --- reading


def one_file(bench: Bench, scale: Scale) -> None:
    """One large file of random bytes, in order and at random."""
    with bench.scratch() as source:
        write_random(source / "file", scale.file_bytes, random.Random(1))
        with places(bench, source, scale.peers) as found:
            size = scale.file_bytes // MIB
            read(bench, found, f"cat of {size} MiB", ["cat", "file"], scale.rounds, size, "MiB")
            command = [sys.executable, "-c", _RANDOM, "file", str(RANDOM_READS)]
            title = f"{RANDOM_READS:,} random reads of 4 KiB in {size} MiB"
            read(bench, found, title, command, scale.rounds, RANDOM_READS, "reads")


def small_files(bench: Bench, scale: Scale) -> None:
    """Files of 1 KiB."""
    with bench.scratch() as source:
        write_files(source, scale.small, KIB)
        with places(bench, source, scale.peers) as found:
            command = ["sh", "-c", "cat */*"]
            read(bench, found, f"cat of {scale.small:,} files of 1 KiB", command, scale.rounds, scale.small, "files")


def one_directory(bench: Bench, scale: Scale) -> None:
    """`ls -l` of many files."""
    with bench.scratch() as source:
        write_files(source, scale.listed, 16, a_directory=scale.listed)
        with places(bench, source, scale.peers) as found:
            title = f"ls -l of a directory of {scale.listed:,}"
            read(bench, found, title, ["ls", "-l", "00000"], scale.slow_rounds, scale.listed, "files", scale.listed)


def walk(bench: Bench, scale: Scale) -> None:
    """`find` over a tree that others would take very long to store: beside the disk only."""
    with bench.scratch() as scratch:
        write_files(scratch / "source", scale.found, 0)
        with serving(scratch / "root") as server:
            server.pachctl("create-repo", REPO)
            server.pachctl("put-file", "-c", "-r", REPO, "master", "/", "-f", str(scratch / "source"))
            found = [pfsd_place(server.root, server.address), Place("ext4, or what is below", scratch / "source")]
            for name, command in (("find", ["find", "."]), ("find -ls", ["find", ".", "-ls"])):
                title = f"{name} over {scale.found:,} files"
                read(bench, found, title, command, scale.slow_rounds, scale.found, "files", scale.found)


def read(
    bench: Bench,
    found: Sequence[Place],
    title: str,
    command: Sequence[str],
    rounds: int,
    amount: float,
    unit: str,
    lines: int | None = None,
) -> None:
    """Two tables of a command that reads: cold, and again."""
    again: dict[str, list[Sample]] = {place.name: [] for place in found}

    def cold(place: Place) -> Sample:
        with place.opened(bench) as opened:
            first = opened.run(command, lines)
            again[place.name].append(opened.run(command, lines))
            return first

    contenders: dict[str, Contender] = {place.name: lambda place=place: cold(place) for place in found}  # type: ignore[misc]
    compare(f"{title}, cold", alternate(contenders, rounds), amount, unit)
    compare(f"{title}, again", again, amount, unit)


def write_files(directory: pathlib.Path, count: int, size: int, a_directory: int = A_DIRECTORY) -> None:
    """Write files of `size` bytes, all different, into numbered directories."""
    chosen = random.Random(3)
    for number in range(count):
        path = directory / f"{number // a_directory:05d}" / f"file-{number:07d}"
        if number % a_directory == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(chosen.randbytes(size))


# --- writing


def copy_into_commit(bench: Bench, scale: Scale) -> None:
    """`cp -r` of tiny files into an open commit, and beside it on the disk."""
    with bench.scratch() as scratch, serving(scratch / "root") as server:
        write_files(scratch / "source", scale.small, 16)
        server.pachctl("create-repo", REPO)
        finishing: list[float] = []
        with replace(pfsd_place(server.root, server.address), inside=REPO).opened(bench) as opened:
            branches = iter(range(scale.rounds))

            def into_commit() -> Sample:
                branch = opened.path / f"round-{next(branches)}"
                branch.mkdir()
                sample = opened.run(["cp", "-r", str(scratch / "source"), str(branch)])
                finishing.append(run(["setfattr", "-n", "user.pfs.finish", str(branch)]).seconds)
                return sample

            contenders = {
                "pfsd, into an open commit": into_commit,
                "cp -r on the disk": lambda: on_disk(bench, scratch),
            }
            samples = alternate(contenders, scale.rounds)
        compare(f"cp -r of {scale.small:,} tiny files", samples, scale.small, "files")
        line("finishing the commit then", statistics.median(finishing))


def on_disk(bench: Bench, scratch: pathlib.Path) -> Sample:
    """The cost of a copy on the disk."""
    with bench.scratch() as target:
        return run(["cp", "-r", str(scratch / "source"), str(target / "copy")])


def copy_into_out(bench: Bench, scale: Scale) -> None:
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

        contenders = {"pfsd, into /pfs/out": into_out, _DISK: lambda: on_disk(bench, scratch)}
        samples = alternate(contenders, scale.rounds)
        compare(f"cp -r of {scale.small:,} tiny files in a job", samples, scale.small, "files")
        line("the whole job, with its output in the store", statistics.median(jobs))


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
