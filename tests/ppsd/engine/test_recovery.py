"""Pipelines go on when workers are killed, hang or are added, and when the daemon or ppsd ends."""

from __future__ import annotations

import os
import pathlib
import signal

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit, running
from tests.support.pipelines import Gate, flush, inspect, jobs, spec, until, update, workers
from tests.support.pipelineservices import pipeline_service


def test_a_worker_that_is_killed_gives_its_datum_back(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {name: name.encode() for name in "abc"})
    gate.began(2)
    before = workers(daemon)
    os.kill(before[0], signal.SIGKILL)
    gate.began(3)
    gate.open()
    flush(daemon, given)
    assert daemon.list(commit("upper", "master")) == ["a", "b", "c"]
    [job] = jobs(daemon)
    assert (job.data_processed, job.data_total) == (3, 3)
    assert "killed by signal 9" in inspect(daemon).recent_error


def test_a_worker_that_hangs_loses_its_datum_and_is_replaced(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines(), parallelism_spec={"constant": 1}))
    given = daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    [hung] = workers(daemon)
    os.kill(hung, signal.SIGSTOP)
    gate.began(2)
    gate.open()
    flush(daemon, given)
    [job] = jobs(daemon)
    assert (job.data_processed, job.data_total) == (1, 1)
    assert hung not in workers(daemon)
    assert "did not answer any more" in inspect(daemon).recent_error


def test_workers_that_are_added_take_part_in_the_job_that_runs(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines(), parallelism_spec={"constant": 1}))
    given = daemon.commit_files("in", {"a": b"a", "b": b"b", "c": b"c"})
    gate.began(1)
    update(daemon, spec(stdin=gate.lines(), parallelism_spec={"constant": 3}))
    gate.began(3)
    gate.open()
    flush(daemon, given)
    assert [(job.data_processed, job.state) for job in jobs(daemon)] == [(3, pps_pb2.JOB_SUCCESS)]


def test_a_job_goes_on_after_the_daemon_is_killed(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    slow = [*gate.lines()[:2], '[ "$name" = a ] && cp /pfs/in/a /pfs/out/ && exit 0', *gate.lines()[2:]]
    daemon.pps.CreatePipeline(spec(stdin=slow))
    given = daemon.commit_files("in", {name: name.encode() for name in "abcd"})
    later = daemon.commit_files("in", {"e": b"e"})
    until(lambda: jobs(daemon) and jobs(daemon)[0].data_processed == 1)
    gate.began(3)
    left = workers(daemon)
    daemon.kill()
    until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in left))
    daemon.start()
    gate.open()
    flush(daemon, given)
    flush(daemon, later)
    [job, second] = jobs(daemon)
    assert job.restart == 1
    assert (job.data_processed, job.data_skipped, job.data_total) == (4, 0, 4)
    assert (second.data_processed, second.data_skipped) == (1, 4)
    assert daemon.list(commit("upper", "master")) == ["a", "b", "c", "d", "e"]
    listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="upper"))).commit_info
    assert len(listed) == 2
    assert (gate.directory / "began-a").read_text() == "x\n"


def test_the_service_runs_in_a_process_of_its_own(daemon: Daemon) -> None:
    with pipeline_service(daemon) as (_, client):
        client.create_repo("in")
        client.pps.CreatePipeline(spec())
        given = client.commit_files("in", {"a": b"a", "big": os.urandom(3 << 20)})
        flush(client, given)
        assert daemon.get(commit("upper", "master"), "a") == b"A"
        with pytest.raises(grpc.RpcError) as failed:
            client.list(commit("nowhere", "master"))
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        assert len(workers(client)) == 2
        assert client.pachctl("version").stdout == daemon.pachctl("version").stdout
        held = client.store.HoldCommit(pfs_pb2.StartCommitRequest(parent=commit("in", ""), branch="held"))
        mine = pfs_pb2.InspectCommitRequest(commit=next(held))
        held.cancel()
        until(lambda: is_gone(daemon, mine))
    assert workers(client) == []


def is_gone(daemon: Daemon, asked: pfs_pb2.InspectCommitRequest) -> bool:
    try:
        daemon.pfs.InspectCommit(asked)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND
    return False


def test_the_service_outlives_its_daemon(daemon: Daemon, gate: Gate) -> None:
    with pipeline_service(daemon) as (_, client):
        client.create_repo("in")
        client.pps.CreatePipeline(spec(stdin=gate.lines()))
        given = client.commit_files("in", {"a": b"a", "b": b"b"})
        gate.began(2)
        daemon.kill()
        daemon.start()
        gate.open()
        flush(daemon, given)
        assert daemon.list(commit("upper", "master")) == ["a", "b"]
        [job] = jobs(client)
        assert (job.data_processed, job.data_total) == (2, 2)


def test_stopping_the_daemon_leaves_no_worker(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(spec())
        flush(daemon, daemon.commit_files("in", {"a": b"a"}))
        left = workers(daemon)
        assert len(left) == 2
        assert daemon.stop() == 0
        assert workers(daemon) == []
