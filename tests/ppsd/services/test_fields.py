"""Fields of the spec that other tests leave out: what each changes."""

from __future__ import annotations

from pachproto import pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import LIMIT, all_ended, flush, inspect, jobs, logs, spec, until, workers


def test_workers_leave_after_the_threshold_and_come_back_with_a_job(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(scale_down_threshold="500ms", parallelism_spec={"constant": 3}))
    assert inspect(daemon).scale_down_threshold.ToNanoseconds() == 500 * 10**6
    flush(daemon, daemon.commit_files("in", {"a": b"x"}))
    until(lambda: len(workers(daemon)) == 1)
    flush(daemon, daemon.commit_files("in", {str(number): b"x" for number in range(6)}))
    until(lambda: len(workers(daemon)) == 1)
    started = [line for line in daemon.log().splitlines() if " started, process " in line]
    assert len(started) >= 5  # three at first, of which one stays, and two again


def test_workers_are_as_many_as_the_coefficient_says_for_one_machine(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(parallelism_spec={"coefficient": 2.5}))
    until(lambda: len(workers(daemon)) == 2)
    flush(daemon, daemon.commit_files("in", {"a": b"x"}))
    assert len(workers(daemon)) == 2
    assert jobs(daemon)[0].parallelism_spec.coefficient == 2.5


def test_debug_tells_in_the_log_how_each_datum_went(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec(stdin=["[ ! -e /pfs/in/bad ]", "cp /pfs/in/* /pfs/out/"])
    request.parallelism_spec.constant = 1  # so that the good one, which comes first, has been done when the job fails
    request.transform.debug = True
    daemon.pps.CreatePipeline(request)
    assert inspect(daemon).transform.debug
    at = daemon.commit_files("in", {"a": b"12345", "bad": b"x"})
    [job] = all_ended(daemon, 1)
    told = [line.message for line in logs(daemon, job=job.job) if not line.user and " was shown " in line.message]
    [good] = [line for line in told if f" was shown /pfs/in/a of in/{at.id}: " in line]
    assert good.endswith("to store 5 bytes of output")
    failed = [line for line in told if f" was shown /pfs/in/bad of in/{at.id}: " in line]
    assert len(failed) == 4
    assert all(line.endswith("; it failed: command 'sh' ended with exit status 1") for line in failed)


def test_output_goes_to_its_branch_and_a_pipeline_below_reads_it_there(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(output_branch="shouted", description="says it loudly"))
    below = spec("below", input={"atom": {"name": "in", "repo": "upper", "branch": "shouted", "glob": "/*"}})
    daemon.pps.CreatePipeline(below)
    made = flush(daemon, daemon.commit_files("in", {"a": b"one"}))
    assert {info.commit.repo.name for info in made} == {"upper", "below"}
    assert daemon.get(commit("upper", "shouted"), "a") == daemon.get(commit("below", "master"), "a") == b"ONE"
    assert inspect(daemon).description == "says it loudly"
    assert jobs(daemon)[0].output_branch == "shouted"
    listed = daemon.pps.ListJob(pps_pb2.ListJobRequest(input_commit=[commit("upper", "shouted")]), timeout=LIMIT)
    assert [job.pipeline.name for job in listed.job_info] == ["below"]
