"""Killing the daemon and its workers in the middle of jobs: nothing is lost, done twice, or left behind.

`PPSD_CRASHES=300 pytest tests/ppsd/engine/faults/test_kills.py` kills that often instead of a few times.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import time

import pytest

from pachproto import pfs_pb2, pps_pb2
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from tests.support.daemons import Daemon, running
from tests.support.pipelines import all_ended, atom, flush, inspect, spec
from tests.support.processes import MARK, below, check_nothing_outlives

KILLS = int(os.environ.get("PPSD_CRASHES", "8"))
WARM_SECONDS, COLD_SECONDS = 0.4, 1.6
"""About how long a commit takes to go through the DAG, with its workers there and without."""
DATUMS = 4
"""Files that a commit adds or changes."""
COPY = 'for f in /pfs/in/*; do cat "$f" > "/pfs/out/${f##*/}"; done'
SLOW = "sleep 0.0$((RANDOM % 10))"


class Dag:
    """Commits to `a`, each file of which `b` copies, and all of which `c` copies; `d` puts the two together."""

    def __init__(self, daemon: Daemon, chosen: random.Random) -> None:
        self.daemon = daemon
        self._chosen = chosen
        self.commits: list[pfs_pb2.Commit] = []
        self.contents: list[dict[str, bytes]] = []
        daemon.create_repo("a")
        meet = {"cross": [atom("b", "/"), atom("c", "/")]}
        for request in (
            spec("b", transform=_bash(SLOW, COPY), input=atom("a", name="in")),
            spec("c", parallelism_spec={"constant": 1}, transform=_bash(COPY, SLOW), input=atom("a", "/", name="in")),
            spec(
                "d",
                parallelism_spec={"constant": 1},
                transform=_bash("cat /pfs/b/* /pfs/c/* > /pfs/out/all"),
                input=meet,
            ),
        ):
            daemon.pps.CreatePipeline(request)

    def add(self) -> None:
        """A commit that puts some files anew, under old names and new ones."""
        number = len(self.commits)
        files = {f"f{self._chosen.randrange(20)}": b"%d %d\n" % (number, place) for place in range(DATUMS)}
        self.contents.append({**(self.contents[-1] if self.contents else {}), **files})
        at = self.daemon.start_commit("a")
        for path, data in files.items():
            self.daemon.put(at, path, data, overwrite=True)
        self.daemon.finish_commit(at)
        self.commits.append(at)

    def check(self, number: int) -> None:
        """The outputs of a commit are whole, and there is one of each."""
        files = self.contents[number]
        found = {info.commit.repo.name: info.commit for info in flush(self.daemon, self.commits[number])}
        assert sorted(found) == ["b", "c", "d"]
        for repo in "bc":
            listed = self.daemon.list(found[repo])
            assert {path: self.daemon.get(found[repo], path) for path in listed} == files
        whole = b"".join(files[name] for name in sorted(files))
        assert self.daemon.get(found["d"], "all") == whole * 2

    def check_all(self) -> int:
        """Every commit had one job of each pipeline, every datum was computed in one job; how many jobs began anew."""
        count, restarts = len(self.commits), 0
        for number in range(count):
            self.check(number)
        for pipeline, datums in {"b": _changes(self.contents), "c": count, "d": count}.items():
            jobs = all_ended(self.daemon, count, pipeline)
            assert len({str(job.input) for job in jobs}) == len(jobs) == count
            assert {job.state for job in jobs} == {pps_pb2.JOB_SUCCESS}
            assert dict(inspect(self.daemon, pipeline).job_counts) == {pps_pb2.JOB_SUCCESS: count}
            assert all(job.data_processed + job.data_skipped == job.data_total for job in jobs)
            assert sum(job.data_processed for job in jobs) == datums
            listed = self.daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=pipeline)))
            assert len(listed.commit_info) == count
            assert all(info.HasField("finished") for info in listed.commit_info)
            restarts += sum(job.restart > 0 for job in jobs)
        return restarts


def _bash(*lines: str) -> dict[str, list[str]]:
    return {"cmd": ["bash", "-e"], "stdin": list(lines)}


def _changes(contents: list[dict[str, bytes]]) -> int:
    """How many different files there were: the datums of `b`."""
    return len({item for files in contents for item in files.items()})


# --- processes


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> str:
    """What tells the processes of this test from others."""
    monkeypatch.setenv(MARK, str(tmp_path))
    return str(tmp_path)


def kill_daemon(daemon: Daemon, mark: str) -> None:
    """Kill the daemon, and start it again."""
    daemon.kill()
    check_nothing_outlives(daemon, mark)
    daemon.start()


def kill_below(daemon: Daemon, mark: str, chosen: random.Random) -> None:
    """Kill something that the daemon started: a worker, a runner or user code."""
    processes = sorted(below(mark, daemon))
    if processes:
        try:
            os.kill(chosen.choice(processes), signal.SIGKILL)
        except ProcessLookupError:  # it has ended meanwhile
            pass


# --- the test


def test_kills_at_any_moment_lose_nothing_and_do_nothing_twice(tmp_path: pathlib.Path, marked: str) -> None:
    seed = int(os.environ.get("PFSD_SEED", "0")) or random.randrange(1 << 32)
    print(f"PFSD_SEED={seed}")  # noqa: T201 (shown when the test fails)
    chosen = random.Random(seed)
    with running(tmp_path / "root") as daemon:
        dag = Dag(daemon, chosen)
        for number in range(KILLS):
            dag.add()
            # The moment of the kill: any will do, while jobs run.
            time.sleep(chosen.uniform(0, chosen.choice((WARM_SECONDS, COLD_SECONDS))))
            if number % 4 == 3:
                kill_below(daemon, marked, chosen)
            else:
                kill_daemon(daemon, marked)
            if chosen.random() < 0.5:
                dag.check(len(dag.commits) - 1)
        restarts = dag.check_all()
        print(f"{KILLS} kills, {restarts} jobs that one of them or more met")  # noqa: T201 (shown on demand)
    assert list(below(marked, daemon)) == []
    assert [found for found in fsck.check_root(tmp_path / "root", False) if isinstance(found, Problem)] == []
    assert not list((tmp_path / "root/scratch").glob("workers/*/*"))
