"""Incremental pipelines: a changed datum begins with its former output and sees only what is new."""

from __future__ import annotations

import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import ended, flush, inspect, jobs, logs, spec, until, update

SUM = [
    "sum=$(cat /pfs/out/sum 2>/dev/null || echo 0)",
    "for f in $(find /pfs/in -type f | sort); do sum=$((sum + $(cat $f))); echo $f; done",
    "echo $sum > /pfs/out/sum",
    "mkdir -p /pfs/out/deep/empty",
    "echo x >> /pfs/out/deep/runs",
]


def said(daemon: Daemon, job: pps_pb2.JobInfo) -> list[str]:
    return [line.message for line in logs(daemon, job=job.job) if line.user]


def test_a_sum_adds_only_the_new_lines(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec(stdin=SUM, input={"atom": {"repo": "in", "glob": "/"}}, incremental=True)
    daemon.pps.CreatePipeline(request)
    for lines in (b"1\n2\n", b"30\n", b"400\n500\n"):
        daemon.pachctl("put-file", "in", "master", "numbers", "-c", "--split", "line", "-f", "-", stdin=lines)
        flush(daemon, commit("in", "master"))
    made = commit("upper", "master")
    assert daemon.get(made, "sum") == b"933\n"
    assert daemon.get(made, "deep/runs") == b"x\nx\nx\n"
    seen = [said(daemon, job) for job in jobs(daemon)]
    names = [f"/pfs/in/numbers/{number:016x}" for number in range(5)]
    assert seen == [names[:2], names[2:3], names[3:]]
    [first, _, last] = jobs(daemon)
    assert first.incremental
    assert inspect(daemon).incremental
    assert last.stats.download_bytes < first.stats.download_bytes + 20


def test_each_datum_goes_on_by_itself_and_from_what_succeeded(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = ["if [ -e /pfs/in/a/poison ]; then exit 1; fi", *SUM[:2]]
    lines += ["d=$(ls /pfs/in); echo $sum > /pfs/out/sum; cp /pfs/out/sum /pfs/out/sum-$d"]
    daemon.pps.CreatePipeline(spec(stdin=lines, incremental=True))
    flush(daemon, daemon.commit_files("in", {"a/1": b"1", "b/1": b"10"}))
    flush(daemon, daemon.commit_files("in", {"a/2": b"2", "c/1": b"100"}))
    made = commit("upper", "master")
    assert daemon.get(made, "sum") == b"3\n10\n100\n"
    assert [one for job in jobs(daemon)[1:] for one in sorted(said(daemon, job))] == ["/pfs/in/a/2", "/pfs/in/c/1"]

    # A job that fails in between changes nothing: the next sees all that is new since the last success.
    daemon.commit_files("in", {"a/3": b"3", "a/poison": b"0"})
    until(lambda: len(jobs(daemon)) == 3)
    assert ended(daemon, jobs(daemon)[2]).state == pps_pb2.JOB_FAILURE
    at = daemon.start_commit("in")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path="a/poison")))
    daemon.put(at, "a/2", b"20", overwrite=True)
    daemon.finish_commit(at)
    flush(daemon, at)
    assert sorted(said(daemon, jobs(daemon)[-1])) == ["/pfs/in/a/2", "/pfs/in/a/3"]
    assert daemon.get(made, "sum-a") == b"26\n"


def test_what_lost_a_file_is_computed_from_nothing(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=SUM, incremental=True))
    flush(daemon, daemon.commit_files("in", {"a/1": b"1", "a/sub/2": b"2"}))
    at = daemon.start_commit("in")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path="a/sub/2")))
    daemon.put(at, "a/3", b"30")
    daemon.finish_commit(at)
    flush(daemon, at)
    assert daemon.get(commit("upper", "master"), "sum") == b"31\n"
    assert daemon.get(commit("upper", "master"), "deep/runs") == b"x\n"


@pytest.mark.parametrize("lazy", [False, True])
def test_an_input_without_news_is_an_empty_directory(pipeline_daemon: Daemon, lazy: bool) -> None:
    daemon = pipeline_daemon
    for repo in ("in", "other"):
        daemon.create_repo(repo)
    inputs = [{"atom": {"repo": repo, "glob": "/*", "lazy": lazy}} for repo in ("in", "other")]
    lines = ["cat /pfs/out/all 2>/dev/null || true", "for f in $(find /pfs/in /pfs/other ! -type d); do cat $f; done"]
    lines += ["find /pfs/other -type d | sort > /pfs/out/dirs", "cat /pfs/in/d/* >> /pfs/out/all"]
    daemon.pps.CreatePipeline(spec(stdin=lines, input={"cross": inputs}, incremental=True))
    daemon.commit_files("other", {"f": b"other\n"})
    flush(daemon, daemon.commit_files("in", {"d/1": b"one\n"}))
    flush(daemon, daemon.commit_files("in", {"d/2": b"two\n"}))
    made = commit("upper", "master")
    assert [said(daemon, job) for job in jobs(daemon)] == [["one", "other"], ["one", "two"]]
    assert daemon.get(made, "all") == b"one\ntwo\n"
    assert daemon.get(made, "dirs") == b"/pfs/other\n"


def test_incremental_can_be_turned_on_for_what_was_computed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=SUM))
    flush(daemon, daemon.commit_files("in", {"a/1": b"1"}))
    update(daemon, spec(stdin=SUM, incremental=True))
    flush(daemon, daemon.commit_files("in", {"a/2": b"2"}))
    assert said(daemon, jobs(daemon)[-1]) == ["/pfs/in/a/2"]
    assert daemon.get(commit("upper", "master"), "sum") == b"3\n"
