"""Killing the daemon (SIGKILL) just before and just after each thing that the pipeline service changes.

By default some of these moments are drawn; `PPSD_PHASES=all pytest -s tests/ppsd/engine/faults/test_phases.py` goes
through all of them, some hundreds, in about a quarter of an hour.
"""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from tests.support.daemons import Daemon
from tests.support.daemons import commit as named
from tests.support.pipelines import atom, delete, ended, flush, inspect, spec, until, update
from tests.support.processes import MARK, check_nothing_outlives
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server

EACH_PHASE = os.environ.get("PPSD_PHASES") == "all"
DRAWN = 2
"""Moments of each scene at which it is killed where not all are tried."""
DEATH_SECONDS = 10.0
"""A daemon whose calls fail has killed itself, and is gone after so long."""


@dataclass
class World:
    """A root, and what should be in it."""

    daemon: Daemon
    notes: pathlib.Path
    content: dict[str, bytes] = field(default_factory=dict)
    """Of the head of `in`."""
    version: int = 0
    """What the pipeline `each` writes behind each file."""
    numbers: list[int] = field(default_factory=list)

    def start(self, deadly: int) -> None:
        """Start the daemon, which will kill itself at a step."""
        os.environ["PFSD_KILL_STEP"] = str(deadly)
        os.environ["PFSD_KILL_NOTES"] = str(self.notes)
        self.notes.unlink(missing_ok=True)
        self.daemon.start()

    def steps(self) -> list[str]:
        """The steps that the present daemon, or the one that was killed last, has taken."""
        return self.notes.read_text().splitlines() if self.notes.exists() else []


class Scene:
    """Something that a user does, in a way that can be begun again, and what comes of it."""

    def __init__(self, world: World, turn: int) -> None:
        self.world = world
        self.turn = turn
        self.commits: dict[str, pfs_pb2.Commit] = {}

    def play(self) -> None:
        """Do it, and wait until all is as it has to be."""
        raise AssertionError("each scene has its own")

    def commit(self, repo: str, key: str, files: dict[str, bytes | None]) -> pfs_pb2.Commit:
        """A finished commit with these files put, or removed."""
        daemon = self.world.daemon
        at = self.commits.get(key)
        if at is None:
            at = self.commits[key] = self._start(repo)
        if not daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=at)).HasField("finished"):
            for path, data in files.items():
                if data is None:
                    file = pfs_pb2.File(commit=at, path=path)
                    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=file))
                else:
                    daemon.put(at, path, data, overwrite=True)
            daemon.finish_commit(at)
        return at

    def _start(self, repo: str) -> pfs_pb2.Commit:
        """Start a commit, or find the one whose start was not answered."""
        daemon = self.world.daemon
        listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo))).commit_info
        unfinished: list[pfs_pb2.Commit] = [info.commit for info in listed if not info.HasField("finished")]
        return unfinished[0] if unfinished else daemon.start_commit(repo)

    def job(self, pipeline: str, at: pfs_pb2.Commit) -> pps_pb2.JobInfo:
        """The one job of a pipeline over a commit."""

        def found() -> list[pps_pb2.JobInfo]:
            request = pps_pb2.ListJobRequest(pipeline=pps_pb2.Pipeline(name=pipeline), input_commit=[at])
            return list(self.world.daemon.pps.ListJob(request).job_info)

        [job] = until(found)
        assert isinstance(job, pps_pb2.JobInfo)
        return job

    def files(self, at: pfs_pb2.Commit) -> dict[str, bytes]:
        """All files of a commit."""
        return {path: self.world.daemon.get(at, path) for path in self.world.daemon.list(at)}

    def output(self, repo: str) -> dict[str, bytes]:
        """All files of the head of a repo."""
        return self.files(named(repo, "master"))


class Succeeding(Scene):
    """A commit goes through two pipelines, of which the first keeps stats and pushes its output."""

    def play(self) -> None:
        files = {"same": b"same", f"new-{self.turn % 3}": b"%d" % self.turn}
        self.world.content |= files
        at = self.commit("in", "in", {**files})
        made = {info.commit.repo.name: info.commit for info in flush(self.world.daemon, at)}
        assert sorted(made) == ["all", "each"]
        expected = {name: data + b"%d" % self.world.version for name, data in self.world.content.items()}
        assert self.output("each") == expected
        assert self.output("all") == {"all": b"".join(expected[name] for name in sorted(expected))}
        job = ended(self.world.daemon, self.job("each", at))
        assert job.state == pps_pb2.JOB_SUCCESS
        assert (job.data_processed + job.data_skipped, job.data_total) == (len(expected), len(expected))
        assert job.data_processed <= len(files)
        assert sum(len(path) == 65 for path in self.world.daemon.list(job.stats_commit, "/")) == len(expected)


