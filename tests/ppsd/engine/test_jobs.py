"""Jobs and datums that are listed, stopped, deleted, restarted and asked for."""

from __future__ import annotations

import pathlib
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import Gate, all_ended, atom, ended, flush, jobs, spec, until


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path / "gate")


def datums(daemon: Daemon, job: pps_pb2.JobInfo) -> dict[str, str]:
    """The datums of a job: files, and their state."""
    infos = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=job.job)).datum_info
    return {" ".join(file.path for file in info.data): pps_pb2.DatumState.Name(info.state) for info in infos}


def stop(daemon: Daemon, job: pps_pb2.JobInfo) -> None:
    daemon.pps.StopJob(pps_pb2.StopJobRequest(job=job.job), timeout=60)


def run(daemon: Daemon, **request: Any) -> pps_pb2.JobInfo:
    job = daemon.pps.CreateJob(pps_pb2.CreateJobRequest(pipeline=pps_pb2.Pipeline(name="upper"), **request))
    return ended(daemon, pps_pb2.JobInfo(job=job))


def test_datums_are_listed_with_their_state(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=["[ ! -e /pfs/in/bad ]", *gate.lines()]))
    daemon.commit_files("in", {"a": b"a", "b": b"b"})
    gate.began(2)
    [job] = jobs(daemon)
    assert datums(daemon, job) == {"/a": "STARTING", "/b": "STARTING"}
    gate.open()
    ended(daemon, job)
    assert datums(daemon, job) == {"/a": "SUCCESS", "/b": "SUCCESS"}
    daemon.commit_files("in", {"bad": b"bad"})
    [job, later] = all_ended(daemon, 2)
    assert datums(daemon, later) == {"/a": "SKIPPED", "/b": "SKIPPED", "/bad": "FAILED"}
    assert datums(daemon, job) == {"/a": "SUCCESS", "/b": "SUCCESS"}

    [first, *_] = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=job.job)).datum_info
    assert daemon.pps.InspectDatum(pps_pb2.InspectDatumRequest(datum=first.datum)) == first
    nothing = pps_pb2.InspectDatumRequest(datum=pps_pb2.Datum(id="0" * 64, job=job.job))
    with pytest.raises(grpc.RpcError, match="no datum"):
        daemon.pps.InspectDatum(nothing)
    shown = daemon.pachctl("list-datum", later.job.id).stdout.decode().splitlines()
    assert shown[0].split() == ["ID", "STATUS", "FILES"]
    assert [line.split()[1:] for line in shown[1:]] == [["skipped", "/a"], ["skipped", "/b"], ["failed", "/bad"]]
    assert b"State: success" in daemon.pachctl("inspect-datum", job.job.id, first.datum.id).stdout


def test_a_datum_that_is_restarted_begins_anew(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {"a": b"a", "b": b"b"})
    gate.began(2)
    [job] = jobs(daemon)
    daemon.pachctl("restart-datum", job.job.id, "/a")
    gate.began(3)
    assert (gate.directory / "began-a").read_text().split() == ["x", "x"]
    assert (gate.directory / "began-b").read_text().split() == ["x"]
    with pytest.raises(grpc.RpcError, match="/c"):
        daemon.pps.RestartDatum(pps_pb2.RestartDatumRequest(job=job.job, data_filters=["/c"]))
    gate.open()
    flush(daemon, given)
    [job] = jobs(daemon)
    assert (job.data_processed, job.data_total) == (2, 2)


