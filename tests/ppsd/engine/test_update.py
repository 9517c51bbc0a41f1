"""Pipelines that are updated, stopped and started: a real daemon, real workers, real kills."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import (
    LIMIT,
    Gate,
    all_ended,
    atom,
    ended,
    flush,
    inspect,
    jobs,
    spec,
    until,
    update,
    workers,
)

LOWER = ['for f in /pfs/in/*; do tr A-Z a-z < "$f" > "/pfs/out/$(basename "$f")"; done']


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path / "gate")


def counts(job: pps_pb2.JobInfo) -> tuple[int, int, int]:
    return job.data_processed, job.data_skipped, job.data_total


def branches(daemon: Daemon, repo: str) -> dict[str, str]:
    infos = daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name=repo))).branch_info
    return {info.name: info.head.id for info in infos}


def test_new_code_computes_the_head_anew_on_a_new_commit_tree(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    daemon.commit_files("in", {"a": b"One"})
    second = daemon.commit_files("in", {"b": b"Two"})
    flush(daemon, second)
    old = branches(daemon, "upper")["master"]
    update(daemon, spec(stdin=LOWER, description="whispers"))
    made = flush(daemon, second)[-1]
    assert daemon.get(commit("upper", "master"), "a") == b"one"
    assert daemon.list(commit("upper", "master")) == ["a", "b"]
    assert not made.HasField("parent_commit")
    assert branches(daemon, "upper") == {"master": made.commit.id, "master-v1": old}
    assert daemon.get(commit("upper", "master-v1"), "a") == b"ONE"
    info = inspect(daemon)
    assert (info.version, info.description) == (2, "whispers")
    flush(daemon, daemon.commit_files("in", {"c": b"Three"}))
    assert [(job.pipeline_version, counts(job)) for job in jobs(daemon)] == [
        (1, (1, 0, 1)),
        (1, (1, 1, 2)),
        (2, (2, 0, 2)),
        (2, (1, 2, 3)),
    ]
    assert dict(info.job_counts)[pps_pb2.JOB_SUCCESS] >= 2


def test_what_keeps_the_computation_goes_on_where_it_was(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {name: name.encode() for name in "abc"})
    gate.began(2)
    salt = inspect(daemon).salt
    update(daemon, spec(stdin=gate.lines(), parallelism_spec={"constant": 3}, description="more"))
    gate.began(3)  # by a third worker, while the job goes on
    gate.open()
    flush(daemon, given)
    info = inspect(daemon)
    assert (info.salt, info.version, info.parallelism_spec.constant) == (salt, 2, 3)
    assert len(workers(daemon)) == 3
    assert [counts(job) for job in jobs(daemon)] == [(3, 0, 3)]
    assert list(branches(daemon, "upper")) == ["master"]


def test_reprocess_computes_everything_again(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    given = daemon.commit_files("in", {"a": b"a"})
    flush(daemon, given)
    update(daemon, spec(), reprocess=True)
    flush(daemon, given)
    assert [counts(job) for job in jobs(daemon)] == [(1, 0, 1), (1, 0, 1)]


def test_an_update_stops_the_job_that_runs(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {"a": b"A"})
    gate.began(1)
    update(daemon, spec(stdin=LOWER))
    [made] = flush(daemon, given)
    assert daemon.get(made.commit, "a") == b"a"
    assert [job.state for job in jobs(daemon)] == [pps_pb2.JOB_KILLED, pps_pb2.JOB_SUCCESS]
    listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="upper"))).commit_info
    assert [info.commit for info in listed] == [made.commit]


def test_an_update_mends_a_failing_pipeline(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=["exit 1"]))
    given = daemon.commit_files("in", {"a": b"A"})
    with pytest.raises(grpc.RpcError, match="exit status 1"):
        flush(daemon, given)
    update(daemon, spec(stdin=LOWER))
    [made] = flush(daemon, given)
    assert daemon.get(made.commit, "a") == b"a"


def test_with_from_commit_only_what_comes_after_is_processed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    flush(daemon, daemon.commit_files("in", {"a": b"One"}))
    update(daemon, spec(stdin=LOWER, input=atom("in", from_commit="master")))
    assert daemon.get(commit("upper", "master"), "a") == b"ONE"
    [made] = flush(daemon, daemon.commit_files("in", {"b": b"Two"}))
    assert made.HasField("parent_commit")
    assert daemon.get(commit("upper", "master"), "a") == b"one"
    assert len(jobs(daemon)) == 2


def test_an_update_may_add_an_input(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in ("in", "more"):
        daemon.create_repo(repo)
    daemon.pps.CreatePipeline(spec())
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    both = {"union": [atom("in"), atom("more")]}
    update(daemon, spec(stdin=["cp /pfs/*/* /pfs/out/"], input=both))
    flush(daemon, daemon.commit_files("more", {"b": b"b"}))
    assert daemon.list(commit("upper", "master")) == ["a", "b"]
    info = daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="upper")))
    assert [repo.name for repo in info.provenance] == ["in", "more"]


def test_an_update_that_is_refused_changes_nothing(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    below = spec("below", ["true"], input=atom("upper"))
    daemon.pps.CreatePipeline(below)
    before = inspect(daemon)
    for request in (spec(input=atom("nowhere")), spec(input=atom("below")), spec(stdin=LOWER, egress={"URL": "x"})):
        with pytest.raises(grpc.RpcError):
            update(daemon, request)
    after = inspect(daemon)
    assert (after.version, after.salt, after.transform) == (1, before.salt, before.transform)
    assert flush(daemon, daemon.commit_files("in", {"a": b"a"}))


def test_a_daemon_that_is_killed_during_updates_ends_up_with_a_whole_version(
    pipeline_daemon: Daemon, gate: Gate
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = daemon.commit_files("in", {"a": b"A"})
    gate.began(1)
    gate.open()
    for number in range(6):
        request = spec(stdin=[*LOWER, f"echo {number} > /pfs/out/version"])
        request.update = True
        call = daemon.pps.CreatePipeline.future(request)
        try:
            call.result(timeout=0.02 * number)
        except (grpc.FutureTimeoutError, grpc.RpcError):
            pass
        daemon.kill()
        daemon.start()
    update(daemon, spec(stdin=LOWER))
    flush(daemon, given)
    assert daemon.list(commit("upper", "master")) == ["a"]
    assert daemon.get(commit("upper", "master"), "a") == b"a"
    states = {job.state for job in jobs(daemon)}
    assert states <= {pps_pb2.JOB_KILLED, pps_pb2.JOB_SUCCESS}
    until(lambda: len(workers(daemon)) == 2)


def stop(daemon: Daemon) -> None:
    daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=pps_pb2.Pipeline(name="upper")), timeout=LIMIT)


def start(daemon: Daemon) -> None:
    daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=pps_pb2.Pipeline(name="upper")), timeout=LIMIT)


def test_a_stopped_pipeline_rests_and_goes_on_when_it_is_started(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    first = daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    stop(daemon)
    stop(daemon)
    assert inspect(daemon).state == pps_pb2.PIPELINE_PAUSED
    assert workers(daemon) == []
    second = daemon.commit_files("in", {"b": b"b"})
    daemon.kill()
    daemon.start()
    assert inspect(daemon).state == pps_pb2.PIPELINE_PAUSED
    assert [job.state for job in jobs(daemon)] == [pps_pb2.JOB_RUNNING]
    gate.open()
    start(daemon)
    start(daemon)
    flush(daemon, first)
    flush(daemon, second)
    assert [job.state for job in jobs(daemon)] == [pps_pb2.JOB_SUCCESS] * 2
    assert inspect(daemon).state == pps_pb2.PIPELINE_RUNNING


def test_an_updated_pipeline_stays_stopped(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    stop(daemon)
    update(daemon, spec(stdin=LOWER))
    given = daemon.commit_files("in", {"a": b"A"})
    assert inspect(daemon).state == pps_pb2.PIPELINE_PAUSED
    assert jobs(daemon) == []
    start(daemon)
    flush(daemon, given)
    assert daemon.get(commit("upper", "master"), "a") == b"a"


def test_pachctl_updates_stops_and_starts(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    file = tmp_path / "spec.json"
    given = {"pipeline": {"name": "upper"}, "transform": {"cmd": ["true"]}, "input": atom("in", "/")}
    text = json.dumps(given)
    file.write_text(text)
    daemon.pachctl("create-pipeline", "-f", str(file))
    file.write_text(text.replace("true", "false"))
    daemon.pachctl("update-pipeline", "-f", str(file))
    daemon.pachctl("update-pipeline", "--reprocess", stdin=text.encode())
    assert inspect(daemon).version == 3
    daemon.pachctl("stop-pipeline", "upper")
    assert b"paused" in daemon.pachctl("list-pipeline").stdout
    daemon.pachctl("start-pipeline", "upper")
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    job = daemon.pachctl("run-pipeline", "upper").stdout.decode().strip()
    done = ended(daemon, pps_pb2.JobInfo(job=pps_pb2.Job(id=job)))
    assert counts(done) == (0, 1, 1)
    assert len(all_ended(daemon, 2)) == 2


def test_an_update_to_the_same_spec_changes_nothing_and_says_so(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    script = tmp_path / "script"
    script.write_text("echo one > /pfs/out/$(ls /pfs/in)")
    text: dict[str, Any] = {
        "pipeline": {"name": "upper"},
        "transform": {"cmd": ["sh", str(script)]},
        "input": {"cross": [{"atom": {"repo": "in", "glob": "/*"}}, {"cron": {"name": "tick", "spec": "@yearly"}}]},
    }
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(json.dumps(text))
    daemon.pachctl("create-pipeline", "-f", str(spec_file))
    before = inspect(daemon)
    script.write_text("echo two > /pfs/out/$(ls /pfs/in)")
    said = daemon.pachctl("update-pipeline", "-f", str(spec_file)).stderr.decode()
    assert "pipeline upper: nothing changed" in said
    assert "--reprocess" in said
    assert inspect(daemon).version == before.version
    text["description"] = "other words"
    spec_file.write_text(json.dumps(text))
    for options in ((), ("--reprocess",)):
        assert daemon.pachctl("update-pipeline", "-f", str(spec_file), *options).stderr == b""
    assert inspect(daemon).version == before.version + 2


def test_a_pipeline_is_shown_as_it_was_asked_for(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.commit_files("in", {"a": b"1"})
    text: dict[str, Any] = {
        "pipeline": {"name": "upper"},
        "transform": {"cmd": ["true"]},
        "input": {"atom": {"repo": "in", "glob": "/*", "from_commit": "master"}},
    }
    daemon.pachctl("create-pipeline", stdin=json.dumps(text).encode())
    shown = daemon.pachctl("inspect-pipeline", "upper").stdout.decode()
    assert "Parallelism" not in shown
    assert "Output Branch" not in shown
    at = shown.index("Input:\n") + len("Input:\n")
    assert json.JSONDecoder().raw_decode(shown, at)[0] == text["input"]
    at = shown.index("Transform:\n") + len("Transform:\n")
    assert json.JSONDecoder().raw_decode(shown, at)[0] == text["transform"]
    info = inspect(daemon)  # what clients of 1.5 read has the defaults
    assert (info.output_branch, info.input.atom.name, info.input.atom.branch) == ("master", "in", "master")
    more = text | {"parallelism_spec": {"coefficient": 0.5}, "output_branch": "other"}
    daemon.pachctl("update-pipeline", stdin=json.dumps(more).encode())
    lines = daemon.pachctl("inspect-pipeline", "upper").stdout.decode().splitlines()
    assert {"Parallelism Spec: coefficient: 0.5", "Output Branch: other"} <= set(lines)