class Failing(Scene):
    """A datum fails; the next commit is without it."""

    def play(self) -> None:
        bad = self.commit("risky", "bad", {"bad": b"exit 7", "good": b"echo %d" % self.turn})
        job = ended(self.world.daemon, self.job("careful", bad))
        assert job.state == pps_pb2.JOB_FAILURE
        info = self.world.daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=job.output_commit))
        assert not info.HasField("finished")
        good = self.commit("risky", "good", {"bad": None})
        assert ended(self.world.daemon, self.job("careful", good)).state == pps_pb2.JOB_SUCCESS
        assert self.output("careful") == {"good": b"%d\n" % self.turn}


class Stopping(Scene):
    """A job that never ends is stopped; the next commit is without what held it up."""

    def play(self) -> None:
        daemon = self.world.daemon
        endless = self.commit("risky", "endless", {"endless": b"sleep 1000", "good": b"echo %d" % self.turn})
        job = self.job("careful", endless)
        daemon.pps.StopJob(pps_pb2.StopJobRequest(job=job.job), timeout=60)
        assert ended(daemon, job).state == pps_pb2.JOB_KILLED
        good = self.commit("risky", "good", {"endless": None})
        assert ended(daemon, self.job("careful", good)).state == pps_pb2.JOB_SUCCESS
        assert self.output("careful") == {"good": b"%d\n" % self.turn}


class Updating(Scene):
    """A pipeline's next version writes something else."""

    def play(self) -> None:
        self.world.version = self.turn
        request = each(self.turn)
        if inspect(self.world.daemon, "each").transform != request.transform:
            update(self.world.daemon, request)
        assert inspect(self.world.daemon, "each").transform == request.transform
        expected = {name: data + b"%d" % self.turn for name, data in self.world.content.items()}
        until(lambda: self._whole("each") == expected)
        until(lambda: self._whole("all") == {"all": b"".join(expected[name] for name in sorted(expected))})

    def _whole(self, repo: str) -> dict[str, bytes] | None:
        """The files of the head of a repo, once it is there and finished."""
        try:
            info = self.world.daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=named(repo, "master")))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return None  # the former output's branch is renamed, the next commit not started
        return self.files(info.commit) if info.HasField("finished") else None


class Adding(Scene):
    """An incremental pipeline goes on from its former sum."""

    def play(self) -> None:
        numbers = self.world.numbers
        if self.turn not in numbers:
            numbers.append(self.turn)
        at = self.commit("numbers", "numbers", {f"{self.turn:05}": b"%d\n" % self.turn})
        job = ended(self.world.daemon, self.job("sum", at))
        assert (job.state, job.data_processed, job.data_total) == (pps_pb2.JOB_SUCCESS, 1, 1)
        assert self.output("sum") == {"sum": b"%d\n" % sum(numbers)}


class ComingAndGoing(Scene):
    """A pipeline is made, has its job, and is deleted with all that it made."""

    name = "brief"

    def __init__(self, world: World, turn: int) -> None:
        super().__init__(world, turn)
        self.has_run = False

    def play(self) -> None:
        daemon = self.world.daemon
        if not self.has_run:
            if not self._there():
                daemon.pps.CreatePipeline(spec(self.name))
            until(lambda: self._jobs(pps_pb2.JOB_SUCCESS))
            self.has_run = True
        if self._there():
            try:
                delete(daemon, self.name, delete_jobs=True, delete_repo=True)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise  # otherwise the daemon went on with it by itself, after its start
        assert not self._there()
        assert not self._jobs()
        repos = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info
        assert self.name not in {info.repo.name for info in repos}

    def _there(self) -> bool:
        pipelines = self.world.daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest()).pipeline_info
        return self.name in {info.pipeline.name for info in pipelines}

    def _jobs(self, *states: int) -> list[pps_pb2.JobInfo]:
        found = self.world.daemon.pps.ListJob(pps_pb2.ListJobRequest()).job_info
        return [job for job in found if job.pipeline.name == self.name and (not states or job.state in states)]