def test_a_job_that_is_stopped_ends_as_killed_and_the_pipeline_goes_on(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    first = daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    [job] = jobs(daemon)
    daemon.pachctl("stop-job", job.job.id)
    assert ended(daemon, job).state == pps_pb2.JOB_KILLED
    with pytest.raises(grpc.RpcError, match="was stopped"):
        flush(daemon, first)
    gate.open()
    second = daemon.commit_files("in", {"b": b"b"})
    flush(daemon, second)
    assert daemon.list(commit("upper", "master")) == ["a", "b"]
    stop(daemon, job)
    assert [one.state for one in jobs(daemon)] == [pps_pb2.JOB_KILLED, pps_pb2.JOB_SUCCESS]

    again = run(daemon, input=pps_pb2.Input(atom=pps_pb2.AtomInput(name="in", commit=first.id)))
    assert again.state == pps_pb2.JOB_SUCCESS
    assert again.input.atom.commit == first.id
    assert (again.data_processed, again.data_skipped) == (0, 1)
    [made] = flush(daemon, first)[:1]
    assert daemon.list(again.output_commit) == ["a"]
    assert made.commit.repo.name == "upper"


def test_a_job_that_is_deleted_is_forgotten(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    [job] = jobs(daemon)
    daemon.pachctl("delete-job", job.job.id)
    assert jobs(daemon, "") == []
    with pytest.raises(grpc.RpcError) as failed:
        ended(daemon, job)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    gate.open()
    flush(daemon, daemon.commit_files("in", {"b": b"b"}))
    assert [one.state for one in jobs(daemon)] == [pps_pb2.JOB_SUCCESS]


def test_a_pipeline_is_run_again_on_what_it_ran_on(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in ("in", "other"):
        daemon.create_repo(repo)
    daemon.pps.CreatePipeline(spec(stdin=["cp /pfs/*/* /pfs/out/"], input={"cross": [atom("in"), atom("other")]}))
    with pytest.raises(grpc.RpcError, match="has not run yet"):
        run(daemon)
    given = [daemon.commit_files("in", {name: b"x"}) for name in "ab"]
    other = daemon.commit_files("other", {"o": b"y"})
    flush(daemon, other)
    again = run(daemon)
    assert [member.atom.commit for member in again.input.cross] == [given[1].id, other.id]
    assert (again.data_processed, again.data_skipped) == (0, 2)
    named = run(daemon, inputs=[pps_pb2.JobInput(name="in", commit=given[0])])
    assert [member.atom.commit for member in named.input.cross] == [given[0].id, other.id]
    assert daemon.list(named.output_commit) == ["a", "o"]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"inputs": [pps_pb2.JobInput(name="nothing", commit=other)]}, "no input called nothing"),
        ({"transform": pps_pb2.Transform(image="x")}, r"transform\.image can't be given to a single job"),
        ({"transform": pps_pb2.Transform(accept_return_code=[999])}, r"transform\.accept_return_code should be"),
        ({"parallelism_spec": pps_pb2.ParallelismSpec(constant=9)}, "parallelism_spec can't be given"),
    ]
    for wrong, complaint in refused:
        with pytest.raises(grpc.RpcError, match=complaint):
            run(daemon, **wrong)

    pipeline = pps_pb2.Pipeline(name="upper")
    daemon.pps.RerunPipeline(pps_pb2.RerunPipelineRequest(pipeline=pipeline))
    assert len(all_ended(daemon, 4)) == 4
    daemon.pps.RerunPipeline(pps_pb2.RerunPipelineRequest(pipeline=pipeline, exclude=[other]))
    daemon.pps.RerunPipeline(pps_pb2.RerunPipelineRequest(pipeline=pipeline, include=[given[0]]))
    assert len(jobs(daemon)) == 4


def test_a_single_job_may_run_other_code(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec(stdin=['echo "$WORD" > /pfs/out/$(basename /pfs/in/*)'])
    request.transform.env["WORD"] = "usual"
    daemon.pps.CreatePipeline(request)
    flush(daemon, daemon.commit_files("in", {"a": b"x"}))
    job = tmp_path / "job.json"
    job.write_text('{"transform": {"env": {"WORD": "other"}}}')
    made = daemon.pachctl("run-pipeline", "upper", "-f", str(job)).stdout.decode().strip()
    other = ended(daemon, pps_pb2.JobInfo(job=pps_pb2.Job(id=made)))
    assert (other.state, other.data_processed, other.data_skipped) == (pps_pb2.JOB_SUCCESS, 1, 0)
    assert daemon.get(other.output_commit, "a") == b"other\n"
    assert dict(other.transform.env) == {"WORD": "other"}

    # What it computed is its own: the pipeline goes on with what it had.
    [made_next] = flush(daemon, daemon.commit_files("in", {"b": b"x"}))
    assert daemon.get(made_next.commit, "a") == daemon.get(made_next.commit, "b") == b"usual\n"
    assert jobs(daemon)[-1].data_skipped == 1


def test_a_job_that_was_asked_for_survives_a_kill(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    job = daemon.pps.CreateJob(
        pps_pb2.CreateJobRequest(
            pipeline=pps_pb2.Pipeline(name="upper"), inputs=[pps_pb2.JobInput(name="in", commit=given)]
        )
    )
    daemon.kill()
    daemon.start()
    gate.open()
    done = ended(daemon, pps_pb2.JobInfo(job=job))
    assert (done.state, done.restart, done.data_skipped) == (pps_pb2.JOB_SUCCESS, 0, 1)
    until(lambda: len(jobs(daemon)) == 2)
    listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="upper"))).commit_info
    assert all(info.HasField("finished") for info in listed)
