"""A daemon that is killed again and again, at any moment, loses nothing and does nothing twice."""

from __future__ import annotations

import pathlib
import random
import time

from pachproto import pfs_pb2, pps_pb2
from tests.daemons import Daemon
from tests.pipelines import all_ended, atom, flush, inspect, jobs, spec, until, workers

KILLS = 10


def open_commits(daemon: Daemon, repo: str) -> list[str]:
    listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo))).commit_info
    return [info.commit.id for info in listed if not info.HasField("finished")]


def test_a_dag_computes_every_set_once_however_often_it_is_killed(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    chance = random.Random(5)
    daemon.create_repo("a")
    note = tmp_path / "ran"
    note.mkdir(mode=0o777)
    ran = f"touch {note}/$(cat /pfs/a/*/* | tr -dc 0-9)-$$"
    daemon.pps.CreatePipeline(spec("b", [ran, "cp -r /pfs/a/* /pfs/out/"], input=atom("a")))
    daemon.pps.CreatePipeline(spec("c", ["cp -r /pfs/a/* /pfs/out/"], input=atom("a", "/")))
    meet = {"cross": [atom("b", "/"), atom("c", "/")]}
    daemon.pps.CreatePipeline(spec("d", ["ls /pfs/b > /pfs/out/b", "ls /pfs/c > /pfs/out/c"], input=meet))
    given = []
    for number in range(KILLS):
        given.append(daemon.commit_files("a", {f"{number}/file": b"%d" % number}))
        time.sleep(chance.random())  # the moment of the kill: any will do
        daemon.kill()
        daemon.start()
    for number, one in enumerate(given, 1):
        made = [info for info in flush(daemon, one) if info.commit.repo.name == "d"]
        assert len(made) == 1
        expected = "".join(f"{name}\n" for name in range(number)).encode()
        assert daemon.get(made[0].commit, "b") == daemon.get(made[0].commit, "c") == expected
    for pipeline in "bcd":
        done = all_ended(daemon, KILLS, pipeline)
        assert len(done) == KILLS
        assert {job.state for job in done} == {pps_pb2.JOB_SUCCESS}
        assert dict(inspect(daemon, pipeline).job_counts) == {pps_pb2.JOB_SUCCESS: KILLS}
        assert all(job.data_processed + job.data_skipped == job.data_total for job in done)
        assert open_commits(daemon, pipeline) == []
    assert sum(job.data_processed for job in jobs(daemon, "b")) == KILLS
    assert {file.name.split("-")[0] for file in note.iterdir()} == {str(number) for number in range(KILLS)}
    until(lambda: len(workers(daemon)) <= 6)
