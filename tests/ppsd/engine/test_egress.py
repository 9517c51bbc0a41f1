"""Egress: output goes to a real S3 server before a job succeeds."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from pachproto import pps_pb2
from tests.support.daemons import Daemon, running
from tests.support.pipelines import all_ended, ended, flush, inspect, jobs, logs, spec, until, update
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server

LARGE = (20 << 20) + 7


@pytest.fixture
def daemon(tmp_path: pathlib.Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path / "root") as started:
        started.create_repo("in")
        yield started


def content(server: S3Server, prefix: str, bucket: str = "data") -> dict[str, Any]:
    client = s3servers.client(server)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {one["Key"]: client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}


def test_all_files_of_the_output_are_pushed_before_the_job_succeeds(daemon: Daemon, moto: S3Server) -> None:
    lines = [
        "mkdir -p /pfs/out/deep/er /pfs/out/empty",
        "cp /pfs/in/* /pfs/out/deep/er/",
        f"head -c {LARGE} /dev/zero > /pfs/out/large",
        "touch /pfs/out/nothing",
    ]
    daemon.pps.CreatePipeline(spec(stdin=lines, egress={"URL": "s3://data/some/where/"}, input=_whole("in")))
    first = daemon.commit_files("in", {"a": b"one", "b c?%": b"two"})
    flush(daemon, first)
    pushed = content(moto, "some/")
    assert pushed.pop("some/where/large") == bytes(LARGE)
    expected = {"some/where/deep/er/a": b"one", "some/where/deep/er/b c?%": b"two", "some/where/nothing": b""}
    assert pushed == expected
    [job] = jobs(daemon)
    assert job.egress.URL == inspect(daemon).egress.URL == "s3://data/some/where/"
    said = [line.message for line in logs(daemon, job=job.job, master=True)]
    assert any(f"has pushed 4 files, {LARGE + 6} bytes, to s3://data/some/where/" in one for one in said)


def test_a_push_that_is_refused_fails_the_job_with_its_reason(daemon: Daemon, moto: S3Server) -> None:
    request = spec(egress={"URL": "s3://absent"})
    daemon.pps.CreatePipeline(request)
    given = daemon.commit_files("in", {"a": b"one"})
    with pytest.raises(grpc.RpcError, match=r"can't be pushed: .*no such bucket"):
        flush(daemon, given)
    [job] = jobs(daemon)
    assert ended(daemon, job).state == pps_pb2.JOB_FAILURE
    said = [line.message for line in logs(daemon, job=job.job, master=True)]
    assert any("s3://absent/a: there is no such bucket" in one for one in said)

    # Where it is pushed to is no part of the computation: what was computed is pushed as it is.
    s3servers.client(moto).create_bucket(Bucket="absent")
    daemon.pachctl("run-pipeline", "upper")
    until(lambda: len(jobs(daemon)) == 2)
    again = ended(daemon, jobs(daemon)[-1])
    assert (again.state, again.data_skipped) == (pps_pb2.JOB_SUCCESS, 1)
    assert content(moto, "", "absent") == {"a": b"ONE"}

    moved = spec(egress={"URL": "s3://absent/moved"})
    update(daemon, moved)
    flush(daemon, daemon.commit_files("in", {"b": b"two"}))
    assert content(moto, "moved", "absent") == {"moved/a": b"ONE", "moved/b": b"TWO"}


def test_a_store_that_does_not_answer_is_tried_again_until_the_job_is_stopped(
    daemon: Daemon, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.stop()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3servers.free_port()}")
    daemon.start()
    daemon.pps.CreatePipeline(spec(egress={"URL": "s3://data/late"}))
    daemon.commit_files("in", {"a": b"one"})
    until(lambda: "egress is tried again" in daemon.log())
    [job] = jobs(daemon)
    assert job.state == pps_pb2.JOB_RUNNING
    daemon.pachctl("stop-job", job.job.id)
    assert ended(daemon, job).state == pps_pb2.JOB_KILLED
    daemon.kill()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    daemon.start()
    daemon.pachctl("run-pipeline", "upper")
    assert all_ended(daemon, 2)[-1].state == pps_pb2.JOB_SUCCESS
    assert content(moto, "late") == {"late/a": b"ONE"}


def _whole(repo: str) -> dict[str, Any]:
    return {"atom": {"repo": repo, "glob": "/"}}


def test_links_are_pushed_as_what_they_lead_to(daemon: Daemon, moto: S3Server) -> None:
    lines = [
        "cd /pfs/out; mkdir d; echo data > d/file; ln -s d/file link; ln -s d dir; ln -s not/there dangling",
        "touch empty; ln -s empty nothing; chmod +x d/file",
    ]
    daemon.pps.CreatePipeline(spec(stdin=lines, egress={"URL": "s3://data/links"}))
    flush(daemon, daemon.commit_files("in", {"a": b"one"}))
    assert content(moto, "links") == {
        "links/d/file": b"data\n",
        "links/link": b"data\n",
        "links/empty": b"",
        "links/nothing": b"",
    }
