"""Pipelines with several inputs: crosses, unions, DAGs in which branches meet again."""

from __future__ import annotations

import pathlib
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import all_ended, atom, flush, inspect, jobs, spec, until

JOIN = [
    'for f in $(cd /pfs && find . -type f -not -path "./out/*" | sort); do',
    '  printf "%s=%s " "$f" "$(cat /pfs/$f)" >> /pfs/out/seen; done',
    "echo >> /pfs/out/seen",
]


def seen(daemon: Daemon, at: pfs_pb2.Commit) -> list[str]:
    """What each datum saw of /pfs, in the order of the datums."""
    return daemon.get(at, "seen").decode().replace("./", "").splitlines()


def commits_of(job: pps_pb2.JobInfo) -> list[str]:
    return [member.atom.commit for member in (*job.input.cross, *job.input.union)]


def failure(daemon: Daemon, request: pps_pb2.CreatePipelineRequest) -> str:
    with pytest.raises(grpc.RpcError) as failed:
        daemon.pps.CreatePipeline(request)
    assert isinstance(failed.value, grpc.Call)
    return failed.value.details() or ""


def test_a_cross_runs_once_all_inputs_have_a_commit_and_computes_what_is_new(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in "ab":
        daemon.create_repo(repo)
    daemon.pps.CreatePipeline(spec(stdin=JOIN, input={"cross": [atom("a"), atom("b", name="other")]}))
    first = daemon.commit_files("a", {"x": b"1", "y": b"2"})
    second = daemon.commit_files("a", {"z": b"3"})
    until(lambda: inspect(daemon).state == pps_pb2.PIPELINE_RUNNING)
    assert jobs(daemon) == []
    other = daemon.commit_files("b", {"p": b"5", "q": b"6"})
    [made] = flush(daemon, other)
    assert {one.id for one in made.provenance} == {second.id, other.id}
    assert seen(daemon, made.commit) == [
        "a/x=1 other/p=5 ",
        "a/x=1 other/q=6 ",
        "a/y=2 other/p=5 ",
        "a/y=2 other/q=6 ",
        "a/z=3 other/p=5 ",
        "a/z=3 other/q=6 ",
    ]
    third = daemon.commit_files("b", {"r": b"7"})
    [made] = flush(daemon, third)
    [job, later] = jobs(daemon)
    assert commits_of(job) == [second.id, other.id]
    assert commits_of(later) == [second.id, third.id]
    assert (later.data_processed, later.data_skipped, later.data_total) == (3, 6, 9)
    listed = daemon.pps.ListJob(pps_pb2.ListJobRequest(input_commit=[second, third])).job_info
    assert [one.job for one in listed] == [later.job]
    assert list(daemon.pps.ListJob(pps_pb2.ListJobRequest(input_commit=[first])).job_info) == []


def test_a_union_shows_one_member_at_a_time_and_an_environment_of_its_own(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in "ab":
        daemon.create_repo(repo)
    lines = ['echo "${same-none} ${b-none}" >> /pfs/out/seen']
    union = {"union": [atom("a", name="same"), atom("b", name="same"), atom("b", branch="dev")]}
    daemon.pps.CreatePipeline(spec(stdin=lines, input=union))
    daemon.commit_files("a", {"x": b"1"})
    daemon.commit_files("b", {"y": b"2"})
    last = daemon.commit_files("b", {"z": b"3"}, branch="dev")
    [made] = flush(daemon, last)
    assert seen(daemon, made.commit) == ["/pfs/same/x none", "/pfs/same/y none", "none /pfs/b/z"]


def test_a_datum_that_members_of_a_union_share_counts_for_each_and_is_computed_once(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    repos = "abcd"
    given = []
    for repo in repos:
        daemon.create_repo(repo)
        given.append(daemon.commit_files(repo, {"file-0": b"0", "file-1": b"1"}))
    lines = [f"echo x >> {tmp_path}/$(basename /pfs/in/*)", "cp -r /pfs/in /pfs/out"]
    shared = {"union": [atom(repo, name="in") for repo in repos]}
    daemon.pps.CreatePipeline(spec(stdin=lines, input=shared, enable_stats=True))
    flush(daemon, given[-1])
    [job] = all_ended(daemon, 1)
    assert (job.data_total, job.data_processed, job.data_skipped) == (8, 2, 6)
    made = commit("upper", "master")
    assert [daemon.get(made, f"in/file-{number}") for number in (0, 1)] == [b"0000", b"1111"]
    assert [(tmp_path / f"file-{number}").read_text() for number in (0, 1)] == ["x\n", "x\n"]
    datums = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=job.job)).datum_info
    assert [info.data[0].path for info in datums] == ["/file-0", "/file-1"] * 4
    assert all(info.stats.HasField("process_time") for info in datums)

    # What goes with one member stays with the others.
    at = daemon.start_commit("b")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path="file-0")))
    daemon.finish_commit(at)
    flush(daemon, at)
    assert [daemon.get(made, f"in/file-{number}") for number in (0, 1)] == [b"000", b"1111"]
    job = all_ended(daemon, 2)[-1]
    assert (job.data_total, job.data_processed, job.data_skipped) == (7, 0, 7)
    datums = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=job.job)).datum_info
    assert all(info.stats.HasField("process_time") for info in datums)


