"""Pipelines at work: a real daemon, real workers with real mounts."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import grpc
import pytest
from google.protobuf import empty_pb2

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import LIMIT, UPPER, Gate, delete, ended, flush, inspect, jobs, logs, spec, until, workers


def test_each_commit_is_processed_and_only_what_is_new_is_computed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    first = daemon.commit_files("in", {"a": b"one\n", "b": b"two\n"})
    request = spec(description="shouts")
    request.transform.image = "some/image"
    daemon.pps.CreatePipeline(request)

    [made] = flush(daemon, first)
    assert made.commit.repo.name == "upper"
    assert [one.id for one in made.provenance] == [first.id]
    assert daemon.get(made.commit, "a") == b"ONE\n"

    second = daemon.commit_files("in", {"c": b"three\n"})
    [made] = flush(daemon, second)
    assert daemon.list(commit("upper", "master")) == ["a", "b", "c"]

    [job, later] = jobs(daemon)
    assert [job.state, later.state] == [pps_pb2.JOB_SUCCESS] * 2
    assert (job.data_processed, job.data_skipped, job.data_total) == (2, 0, 2)
    assert (later.data_processed, later.data_skipped, later.data_total) == (1, 2, 3)
    assert later.output_commit == made.commit
    assert later.input.atom.commit == second.id

    info = inspect(daemon)
    assert info.state == pps_pb2.PIPELINE_RUNNING
    assert info.description == "shouts"
    assert dict(info.job_counts) == {pps_pb2.JOB_SUCCESS: 2}

    lines = logs(daemon, job=later.job)
    assert [line.message for line in lines if line.user] == ["did /pfs/in/c"]
    assert any('image "some/image" is not used' in line.message for line in lines)
    of_a = logs(daemon, pipeline=info.pipeline, data_filters=["/a"])
    assert [line.message for line in of_a] == ["did /pfs/in/a"]
    digest = of_a[0].data[0].hash
    inspected = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=first, path="a")))
    assert inspected.hash == digest
    assert logs(daemon, pipeline=info.pipeline, data_filters=[digest.hex()]) == of_a
    assert [one.job for one in daemon.pps.ListJob(pps_pb2.ListJobRequest(input_commit=[second])).job_info] == [
        later.job
    ]


def test_commits_that_existed_before_are_processed_in_order_after_from_commit(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    made = [daemon.commit_files("in", {str(number): b"x"}) for number in range(4)]
    daemon.pps.CreatePipeline(spec(input={"atom": {"repo": "in", "glob": "/", "from_commit": made[1].id}}))
    flush(daemon, made[3])
    assert [job.input.atom.commit for job in jobs(daemon)] == [made[2].id, made[3].id]
    assert daemon.list(commit("upper", "master")) == ["0", "1", "2", "3"]


def test_a_commit_without_datums_gives_an_empty_output(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(input={"atom": {"repo": "in", "glob": "/none*"}}))
    [made] = flush(daemon, daemon.commit_files("in", {"a": b"x"}))
    assert made.size_bytes == 0
    assert [job.data_total for job in jobs(daemon)] == [0]


def test_output_of_datums_is_merged_and_links_copy_nothing(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = [
        "cat /pfs/in/* >> /pfs/out/all",
        "mkdir -p /pfs/out/empty /pfs/out/deep/er",
        "for f in /pfs/in/*; do ln -s $f /pfs/out/deep/er/$(basename $f); done",
        "env | grep -E '^(PACH|in|EXTRA)' | sort > /pfs/out/deep/env-$(basename /pfs/in/*)",
    ]
    request = spec(stdin=lines)
    request.transform.env["EXTRA"] = "yes"
    daemon.pps.CreatePipeline(request)
    given = daemon.commit_files("in", {"a": b"1\n", "b": b"2\n", "c": b"3\n"})
    [made] = flush(daemon, given)
    assert daemon.get(made.commit, "all") == b"1\n2\n3\n"
    assert daemon.list(made.commit, "deep/er") == ["deep/er/a", "deep/er/b", "deep/er/c"]
    assert daemon.list(made.commit, "empty") == []
    [job] = jobs(daemon)
    assert daemon.get(made.commit, "deep/env-b").decode().splitlines() == [
        "EXTRA=yes",
        f"PACH_JOB_ID={job.job.id}",
        f"PACH_OUTPUT_COMMIT_ID={made.commit.id}",
        "in=/pfs/in/b",
        f"in_COMMIT={given.id}",
    ]


def test_a_failing_datum_fails_its_job_and_the_rest_is_kept(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=["echo try; [ ! -e /pfs/in/bad ]", *UPPER]))
    good = daemon.commit_files("in", {"a": b"a"})
    flush(daemon, good)
    bad = daemon.commit_files("in", {"bad": b"bad"})
    with pytest.raises(grpc.RpcError, match="bad"):
        flush(daemon, bad)
    [first, failed] = jobs(daemon)
    assert failed.state == pps_pb2.JOB_FAILURE
    messages = [line.message for line in logs(daemon, job=failed.job, data_filters=["bad"])]
    assert messages.count("try") == 4
    assert sum("exit status 1" in message for message in messages) == 4
    head = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("upper", "master")))
    assert head.commit == first.output_commit
    output = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=failed.output_commit))
    assert not output.HasField("finished")

    again = daemon.start_commit("in")
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=again, path="bad")))
    daemon.put(again, "b", b"b")
    daemon.finish_commit(again)
    [made] = flush(daemon, again)
    assert made.parent_commit == first.output_commit
    assert daemon.list(made.commit) == ["a", "b"]
    assert jobs(daemon)[-1].data_skipped == 1


def test_a_command_that_does_not_exist_fails_the_job_with_its_name(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec()
    del request.transform.cmd[:]
    request.transform.cmd.append("/no/such/program")
    daemon.pps.CreatePipeline(request)
    with pytest.raises(grpc.RpcError, match="/no/such/program"):
        flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    [job] = jobs(daemon)
    assert job.state == pps_pb2.JOB_FAILURE
    assert any("/no/such/program" in line.message for line in logs(daemon, job=job.job))


def test_accepted_exit_statuses_succeed(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec(stdin=["echo x > /pfs/out/x", "exit 3"])
    request.transform.accept_return_code.append(3)
    daemon.pps.CreatePipeline(request)
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert daemon.get(commit("upper", "master"), "x") == b"x\n"


def test_huge_and_binary_output_does_no_harm(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = ["head -c 30000000 /dev/urandom", "echo", "yes line | head -n 200000", "echo the end"]
    daemon.pps.CreatePipeline(spec(stdin=lines))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    kept = logs(daemon, pipeline=pps_pb2.Pipeline(name="upper"))
    assert 0 < len(kept) <= 10_000
    assert kept[-1].message == "the end"


def test_commits_that_finish_while_a_job_runs_get_jobs_of_their_own_in_order(
    pipeline_daemon: Daemon, gate: Gate
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    given = [daemon.commit_files("in", {"a": b"a"})]
    gate.began(1)
    given += [daemon.commit_files("in", {name: b"x"}) for name in "bc"]
    assert [job.input.atom.commit for job in jobs(daemon)] == [given[0].id]
    gate.open()
    made = [flush(daemon, one)[0] for one in given]
    assert [job.input.atom.commit for job in jobs(daemon)] == [one.id for one in given]
    assert [daemon.list(one.commit) for one in made] == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_erasing_the_file_system_ends_what_runs_and_leaves_a_pipeline_that_works_again(
    pipeline_daemon: Daemon, gate: Gate
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    daemon.commit_files("in", {"a": b"a"})
    gate.began(1)
    daemon.pfs.DeleteAll(empty_pb2.Empty(), timeout=LIMIT)
    gate.open()
    [job] = jobs(daemon)
    assert ended(daemon, job).state == pps_pb2.JOB_FAILURE
    assert "Traceback" not in daemon.log()
    delete(daemon)
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    flush(daemon, daemon.commit_files("in", {"b": b"b"}))
    assert daemon.list(commit("upper", "master")) == ["b"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_pipeline_is_deleted_while_it_runs(pipeline_daemon: Daemon, gate: Gate, everything: bool) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    daemon.commit_files("in", {"a": b"a", "b": b"b"})
    gate.began(2)
    delete(daemon, delete_jobs=everything, delete_repo=everything)
    assert workers(daemon) == []
    assert list(daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest()).pipeline_info) == []
    repos = [info.repo.name for info in daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info]
    if everything:
        assert repos == ["in"]
        assert jobs(daemon, "") == []
    else:
        assert sorted(repos) == ["in", "upper"]
        assert [job.state for job in jobs(daemon)] == [pps_pb2.JOB_KILLED]
        listed = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="upper"))).commit_info
        assert list(listed) == []
        gate.open()
        daemon.pps.CreatePipeline(spec())
        until(lambda: jobs(daemon)[-1].state == pps_pb2.JOB_SUCCESS)


def test_a_pipeline_that_is_refused_leaves_nothing_behind(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    for request, code in [
        (spec(input={"atom": {"repo": "nowhere", "glob": "/*"}}), grpc.StatusCode.NOT_FOUND),
        (spec(input={"atom": {"repo": "in", "glob": "/["}}), grpc.StatusCode.INVALID_ARGUMENT),
        (spec(input={"atom": {"repo": "in", "glob": "/", "from_commit": "0" * 32}}), grpc.StatusCode.NOT_FOUND),
        (spec(egress={"URL": "ftp://bucket"}), grpc.StatusCode.INVALID_ARGUMENT),
        (spec(update=True), grpc.StatusCode.NOT_FOUND),
    ]:
        with pytest.raises(grpc.RpcError) as failed:
            daemon.pps.CreatePipeline(request)
        assert failed.value.code() is code
    assert [info.repo.name for info in daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info] == ["in"]
    daemon.pps.CreatePipeline(spec())
    with pytest.raises(grpc.RpcError) as failed:
        daemon.pps.CreatePipeline(spec())
    assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_a_chain_of_pipelines_flows_by_itself(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    second = spec("twice", ["for f in /pfs/upper/*; do cat $f $f > /pfs/out/$(basename $f); done"])
    second.input.atom.repo = "upper"
    daemon.pps.CreatePipeline(second)
    given = daemon.commit_files("in", {"a": b"a"})
    assert sorted(info.commit.repo.name for info in flush(daemon, given)) == ["twice", "upper"]
    assert daemon.get(commit("twice", "master"), "a") == b"AA"
    with pytest.raises(grpc.RpcError, match="twice"):
        delete(daemon, delete_repo=True)
    daemon.pps.DeletePipeline(pps_pb2.DeletePipelineRequest(all=True, delete_jobs=True, delete_repo=True))
    assert [info.repo.name for info in daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info] == ["in"]


def test_without_the_right_to_mount_the_pipeline_fails_and_says_why(tmp_path: pathlib.Path) -> None:
    daemon = _Unprivileged(tmp_path / "root")
    try:
        daemon.start()
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(spec())
        with pytest.raises(grpc.RpcError, match="namespace"):
            flush(daemon, daemon.commit_files("in", {"a": b"a"}))
        info = inspect(daemon)
        assert info.state == pps_pb2.PIPELINE_FAILURE
        assert "namespace" in info.recent_error
        [job] = jobs(daemon)
        assert ended(daemon, job).state == pps_pb2.JOB_FAILURE
    finally:
        daemon.end()


class _Unprivileged(Daemon):
    """A daemon that may not mount."""

    def start(self) -> Daemon:
        if os.geteuid() != 0:
            pytest.skip("only from root can the right to mount be taken: others have user namespaces")
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("setpriv is not installed")
        command = [setpriv, "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable]
        command += ["-m", "pfsdaemon.main", "--root", str(self.root), "--listen", self.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]
        return self


def test_delete_all_removes_pipelines_jobs_and_logs_but_no_repo(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    [job] = jobs(daemon)
    daemon.pps.DeleteAll(empty_pb2.Empty())
    assert jobs(daemon, "") == []
    for ask in (lambda: inspect(daemon), lambda: ended(daemon, job), lambda: logs(daemon, job=job.job)):
        with pytest.raises(grpc.RpcError) as failed:
            ask()
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert daemon.get(commit("upper", "master"), "a") == b"A"
    assert workers(daemon) == []


def test_garbage_is_collected_while_a_job_runs_and_what_was_computed_stays(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    gate = Gate(tmp_path / "gate")
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=gate.lines()))
    daemon.create_repo("gone")
    daemon.commit_files("gone", {"big": os.urandom(3_000_000)})
    first = daemon.commit_files("in", {f"f{number}": b"%d" % number * 5000 for number in range(6)})
    gate.began(2)
    daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="gone")))
    daemon.pps.GarbageCollect(pps_pb2.GarbageCollectRequest(), timeout=LIMIT)
    gate.open()
    while len(jobs(daemon)) == 0 or jobs(daemon)[0].state != pps_pb2.JOB_SUCCESS:
        daemon.pps.GarbageCollect(pps_pb2.GarbageCollectRequest(), timeout=LIMIT)
    flush(daemon, first)
    second = daemon.commit_files("in", {"f6": b"six"})
    flush(daemon, second)
    assert [(job.data_processed, job.data_skipped) for job in jobs(daemon)] == [(6, 0), (1, 6)]
    assert daemon.get(commit("upper", "master"), "f3") == b"3" * 5000
    assert daemon.get(commit("upper", "master"), "f6") == b"six"
