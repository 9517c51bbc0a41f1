"""Jobs that change the merge of a former job's datums give what a job from nothing would."""

from __future__ import annotations

import functools
import random
from typing import Any

from pachproto import pfs_pb2, pps_pb2
from pfsd import rpc
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import atom, ended, flush, jobs, spec, until, update

STEPS = 7

REFUSE = "if grep -q bad /pfs/in/*; then exit 1; fi"
"""Shell code that makes a datum fail."""


def concatenated(*names: str) -> list[str]:
    """Shell code that appends what a datum shows to one file, and writes a file of the datum's own."""
    return [
        "what=$(cat " + " ".join(f"/pfs/{name}/*" for name in names) + " | tr -d '\\n')",
        "echo $what >> /pfs/out/all",
        "mkdir -p /pfs/out/own && echo $what > /pfs/out/own/$what",
    ]


def change(daemon: Daemon, repo: str, files: dict[str, str], chance: random.Random) -> pfs_pb2.Commit:
    """A commit that adds, replaces or removes files; `files` is changed with it."""
    at = daemon.start_commit(repo)
    for name in chance.sample("abcdef", chance.randint(1, 2)):
        if name in files and chance.random() < 0.4:
            del files[name]
            daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path=name)))
        else:
            files[name] = f"{repo}{name}{chance.randint(0, 2)}"
            daemon.put(at, name, files[name].encode(), overwrite=True)
    daemon.finish_commit(at)
    return at


def objects(daemon: Daemon) -> Any:
    return rpc.Stub(daemon.channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])


def merge_tags(daemon: Daemon) -> list[str]:
    """The tags under which merges are kept."""
    found = objects(daemon).ListTags(pfs_pb2.ListTagsRequest(prefix="datum/"))
    return [one.tag for one in found if "/merge-" in one.tag]


def all_finished(daemon: Daemon, pipeline: str) -> bool:
    return all(job.HasField("finished") for job in jobs(daemon, pipeline))


def ordered(files: dict[str, str]) -> list[str]:
    return [files[name] for name in sorted(files)]


def test_whatever_changes_the_output_is_that_of_all_datums(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    chance = random.Random(7)
    for repo in ("x", "y"):
        daemon.create_repo(repo)
    same = [{"atom": {"repo": "x", "name": "in", "glob": glob}} for glob in ("/[a-d]", "/[c-f]")]
    inputs = {
        "single": (["x"], atom("x")),
        "cross": (["x", "y"], {"cross": [atom("x"), atom("y")]}),
        "union": (["in"], {"union": same}),
    }
    for name, (shown, one) in inputs.items():
        daemon.pps.CreatePipeline(spec(name, concatenated(*shown), input=one, parallelism_spec={"constant": 1}))
    x: dict[str, str] = {}
    y: dict[str, str] = {}
    at = change(daemon, "y", y, chance)
    for step in range(STEPS):
        at = change(daemon, "x", x, chance) if step == 0 or chance.random() < 0.7 else change(daemon, "y", y, chance)
        if step == 3:
            daemon.kill()
            daemon.start()
        flush(daemon, at)
        expected = {
            "single": ordered(x),
            "cross": [one + other for one in ordered(x) for other in ordered(y)],
            "union": [x[name] for name in "abcd" + "cdef" if name in x],
        }
        for name, datums in expected.items():
            until(functools.partial(all_finished, daemon, name))
            made = commit(name, "master")
            assert sorted(daemon.list(made, "own") if datums else []) == sorted({f"own/{one}" for one in datums})
            assert (daemon.get(made, "all") if datums else b"").decode().split() == datums
            job = jobs(daemon, name)[-1]
            assert job.data_total == len(datums) == job.data_processed + job.data_skipped
    for name in inputs:
        assert {job.state for job in jobs(daemon, name)} == {pps_pb2.JOB_SUCCESS}


def test_jobs_that_fail_or_go_back_do_not_disturb_later_ones(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    # With one worker, a datum that failed is tried again after the others.
    alone = {"constant": 1}
    daemon.pps.CreatePipeline(spec(stdin=[REFUSE, "cat /pfs/in/* >> /pfs/out/all"], parallelism_spec=alone))
    first = daemon.commit_files("in", {"a": b"a", "b": b"b"})
    flush(daemon, first)
    daemon.commit_files("in", {"c": b"bad", "d": b"d"})
    at = daemon.start_commit("in")
    daemon.put(at, "c", b"c", overwrite=True)
    daemon.put(at, "a", b"A", overwrite=True)
    daemon.finish_commit(at)
    flush(daemon, at)
    assert daemon.get(commit("upper", "master"), "all") == b"Abcd"
    last = jobs(daemon)[-1]
    assert (last.data_processed, last.data_skipped, last.data_total) == (2, 2, 4)

    request = pps_pb2.CreateJobRequest(
        pipeline=pps_pb2.Pipeline(name="upper"), inputs=[pps_pb2.JobInput(name="in", commit=first)]
    )
    again = ended(daemon, pps_pb2.JobInfo(job=daemon.pps.CreateJob(request)))
    assert daemon.get(again.output_commit, "all") == b"ab"
    assert (again.data_processed, again.data_skipped, again.data_total) == (0, 2, 2)

    update(daemon, spec(stdin=[REFUSE, "cat /pfs/in/* | tr a-z A-Z >> /pfs/out/all"]))
    flush(daemon, at)
    assert daemon.get(commit("upper", "master"), "all") == b"ABCD"
    assert jobs(daemon)[-1].data_processed == 4


def test_what_a_merge_was_kept_as_may_be_lost(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec())
    flush(daemon, daemon.commit_files("in", {"a": b"a", "b": b"b"}))
    assert len(merge_tags(daemon)) == 1
    daemon.pps.GarbageCollect(pps_pb2.GarbageCollectRequest())
    flush(daemon, daemon.commit_files("in", {"c": b"c"}))
    objects(daemon).DeleteTags(pfs_pb2.DeleteTagsRequest(tags=merge_tags(daemon)))
    flush(daemon, daemon.commit_files("in", {"d": b"d"}))
    assert daemon.list(commit("upper", "master")) == ["a", "b", "c", "d"]
    last = jobs(daemon)[-1]
    assert (last.data_processed, last.data_skipped, last.data_total) == (1, 3, 4)