def test_inputs_nest_and_one_branch_may_be_read_twice(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in "ab":
        daemon.create_repo(repo)
    pairs = {"cross": [atom("a"), {"union": [atom("b"), atom("a", "/", name="whole")]}]}
    daemon.pps.CreatePipeline(spec(stdin=JOIN, input=pairs))
    daemon.commit_files("a", {"x": b"1"})
    [made] = flush(daemon, daemon.commit_files("b", {"y": b"2"}))
    assert seen(daemon, made.commit) == ["a/x=1 b/y=2 ", "a/x=1 whole/x=1 "]
    [made] = flush(daemon, daemon.commit_files("a", {"z": b"3"}))
    assert seen(daemon, made.commit) == [
        "a/x=1 b/y=2 ",
        "a/x=1 whole/x=1 whole/z=3 ",
        "a/z=3 b/y=2 ",
        "a/z=3 whole/x=1 whole/z=3 ",
    ]


def test_branches_of_a_dag_that_meet_again_agree_on_where_they_come_from(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("a")
    copy = {"parallelism_spec": {"constant": 1}}
    daemon.pps.CreatePipeline(spec("b", ["cp /pfs/a/* /pfs/out/"], input=atom("a", "/"), **copy))
    daemon.pps.CreatePipeline(spec("c", ["sleep 0.3", "cp /pfs/a/* /pfs/out/"], input=atom("a", "/"), **copy))
    meet = {"cross": [atom("b", "/"), atom("c", "/"), atom("a", "/")]}
    daemon.pps.CreatePipeline(spec("d", ["wc -w /pfs/a/n /pfs/b/n /pfs/c/n > /pfs/out/n"], input=meet, **copy))
    given = [daemon.commit_files("a", {"n": b"word "}) for _ in range(4)]
    for number, one in enumerate(given, 1):
        made = [info for info in flush(daemon, one) if info.commit.repo.name == "d"]
        assert len(made) == 1
        counts = [line.split()[0] for line in daemon.get(made[0].commit, "n").decode().splitlines()]
        assert counts == [str(number)] * 3 + [str(3 * number)]
    assert len(all_ended(daemon, 4, "d")) == 4


def test_the_old_form_of_inputs_is_a_cross(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in "ab":
        daemon.create_repo(repo)
    request = spec(stdin=JOIN)
    request.ClearField("input")
    for repo in "ab":
        request.inputs.append(pps_pb2.PipelineInput(repo=pfs_pb2.Repo(name=repo), glob="/"))
    daemon.pps.CreatePipeline(request)
    daemon.commit_files("a", {"x": b"1"})
    [made] = flush(daemon, daemon.commit_files("b", {"y": b"2"}))
    assert seen(daemon, made.commit) == ["a/x=1 b/y=2 "]
    assert [member.atom.repo for member in inspect(daemon).input.cross] == ["a", "b"]


def test_sets_are_made_in_order_also_across_a_kill(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    for repo in "ab":
        daemon.create_repo(repo)
    daemon.pps.CreatePipeline(spec(stdin=JOIN, input={"cross": [atom("a", "/"), atom("b", "/")]}))
    expected: list[Any] = []
    heads = {"a": "", "b": ""}
    for number, repo in enumerate("aabbaab"):
        heads[repo] = daemon.commit_files(repo, {str(number): b"x"}).id
        if all(heads.values()):
            expected.append([heads["a"], heads["b"]])
        if number in (1, 3, 5):
            daemon.kill()
            daemon.start()
    done = all_ended(daemon, len(expected))
    assert [commits_of(job) for job in done] == expected
    assert {job.state for job in done} == {pps_pb2.JOB_SUCCESS}
    assert len(seen(daemon, commit("upper", "master"))) == 1


def test_inputs_that_can_not_be_told_apart_or_found_are_refused(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("a")
    assert "two inputs that are called a" in failure(daemon, spec(input={"cross": [atom("a"), atom("a", "/")]}))
    assert "nowhere" in failure(daemon, spec(input={"union": [atom("a"), atom("nowhere")]}))
    assert [info.repo.name for info in daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info] == ["a"]


def test_a_glob_with_two_stars_is_one_component_unless_the_input_is_recursive(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("a")
    lines = ["find /pfs/a -type f | sed 's|^/pfs/||' > /pfs/out/$(find /pfs/a -type f | md5sum | cut -c1-8)"]
    flat, deep = atom("a", glob="/**/*"), atom("a", glob="/**/*.csv", recursive=True)
    daemon.pps.CreatePipeline(spec("flat", stdin=lines, input=flat))
    daemon.pps.CreatePipeline(spec("deep", stdin=lines, input=deep))
    assert inspect(daemon, "deep").input.atom.recursive
    assert not inspect(daemon, "flat").input.atom.recursive
    at = daemon.commit_files("a", {"top.csv": b"1", "b/one.csv": b"1", "b/c/two.csv": b"1", "b/d/no": b"1"})

    def shown(repo: str) -> list[str]:
        made = commit(repo, "master")
        return sorted(daemon.get(made, path).decode().replace("\n", " ").strip() for path in daemon.list(made))

    flush(daemon, at)
    assert shown("flat") == ["a/b/c/two.csv", "a/b/d/no", "a/b/one.csv"]
    assert shown("deep") == ["a/b/c/two.csv", "a/b/one.csv", "a/top.csv"]
    flush(daemon, daemon.commit_files("a", {"b/c/e/three.csv": b"1"}))
    assert shown("deep") == ["a/b/c/e/three.csv", "a/b/c/two.csv", "a/b/one.csv", "a/top.csv"]
    assert shown("flat") == ["a/b/c/e/three.csv a/b/c/two.csv", "a/b/d/no", "a/b/one.csv"]