def each(version: int) -> pps_pb2.CreatePipelineRequest:
    """A pipeline that copies its files and writes a number behind each."""
    lines = [f'for f in /pfs/in/*; do {{ cat "$f"; printf {version}; }} > "/pfs/out/${{f##*/}}"; done']
    return spec("each", lines, enable_stats=True, egress={"URL": "s3://data/each"})


@pytest.fixture
def world(tmp_path: pathlib.Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PFSD_KILL_STEP", "0")
    monkeypatch.setenv("PFSD_KILL_NOTES", "")
    monkeypatch.setenv(MARK, str(tmp_path))
    daemon = Daemon(tmp_path / "root", program="tests.support.faulty.killpoints")
    made = World(daemon, tmp_path / "notes")
    try:
        made.start(0)
        for repo in ("in", "risky", "numbers"):
            daemon.create_repo(repo)
        one = {"constant": 1}
        adding = [
            "cd /pfs/out; touch sum; echo $(($(cat sum - /pfs/numbers/* < /dev/null | paste -sd+))) > new; mv new sum"
        ]
        for request in (
            each(0),
            spec("all", ["cat /pfs/each/* > /pfs/out/all"], input=atom("each", "/"), parallelism_spec=one),
            spec("careful", ['for f in /pfs/risky/*; do sh "$f" > "/pfs/out/${f##*/}"; done'], input=atom("risky")),
            spec("sum", adding, input=atom("numbers", "/"), incremental=True, parallelism_spec=one),
        ):
            daemon.pps.CreatePipeline(request)
        yield made
    finally:
        daemon.end()


def gone(world: World) -> None:
    """The daemon has killed itself, and left nothing that runs."""
    assert world.daemon.process is not None
    try:
        world.daemon.process.wait(DEATH_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError("the daemon does not answer, and lives") from None
    world.daemon.kill()
    check_nothing_outlives(world.daemon, str(world.daemon.root.parent))


def play(world: World, scene: Scene, deadly: int) -> str:
    """Play a scene with a daemon that is killed at a step; gives the step's name, or nothing if it was not reached."""
    killed = ""
    try:
        world.start(deadly)
        scene.play()
    except (grpc.RpcError, AssertionError):
        steps = world.steps()
        if not deadly or len(steps) < deadly:
            raise
        killed = steps[deadly - 1]
        gone(world)
        world.start(0)
        scene.play()
    world.daemon.end()
    return killed


@pytest.mark.parametrize("kind", [Succeeding, Failing, Stopping, Updating, Adding, ComingAndGoing])
def test_a_kill_at_any_step_loses_nothing(world: World, moto: S3Server, kind: Callable[[World, int], Scene]) -> None:
    seed = int(os.environ.get("PFSD_SEED", "0")) or random.randrange(1 << 32)
    print(f"PFSD_SEED={seed}")  # noqa: T201 (shown when the test fails)
    world.daemon.end()
    play(world, Succeeding(world, 1), 0)
    turn = 2
    play(world, kind(world, turn), 0)
    count = len(world.steps())
    moments = list(range(1, count + 1))
    if not EACH_PHASE:
        random.Random(seed).shuffle(moments)
    killed: list[str] = []
    # Where several pipelines run, and workers come, the steps come in another order, and now and then fewer.
    for tried, moment in enumerate(moments, 1):
        turn += 1
        step = play(world, kind(world, turn), moment)
        print(f"turn {turn}, step {moment} of about {count}: {step or 'not reached'}")  # noqa: T201 (shown on demand)
        killed += [step] if step else []
        assert len(killed) >= tried // 2
        if len(killed) == DRAWN and not EACH_PHASE:
            break
    play(world, Succeeding(world, turn + 1), 0)
    pushed = s3servers.client(moto).list_objects_v2(Bucket="data", Prefix="each/")["Contents"]
    assert {one["Key"].removeprefix("each/") for one in pushed} >= set(world.content)
    assert [found for found in fsck.check_root(world.daemon.root, False) if isinstance(found, Problem)] == []
    assert not list((world.daemon.root / "scratch").glob("workers/*/*"))
