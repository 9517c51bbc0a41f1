"""enable_stats: what datums cost, said and were shown, kept as commits."""

from __future__ import annotations

import json

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from ppsd.worker import account
from tests.support.daemons import Daemon
from tests.support.pipelines import ended, flush, inspect, jobs, spec, until, update

LINES = ["n=$(basename /pfs/in/*)", "echo saw $n", "if [ $n = bad ]; then exit 3; fi", "cp /pfs/in/* /pfs/out/"]


def datums(daemon: Daemon, job: pps_pb2.JobInfo) -> dict[str, pps_pb2.DatumInfo]:
    """By the path of their file."""
    found = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=job.job)).datum_info
    return {info.data[0].path: info for info in found}


def test_a_job_keeps_how_its_datums_went(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=LINES, enable_stats=True))
    [made] = flush(daemon, daemon.commit_files("in", {"a": b"12345", "b": b"1"}))
    [job] = jobs(daemon)
    assert job.enable_stats
    assert inspect(daemon).enable_stats
    assert job.stats_commit.repo.name == "upper"
    assert job.stats_commit.id != made.commit.id
    info = datums(daemon, job)["/a"]
    top = info.datum.id
    assert info.stats.download_bytes == info.stats.upload_bytes == 5
    assert info.stats.process_time.ToNanoseconds() > 0
    assert (info.pfs_state.commit, info.pfs_state.path) == (job.stats_commit, f"/{top}/pfs")
    assert daemon.get(job.stats_commit, f"{top}/logs") == b"saw a\n"
    assert daemon.get(job.stats_commit, f"{top}/pfs/in/a") == daemon.get(job.stats_commit, f"{top}/pfs/out/a")
    assert json.loads(daemon.get(job.stats_commit, f"{top}/stats"))["downloadBytes"] == "5"
    assert f"{top}/job:{job.job.id}" in daemon.list(job.stats_commit, top)
    one = pps_pb2.InspectDatumRequest(datum=info.datum)
    assert daemon.pps.InspectDatum(one) == info

    # What was computed before is kept with each later job, and says which one computed it.
    flush(daemon, daemon.commit_files("in", {"c": b"1"}))
    later = jobs(daemon)[-1]
    assert {path: info.stats.upload_bytes for path, info in datums(daemon, later).items()} == {
        "/a": 5,
        "/b": 1,
        "/c": 1,
    }
    assert f"{top}/job:{job.job.id}" in daemon.list(later.stats_commit, top)
    text = daemon.pachctl("inspect-datum", job.job.id, top).stdout
    assert b"Data Downloaded: 5B" in text


def test_stats_follow_the_datums_also_those_that_were_computed_without(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=LINES))
    flush(daemon, daemon.commit_files("in", {"old": b"x"}))
    update(daemon, spec(stdin=LINES, enable_stats=True))

    def kept() -> set[str]:
        """The files whose datums are in the last job's stats commit."""
        job = jobs(daemon)[-1]
        known = {info.datum.id: path for path, info in datums(daemon, job).items()}
        return {known.get(name.strip("/"), "gone") for name in daemon.list(job.stats_commit)}

    flush(daemon, daemon.commit_files("in", {"a": b"x", "b": b"x"}))
    assert kept() == {"/a", "/b"}
    at = daemon.start_commit("in")
    for path in ("old", "a"):
        daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path=path)))
    daemon.put(at, "b", b"more")
    daemon.put(at, "c", b"x")
    daemon.finish_commit(at)
    flush(daemon, at)
    assert kept() == {"/b", "/c"}

    # A job that fails in between leaves its own; the next one goes on from the last that succeeded.
    daemon.commit_files("in", {"bad": b"x", "d": b"x"})
    until(lambda: len(jobs(daemon)) == 4)
    ended(daemon, jobs(daemon)[-1])
    assert kept() >= {"/b", "/c", "/bad"}
    at = daemon.start_commit("in")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path="bad")))
    daemon.finish_commit(at)
    flush(daemon, at)
    assert kept() == {"/b", "/c", "/d"}


def test_a_job_that_fails_keeps_why(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=LINES, enable_stats=True))
    daemon.commit_files("in", {"a": b"x", "bad": b"x"})
    until(lambda: jobs(daemon))
    job = ended(daemon, jobs(daemon)[0])
    assert job.state == pps_pb2.JOB_FAILURE
    info = datums(daemon, job)["/bad"]
    assert info.state == pps_pb2.FAILED
    assert b"exit status 3" in daemon.get(job.stats_commit, f"{info.datum.id}/failure")
    assert daemon.get(job.stats_commit, f"{info.datum.id}/logs") == b"saw bad\n"


def test_without_stats_nothing_is_kept_and_the_branch_is_reserved(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=LINES))
    flush(daemon, daemon.commit_files("in", {"a": b"x"}))
    [job] = jobs(daemon)
    assert not job.HasField("stats_commit")
    assert not datums(daemon, job)["/a"].HasField("pfs_state")
    with pytest.raises(grpc.RpcError, match="output_branch can't be stats"):
        daemon.pps.CreatePipeline(spec("other", enable_stats=True, output_branch="stats"))


def test_the_end_of_what_is_printed_is_kept() -> None:
    tail = account.Tail()
    for number in range(100):
        tail.feed(b"%05d" % number * 10_000)
    text = tail.text()
    assert len(text) == account.MAX_LOG_BYTES
    assert text.endswith(b"00099" * 10_000)
