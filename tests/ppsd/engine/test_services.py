"""Services: a command that runs on over the newest commit, and is reached through a port."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest

from pachproto import pps_pb2
from tests.support.daemons import Daemon
from tests.support.pipelines import all_ended, atom, delete, flush, inspect, jobs, logs, spec, until, update, workers
from tests.support.servers.s3servers import free_port


def service(internal: int, external: int = 0, stdin: list[str] | None = None, **more: Any) -> Any:
    lines = stdin or [f"exec python3 -m http.server {internal} --bind 127.0.0.1 --directory /pfs/in"]
    ports = {"internal_port": internal, "external_port": external}
    request = spec(stdin=lines, service=ports, **{"input": atom("in", "/"), **more})
    request.ClearField("parallelism_spec")
    return request


def fetch(port: int, path: str) -> bytes:
    """What the service answers; empty while it doesn't."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            data: bytes = answer.read()
            return data
    except (OSError, urllib.error.URLError):
        return b""


def test_a_service_serves_the_newest_commit_also_after_a_kill(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    internal, external = free_port(), free_port()
    daemon.pps.CreatePipeline(service(internal, external))
    flush(daemon, daemon.commit_files("in", {"a": b"first"}))
    assert until(lambda: fetch(external, "a")) == fetch(internal, "a") == b"first"
    [job] = jobs(daemon)
    assert job.state == pps_pb2.JOB_RUNNING
    assert (job.service.internal_port, job.service.external_port) == (internal, external)
    assert inspect(daemon).service == job.service
    assert f"reached at port {external}".encode() in daemon.pachctl("inspect-pipeline", "upper").stdout

    flush(daemon, daemon.commit_files("in", {"b": b"second"}))
    assert until(lambda: fetch(external, "b")) == b"second"
    until(lambda: jobs(daemon)[0].state == pps_pb2.JOB_SUCCESS)

    daemon.kill()
    until(lambda: not workers(daemon))
    assert fetch(internal, "a") == b""
    daemon.start()
    assert until(lambda: fetch(external, "b")) == b"second"
    assert [one.state for one in jobs(daemon)] == [pps_pb2.JOB_SUCCESS, pps_pb2.JOB_RUNNING]

    moved = free_port()
    update(daemon, service(internal, moved))
    assert until(lambda: fetch(moved, "b")) == b"second"
    assert fetch(external, "b") == b""
    delete(daemon)
    assert fetch(moved, "b") == fetch(internal, "b") == b""


def test_commits_that_came_together_are_all_answered_and_the_last_is_served(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    made = [daemon.commit_files("in", {name: name.encode()}) for name in "abc"]
    internal = free_port()
    daemon.pps.CreatePipeline(service(internal))
    for one in made:
        flush(daemon, one)
    assert until(lambda: fetch(internal, "c")) == b"c"
    assert [job.state for job in jobs(daemon)] == [pps_pb2.JOB_SUCCESS] * 2 + [pps_pb2.JOB_RUNNING]
    daemon.pachctl("stop-job", jobs(daemon)[-1].job.id)
    assert fetch(internal, "c") == b""
    daemon.pachctl("run-pipeline", "upper")
    assert until(lambda: fetch(internal, "c")) == b"c"


def test_a_service_that_ends_is_started_again(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(service(free_port(), stdin=["echo here I am", "exit 7"]))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    [job] = jobs(daemon)
    until(lambda: [line.message for line in logs(daemon, job=job.job)].count("here I am") >= 2)
    said = [line.message for line in logs(daemon, job=job.job, master=True)]
    assert any("is started again: command 'sh' ended with exit status 7" in one for one in said)


def test_what_can_not_be_a_service_is_refused(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    for more, complaint in (
        ({"internal": 0}, r"service\.internal_port should be from 1"),
        ({"internal": 80, "external": 70000}, r"service\.external_port should be from 1"),
        ({"internal": 80, "incremental": True}, "incremental can't be given to a service"),
        ({"internal": 80, "egress": {"URL": "s3://b"}}, "egress can't be given to a service"),
    ):
        with pytest.raises(grpc.RpcError, match=complaint):
            daemon.pps.CreatePipeline(service(**more))
    daemon.commit_files("in", {"a": b"a", "b": b"b"})
    daemon.pps.CreatePipeline(service(free_port(), input=atom("in", "/*")))
    [job] = all_ended(daemon, 1)
    assert job.state == pps_pb2.JOB_FAILURE
    said = [line.message for line in logs(daemon, job=job.job, master=True)]
    assert any("a service shows one datum, and its input makes 2" in one for one in said)
