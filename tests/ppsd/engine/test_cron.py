"""Cron inputs: when they tick, and what a pipeline sees of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pfs_pb2, pps_pb2
from pfsd.errors import InvalidError
from ppsd.specs import schedules
from ppsd.specs.schedules import SECOND_NS, Schedule
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import LIMIT, all_ended, atom, delete, inspect, jobs, logs, spec, until, update

DAY = 86_400
NOW = 1_700_000_000


def cron(**fields: Any) -> dict[str, Any]:
    return {"cron": {"name": "tick", **fields}}


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ticked(daemon: Daemon, repo: str) -> list[str]:
    """The times in the commits of a clock's repo, oldest first."""
    request = pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo))
    found = [info for info in daemon.pfs.ListCommit(request).commit_info if info.HasField("finished")]
    return [json.loads(daemon.get(info.commit, "time")) for info in reversed(found)]


# --- schedules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "step"),
    [
        ("*/10 * * * *", 1_700_000_400, 600),
        ("30 * * * * *", 1_700_000_010, 60),
        ("@hourly", 1_700_002_800, 3600),
        ("@daily", 1_700_006_400, DAY),
        ("@every 90s", NOW + 90, 90),
        ("@every 1h30m", NOW + 5400, 5400),
    ],
)
def test_ticks_are_those_of_the_expression(text: str, first: int, step: int) -> None:
    schedules.check(text, "spec")
    schedule = Schedule(text, NOW * SECOND_NS)
    assert schedules.next_tick(schedule, 0) == first * SECOND_NS
    expected = [(first + number * step) * SECOND_NS for number in range(3)]
    assert schedules.ticks(schedule, 0, expected[-1], 10) == expected
    assert schedules.ticks(schedule, expected[0], expected[-1], 1) == expected[-1:]


@given(
    st.sampled_from(["*/7 * * * *", "5 4 * * mon", "*/13 * * * * *", "@every 7s", "@every 1h0.5s", "@weekly"]),
    st.integers(0, 2**31),
    st.integers(0, 50),
)
def test_what_was_missed_is_what_would_have_come(text: str, start: int, count: int) -> None:
    schedule = Schedule(text, start * SECOND_NS)
    expected, at = [], schedule.start_ns
    for _ in range(count):
        at = schedules.next_tick(schedule, at)
        expected.append(at)
    assert schedules.ticks(schedule, 0, at, count + 1) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "soon",
        "0 0 30 2 *",
        "R * * * *",
        "h(1-5) * * * *",
        "@every x",
        "@reboot",
    ],
)
def test_what_is_no_schedule_is_refused_by_the_fields_name(text: str) -> None:
    with pytest.raises(InvalidError, match=r"input\.cron\.spec"):
        schedules.check(text, "input.cron.spec")


# --- pipelines -------------------------------------------------------------------------------------------


def test_each_tick_is_a_commit_that_makes_a_job(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    lines = ["cat /pfs/tick/time > /pfs/out/seen"]
    daemon.pps.CreatePipeline(spec(stdin=lines, input=cron(spec="@every 1s")))
    first, second = all_ended(daemon, 2)[:2]
    assert [first.state, second.state] == [pps_pb2.JOB_SUCCESS] * 2
    times = ticked(daemon, "upper_tick")
    assert times == sorted(set(times))
    assert json.loads(daemon.get(second.output_commit, "seen")) == times[1]
    assert second.input.cron.commit
    assert second.input.cron.name == "tick"
    info = inspect(daemon)
    assert (info.input.cron.repo, info.input.cron.spec) == ("upper_tick", "@every 1s")
    assert info.input.cron.HasField("start")
    assert b"tick:@every 1s" in daemon.pachctl("list-pipeline").stdout


def test_ticks_since_the_start_and_those_missed_are_made_up_for(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.commit_files("in", {"a": b"x"})
    both = {"cross": [atom("in"), cron(spec="@daily", repo="days", start=ago(days=3))]}
    lines = ["cat /pfs/tick/time > /pfs/out/seen"]
    daemon.pps.CreatePipeline(spec(stdin=lines, input=both))
    assert [job.state for job in all_ended(daemon, 3)] == [pps_pb2.JOB_SUCCESS] * 3
    days = ticked(daemon, "days")
    assert [day[10:] for day in days] == ["T00:00:00Z"] * 3

    # Changing the schedule computes nothing anew, and goes on after the last tick.
    daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=pps_pb2.Pipeline(name="upper")))
    daemon.kill()
    daemon.start()
    both["cross"][1] = cron(spec="@every 12h", repo="days", start=days[-2])
    update(daemon, spec(stdin=lines, input=both))
    expected = len(schedules.ticks(Schedule("@every 12h", _ns(days[-2])), _ns(days[-1]), _ns(ago()), 100))
    daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=pps_pb2.Pipeline(name="upper")))
    all_ended(daemon, 3 + expected)
    assert len(jobs(daemon)) == 3 + expected == len(ticked(daemon, "days"))


def test_a_past_without_end_is_not_made_up_for(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    request = spec(stdin=["true"], input=cron(spec="* * * * *", start="2001-01-01T00:00:00Z"))
    daemon.pps.CreatePipeline(request)
    name = pps_pb2.Pipeline(name="upper")
    until(lambda: any("only the last 1000" in line.message for line in logs(daemon, pipeline=name, master=True)))


def test_a_tick_that_was_cut_off_is_committed_again(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    request = spec(stdin=["true"], input=cron(spec="@daily", repo="days", start=ago(days=2)))
    daemon.pps.CreatePipeline(request)
    all_ended(daemon, 2)
    daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=request.pipeline))
    daemon.put(daemon.start_commit("days"), "time", b"half of a ti")
    daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=request.pipeline))
    until(lambda: daemon.pfs.InspectCommit(_inspect("days")).HasField("finished"))
    assert len(ticked(daemon, "days")) == 2


def test_repos_of_cron_inputs_belong_to_one_pipeline_and_go_with_it(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.commit_files("in", {"a": b"x"})
    with pytest.raises(grpc.RpcError, match="repo in holds data"):
        daemon.pps.CreatePipeline(spec(input=cron(spec="@yearly", repo="in")))
    with pytest.raises(grpc.RpcError, match="repo missing does not exist"):
        daemon.pps.CreatePipeline(spec(input={"cross": [atom("missing"), cron(spec="@yearly")]}))
    daemon.pps.CreatePipeline(spec(input=cron(spec="@yearly", repo="years")))
    with pytest.raises(grpc.RpcError, match="repo years is the clock of pipeline upper"):
        daemon.pps.CreatePipeline(spec("other", input=cron(spec="@yearly", repo="years")))
    delete(daemon, delete_repo=True)
    repos = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest(), timeout=LIMIT).repo_info
    assert [info.repo.name for info in repos] == ["in"]


def _inspect(repo: str) -> pfs_pb2.InspectCommitRequest:
    return pfs_pb2.InspectCommitRequest(commit=commit(repo, "master"))


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS
