"""flush-commit over pipelines waits for what is to come, and only for that; repos that pipelines need are kept."""

from __future__ import annotations

import concurrent.futures
import pathlib

import grpc
import pytest

from pachproto import pfs_pb2, pfsd_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import LIMIT, Gate, atom, delete, flush, inspect, jobs, spec, until, update
from tests.support.pipelineservices import pipeline_service

COPY = ["cp /pfs/*/* /pfs/out/ 2>/dev/null || true"]


def came(daemon: Daemon, at: pfs_pb2.Commit, *to: str) -> list[str]:
    """The repos of what comes of a commit, once all has come."""
    request = pfs_pb2.FlushCommitRequest(commits=[at], to_repos=[pfs_pb2.Repo(name=name) for name in to])
    return [info.commit.repo.name for info in daemon.pfs.FlushCommit(request, timeout=LIMIT)]


def copies(name: str, *sources: dict[str, object], **more: object) -> pps_pb2.CreatePipelineRequest:
    """A pipeline that copies what it is shown."""
    return spec(name, COPY, input=sources[0] if len(sources) == 1 else {"cross": list(sources)}, **more)


def delete_repo(daemon: Daemon, name: str, *, force: bool = False) -> None:
    daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name=name), force=force))


def test_a_failure_elsewhere_is_no_business_of_who_asks_for_one_repo(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    gate = Gate(tmp_path / "gate")
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec("bad", ["exit 1"]))
    daemon.pps.CreatePipeline(spec("good", gate.lines()))
    given = daemon.commit_files("in", {"a": b"x"})
    until(lambda: jobs(daemon, "bad") and jobs(daemon, "bad")[0].state == pps_pb2.JOB_FAILURE)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(came, daemon, given, "good")
        gate.began(1)
        assert not waiting.done()
        gate.open()
        assert waiting.result(LIMIT) == ["good"]
    assert daemon.get(commit("good", "master"), "a") == b"x"
    with pytest.raises(grpc.RpcError, match="datum /a failed: command 'sh' ended with exit status 1"):
        came(daemon, given)


