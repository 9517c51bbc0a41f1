"""Why a job failed is said wherever somebody looks at it: the datum, and what went wrong with it."""

from __future__ import annotations

import json
import pathlib

import grpc
import pytest

from pachproto import pps_pb2
from tests.support.daemons import Daemon, running
from tests.support.pipelines import delete, ended, flush, inspect, jobs, spec, until
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server

CONTRADICTION = "/x is a file in the output of datum /a and a directory in that of datum /b"

FAILURES = [
    pytest.param(["exit 3"], "datum /a failed: command 'sh' ended with exit status 3", id="exit status"),
    pytest.param(["ln -s /nowhere/at/all /pfs/out/link"], "datum /a failed: /pfs/out/link", id="symlink"),
    pytest.param(
        ["if [ -e /pfs/in/a ]; then echo f > /pfs/out/x; else mkdir /pfs/out/x; echo d > /pfs/out/x/y; fi"],
        CONTRADICTION,
        id="outputs that contradict each other",
    ),
]


def told(daemon: Daemon, *command: str) -> str:
    """What a command of pachctl prints on both of its streams."""
    result = daemon.pachctl(*command, check=False)
    return (result.stdout + result.stderr).decode()


def shown_everywhere(daemon: Daemon, reason: str) -> None:
    """The only job has failed, and whatever tells of it names the reason."""
    [job] = jobs(daemon)
    info = ended(daemon, job)
    assert info.state == pps_pb2.JOB_FAILURE
    assert reason in info.reason
    assert f"Reason: {info.reason}" in told(daemon, "inspect-job", job.job.id)
    header, line = told(daemon, "list-job", "-o", "wide").splitlines()
    assert header.split()[-2:] == ["STATE", "REASON"]
    assert line.endswith(f" failure {info.reason}")
    assert told(daemon, "list-job").split()[-1] == "failure"
    until(lambda: inspect(daemon).recent_error)
    assert f"Recent Error: job {job.job.id} failed: {info.reason}" in told(daemon, "inspect-pipeline", "upper")
    for whose in (("--job", job.job.id), ("--pipeline", "upper")):
        result = daemon.pachctl("get-logs", *whose)
        assert result.stdout == b""
        assert reason in result.stderr.decode()


@pytest.mark.parametrize(("lines", "reason"), FAILURES)
def test_a_failed_job_says_why(pipeline_daemon: Daemon, lines: list[str], reason: str) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=lines, parallelism_spec={"constant": 1}))
    files = {"a": b"1", "b": b"2"} if reason == CONTRADICTION else {"a": b"1"}
    given = daemon.commit_files("in", files)
    with pytest.raises(grpc.RpcError) as failed:
        flush(daemon, given)
    assert reason in str(failed.value)
    shown_everywhere(daemon, reason)

    daemon.kill()
    daemon.start()
    shown_everywhere(daemon, reason)


def test_a_refused_push_is_the_jobs_reason(
    tmp_path: pathlib.Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(spec(egress={"URL": "s3://missing"}, stdin=["cp /pfs/in/* /pfs/out"]))
        given = daemon.commit_files("in", {"a": b"one"})
        with pytest.raises(grpc.RpcError, match="no such bucket"):
            flush(daemon, given)
        shown_everywhere(daemon, "s3://missing/a: there is no such bucket")

        s3servers.client(moto).create_bucket(Bucket="missing")
        daemon.pachctl("run-pipeline", "upper")
        until(lambda: len(jobs(daemon)) == 2)
        again = ended(daemon, jobs(daemon)[-1])
        assert (again.state, again.reason) == (pps_pb2.JOB_SUCCESS, "")
        until(lambda: not inspect(daemon).recent_error)  # the trouble is over


def test_a_stopped_job_says_that(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=[f"touch {tmp_path}/began; sleep 1000"]))
    daemon.commit_files("in", {"a": b"1"})
    until((tmp_path / "began").exists)
    [job] = jobs(daemon)
    daemon.pachctl("stop-job", job.job.id)
    assert ended(daemon, job).reason == f"job {job.job.id} was stopped"
    assert f"job {job.job.id} was killed: " in told(daemon, "get-logs", "--job", job.job.id)


def test_jobs_of_a_pipeline_that_is_gone_are_listed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    flush(daemon, daemon.commit_files("in", {"a": b"1"}))
    [job] = jobs(daemon)
    delete(daemon)
    assert [info.job for info in jobs(daemon)] == [job.job]
    assert job.job.id in told(daemon, "list-job", "-p", "upper")
    daemon.pps.CreatePipeline(spec())
    delete(daemon, delete_jobs=True)
    assert jobs(daemon) == []
    assert jobs(daemon, "never") == []


def test_plain_logs_are_what_user_code_printed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = ["echo did $(ls /pfs/in)", "[ ! -e /pfs/in/bad ]"]
    daemon.pps.CreatePipeline(spec(stdin=lines, transform={"cmd": ["sh", "-e"], "stdin": lines, "image": "some/image"}))
    flush(daemon, daemon.commit_files("in", {"a": b"1"}))
    [job] = jobs(daemon)
    plain = daemon.pachctl("get-logs", "--job", job.job.id)
    assert (plain.stdout, plain.stderr) == (b"did a\n", b"")

    system = told(daemon, "get-logs", "--job", job.job.id, "--system").splitlines()
    assert "did a" in system
    assert any('image "some/image" is not used' in line for line in system)
    master = told(daemon, "get-logs", "--pipeline", "upper", "--master").splitlines()
    assert any(f"job {job.job.id} succeeded" in line for line in master)
    assert "did a" not in master
    refused = daemon.pachctl("get-logs", "--pipeline", "upper", "--master", "--system", check=False)
    assert refused.returncode == 1

    raw = [json.loads(line) for line in told(daemon, "get-logs", "--job", job.job.id, "--raw").splitlines()]
    assert sorted(one["message"] for one in raw) == sorted(f"{line}\n" for line in system)
    assert all(one["pipelineName"] == "upper" for one in raw)

    with pytest.raises(grpc.RpcError):
        flush(daemon, daemon.commit_files("in", {"bad": b"1"}))
    failed = jobs(daemon)[-1].job.id
    plain = daemon.pachctl("get-logs", "--job", failed)
    assert set(plain.stdout.decode().splitlines()) == {"did bad"}
    assert plain.stderr.decode().startswith(f"job {failed} failed: datum /bad failed: ")
    assert "(try 4 of 4)" in told(daemon, "get-logs", "--job", failed, "--system")
