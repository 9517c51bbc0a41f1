"""What writing through the mount costs: into an open commit, beside JuiceFS and the disk."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tools.bench.goals import Goal, Goals
from tools.bench.measure import MIB, Bench, Contender, Sample, alternate, serving
from tools.bench.measure import run_command as run
from tools.bench.peers import installed, juicefs_place
from tools.bench.places import DISK, PFSD, REPO, Opened, Place, pfsd_place
from tools.bench.scale import Scale
from tools.bench.sources import write_files, write_source
from tools.bench.store import write_random

Steps = Callable[[Opened, pathlib.Path], Mapping[str, Sample]]
"""What is done in a directory of a place, and what each part of it cost."""


def one_file(bench: Bench, scale: Scale, goals: Goals) -> None:
    """`cp` of a large file, until the daemon, or the disk, has all of it."""
    size = scale.file_bytes // MIB
    with bench.scratch() as source:
        write_random(source / "file", scale.file_bytes, random.Random(1))

        def steps(opened: Opened, directory: pathlib.Path) -> Mapping[str, Sample]:
            target = directory / "file"
            return {"cp": opened.run(["sh", "-c", f"cp {source / 'file'} {target} && sync {target}"])}

        with _targets(bench, scale.peers) as targets:
            samples = _measure(bench, targets, source, steps, scale.rounds)
        goals.compare(f"cp of {size} MiB, synced", samples["cp"], size, "MiB", Goal(faster_than_juicefs=1.3))


def tiny_files(bench: Bench, scale: Scale, goals: Goals) -> None:
    """`cp -r` of tiny files and `rm -rf` of them in the next commit, each finished."""
    with bench.scratch() as source:
        write_files(source / "source", scale.small, 16)

        def steps(opened: Opened, directory: pathlib.Path) -> Mapping[str, Sample]:
            done = {"cp": opened.run(["cp", "-r", str(source / "source"), str(directory / "copy")])}
            if opened.counts:
                done["finish"] = opened.run(_set("finish", directory))
                run(_set("start", directory))
            done["rm"] = opened.run(["rm", "-rf", str(directory / "copy")])
            if opened.counts:
                done["finish rm"] = opened.run(_set("finish", directory))
            return done

        with _targets(bench, scale.peers) as targets:
            samples = _measure(bench, targets, source, steps, scale.rounds)
        count = scale.small
        goals.compare(f"cp -r of {count:,} tiny files", samples["cp"], count, "files", Goal(4))
        goals.compare("finishing the commit then", samples["finish"], count, "files")
        goals.compare(f"rm -rf of {count:,} tiny files", samples["rm"], count, "files", Goal(4))
        goals.compare("finishing the commit after rm -rf", samples["finish rm"], count, "files")


def source_files(bench: Bench, scale: Scale, goals: Goals) -> None:
    """`tar x` of files as those of programs."""
    with bench.scratch() as source:
        write_source(source / "source", scale.source)
        run(["tar", "cf", str(source / "source.tar"), "-C", str(source), "source"])

        def steps(opened: Opened, directory: pathlib.Path) -> Mapping[str, Sample]:
            return {"tar": opened.run(["tar", "xf", str(source / "source.tar"), "-C", str(directory)])}

        with _targets(bench, scale.peers) as targets:
            samples = _measure(bench, targets, source, steps, scale.rounds)
        goals.compare(f"tar x of {scale.source:,} source files", samples["tar"], scale.source, "files", Goal(8))


@contextmanager
def _targets(bench: Bench, peers: bool) -> Iterator[Sequence[Place]]:
    """Places that can be written: ours first, then JuiceFS where it is installed, the disk last."""
    with bench.scratch() as scratch, serving(scratch / "root") as server:
        server.pachctl("create-repo", REPO)
        found = [replace(pfsd_place(server), inside=REPO)]
        if peers and installed("juicefs"):
            found.append(juicefs_place(scratch / "juicefs"))
        (scratch / "disk").mkdir()
        yield [*found, Place(DISK, scratch / "disk")]


def _measure(
    bench: Bench, targets: Sequence[Place], source: pathlib.Path, steps: Steps, rounds: int
) -> Mapping[str, Mapping[str, Sequence[Sample]]]:
    """What each step cost in each place, which is mounted anew for each round; in our mount, a branch is a round.

    `source`, from which they write, is in memory by then.
    """
    measured: dict[str, dict[str, list[Sample]]] = {}
    numbers = iter(range(rounds * len(targets)))

    def write(place: Place) -> Sample:
        with place.opened(bench) as opened:
            directory = opened.path / f"round-{next(numbers)}"
            directory.mkdir()
            run(["sh", "-c", f"tar c {source} | cat"])
            for step, sample in steps(opened, directory).items():
                measured.setdefault(step, {PFSD: []}).setdefault(place.name, []).append(sample)
        return sample

    contenders: dict[str, Contender] = {place.name: lambda place=place: write(place) for place in targets}  # type: ignore[misc]
    alternate(contenders, rounds)
    return measured


def _set(attribute: str, directory: pathlib.Path) -> list[str]:
    return ["setfattr", "-n", f"user.pfs.{attribute}", str(directory)]