def test_what_no_pipeline_reads_is_not_waited_for(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    early = daemon.commit_files("in", {"a": b"1"})
    daemon.pps.CreatePipeline(copies("first", atom("in")))
    daemon.pps.CreatePipeline(copies("other", atom("first", branch="dev")))
    daemon.pps.CreatePipeline(copies("late", atom("in", from_commit="master")))
    assert came(daemon, early) == ["first"]
    aside = daemon.commit_files("in", {"b": b"2"}, branch="aside")
    assert came(daemon, aside) == []
    later = daemon.commit_files("in", {"c": b"3"})
    assert sorted(came(daemon, later)) == ["first", "late"]
    daemon.pps.CreatePipeline(copies("last", atom("first")))
    assert came(daemon, later, "last") == ["last"]

    # The repo of a pipeline that was deleted gets nothing any more, nor does what is computed from it.
    delete(daemon, "last")
    delete(daemon, "first")
    newest = daemon.commit_files("in", {"d": b"4"})
    assert came(daemon, newest) == ["late"]


def test_what_waits_for_another_input_or_to_be_started_is_still_to_come(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in ("in", "more"):
        daemon.create_repo(repo)
    daemon.pps.CreatePipeline(copies("both", atom("in"), atom("more")))
    daemon.pps.CreatePipeline(copies("alone", atom("in")))
    daemon.pachctl("stop-pipeline", "alone")
    passed_over = daemon.commit_files("in", {"a": b"1"})
    given = daemon.commit_files("in", {"b": b"2"})
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        both, late, alone = (
            pool.submit(came, daemon, *asked) for asked in ((given, "both"), (passed_over, "both"), (given, "alone"))
        )
        daemon.commit_files("more", {"m": b"m"})
        assert both.result(LIMIT) == ["both"]
        assert late.result(LIMIT) == []  # the next commit was there by then
        assert not alone.done()
        daemon.pachctl("start-pipeline", "alone")
        assert alone.result(LIMIT) == ["alone"]


def test_an_update_is_waited_for_down_the_line(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(copies("first", atom("in")))
    daemon.pps.CreatePipeline(copies("second", atom("first")))
    given = daemon.commit_files("in", {"a": b"1"})
    assert sorted(came(daemon, given)) == ["first", "second"]
    for word in ("x", "y", "z"):
        update(daemon, spec("first", [f"echo {word} > /pfs/out/a"]))
        flush(daemon, given)
        assert daemon.get(commit("second", "master"), "a") == f"{word}\n".encode()


def check_repos_are_kept(daemon: Daemon) -> None:
    """Repos that a pipeline needs are deleted only by force; then it says why it stands still, and goes on after."""
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(copies("upper", atom("in")))
    daemon.pps.CreatePipeline(copies("far", atom("upper")))
    given = daemon.commit_files("in", {"a": b"1"})
    assert sorted(came(daemon, given)) == ["far", "upper"]
    for name, words in (("in", "read by pipeline upper"), ("far", "written by pipeline far")):
        refused = daemon.pachctl("delete-repo", name, check=False)
        assert refused.returncode == 1
        assert f"repo {name} is {words}" in refused.stderr.decode()
    refused = daemon.pachctl("delete-repo", "--all", stdin=b"y\n", check=False)
    assert "pipeline far" in refused.stderr.decode()

    daemon.pachctl("delete-repo", "--force", "far")
    told = until(lambda: (info := inspect(daemon, "far")).recent_error and info)
    assert told.state == pps_pb2.PIPELINE_FAILURE
    assert told.recent_error.startswith("output repo far was deleted")
    for at in (given, daemon.commit_files("in", {"b": b"2"})):
        with pytest.raises(grpc.RpcError, match="pipeline far stands still: its output repo far was deleted"):
            came(daemon, at)
    assert came(daemon, at, "upper") == ["upper"]
    daemon.create_repo("far", "upper")
    assert sorted(came(daemon, at)) == ["far", "upper"]
    assert daemon.list(commit("far", "master")) == ["a", "b"]
    until(lambda: inspect(daemon, "far").state == pps_pb2.PIPELINE_RUNNING)
    assert inspect(daemon, "far").recent_error == ""

    daemon.pachctl("delete-repo", "--force", "in")
    told = until(lambda: (info := inspect(daemon, "upper")).recent_error and info)
    assert told.recent_error.startswith("input repo in was deleted")
    daemon.create_repo("in")
    at = daemon.commit_files("in", {"c": b"3"})
    assert sorted(came(daemon, at)) == ["far", "upper"]
    assert daemon.list(commit("far", "master")) == ["c"]


def test_repos_that_pipelines_need_are_not_deleted_by_the_way(pipeline_daemon: Daemon) -> None:
    check_repos_are_kept(pipeline_daemon)
    # An update makes the repo of a pipeline anew; deleting pipelines with their repos, and all, works whatever is gone.
    daemon = pipeline_daemon
    delete_repo(daemon, "far", force=True)
    update(daemon, copies("far", atom("upper"), description="anew"))
    assert came(daemon, commit("in", "master")) == ["upper"]  # what was taken is not taken again
    update(daemon, copies("far", atom("upper")), reprocess=True)
    assert sorted(came(daemon, commit("in", "master"))) == ["far", "upper"]
    delete_repo(daemon, "far", force=True)
    delete(daemon, "far", delete_repo=True, delete_jobs=True)
    delete(daemon, "upper", delete_repo=True)
    assert [info.repo.name for info in daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info] == ["in"]
    daemon.pps.CreatePipeline(copies("far", atom("in")))
    assert came(daemon, commit("in", "master")) == ["far"]
    daemon.pachctl("delete-all", stdin=b"y\n")
    assert list(daemon.records.Scan(pfsd_pb2.ScanRecordsRequest(prefix="derived/"))) == []


def test_so_they_are_where_the_service_is_a_process_of_its_own(daemon: Daemon) -> None:
    with pipeline_service(daemon) as (_, client):
        check_repos_are_kept(client)


def test_pipelines_of_a_version_that_did_not_tell_are_told_of_at_the_start(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(copies("upper", atom("in")))
    flush(daemon, daemon.commit_files("in", {"a": b"1"}))
    daemon.records.Write(pfsd_pb2.WriteRecordsRequest(delete_prefix=["derived/"], sync=True))
    delete_and_see = daemon.pachctl("delete-repo", "upper", "--force")
    assert delete_and_see.returncode == 0
    daemon.create_repo("upper", "in")
    daemon.kill()
    daemon.start()
    aside = daemon.commit_files("in", {"b": b"2"}, branch="aside")
    until(lambda: inspect(daemon))
    assert came(daemon, aside) == []
    with pytest.raises(grpc.RpcError, match="written by pipeline upper"):
        delete_repo(daemon, "upper")
