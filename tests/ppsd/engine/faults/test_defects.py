"""A defect behind one call, task or pipeline ends that, and nothing else: see `tests.support.faulty.defects`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2, pps_pb2, ppsd_pb2
from ppsd.engine.pool import Pool, Session
from tests.support.daemons import Daemon
from tests.support.faulty import defects
from tests.support.pipelines import LIMIT, atom, delete, ended, flush, inspect, jobs, logs, spec, until, update

GOOD = pps_pb2.PIPELINE_RUNNING
BAD = "name='bad'"
"""Which pipeline the defects are of."""


BAD_PIPELINE = pps_pb2.Pipeline(name="bad")


class Defects:
    """A daemon, and what fails in it."""

    def __init__(self, daemon: Daemon, directory: pathlib.Path) -> None:
        self.daemon = daemon
        self._directory = directory

    def begin(self, name: str, text: str = BAD) -> None:
        assert name in defects.FUNCTIONS
        (self._directory / name).write_text(text)

    def end(self) -> None:
        for switch in self._directory.iterdir():
            switch.unlink()

    def put(self, repo: str, name: str) -> pfs_pb2.Commit:
        return self.daemon.commit_files(repo, {name: b"text\n"})

    def others_go_on(self, name: str) -> None:
        """The pipeline without a defect computes one more file."""
        self.put("in", name)
        until(lambda: name in [path.strip("/") for path in self._output("upper")])

    def _output(self, pipeline: str) -> list[str]:
        try:
            return self.daemon.list(pfs_pb2.Commit(repo=pfs_pb2.Repo(name=pipeline), id="master"))
        except grpc.RpcError:  # it has none yet
            return []


@pytest.fixture
def world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Defects]:
    directory = tmp_path / "defects"
    directory.mkdir()
    monkeypatch.setenv("PFSD_DEFECTS", str(directory))
    daemon = Daemon(tmp_path / "root", program="tests.support.faulty.defects").start()
    try:
        for repo in ("in", "other"):
            daemon.create_repo(repo)
        daemon.pps.CreatePipeline(spec(parallelism_spec={"constant": 1}))
        yield Defects(daemon, directory)
    finally:
        daemon.end()


def bad(**more: object) -> pps_pb2.CreatePipelineRequest:
    return spec("bad", ["cp /pfs/other/* /pfs/out/"], input=atom("other"), parallelism_spec={"constant": 1}, **more)


def test_a_call_fails_alone(world: Defects) -> None:
    world.begin("ppsd.engine.changes:Changes.create")
    with pytest.raises(grpc.RpcError, match=f"INTERNAL[^$]*{defects.TEXT}"):
        world.daemon.pps.CreatePipeline(bad())
    world.begin("ppsd.engine.engine:Engine.pipelines", "")
    with pytest.raises(grpc.RpcError, match="INTERNAL"):
        world.daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest())
    world.others_go_on("a")
    world.end()
    world.daemon.pps.CreatePipeline(bad())
    assert flush(world.daemon, world.put("other", "b"))
    assert "begin anew" not in world.daemon.log()
    assert world.daemon.stop() == 0


@pytest.mark.parametrize(
    "name",
    [
        "ppsd.engine.jobs:JobRun._count",
        "ppsd.engine.jobs:JobRun._count_task",
        "ppsd.launchers.local:LocalLauncher.launch",
        "ppsd.launchers.local:LocalLauncher._live",
    ],
)
def test_a_job_fails_alone(world: Defects, name: str) -> None:
    world.begin(name)
    world.daemon.pps.CreatePipeline(bad())
    at = world.put("other", "a")
    until(lambda: jobs(world.daemon, "bad"))
    assert ended(world.daemon, jobs(world.daemon, "bad")[0]).state == pps_pb2.JOB_FAILURE
    with pytest.raises(grpc.RpcError, match=f"FAILED_PRECONDITION[^$]*{defects.TEXT}"):
        flush(world.daemon, at)
    assert any(defects.TEXT in line.message for line in logs(world.daemon, pipeline=BAD_PIPELINE, master=True))
    world.others_go_on("b")
    world.end()
    world.put("other", "c")
    until(lambda: any(job.state == pps_pb2.JOB_SUCCESS for job in jobs(world.daemon, "bad")))


@pytest.mark.parametrize("name", ["ppsd.engine.jobs:JobRun.conclude", "ppsd.engine.pipelines:Pipeline._look"])
def test_a_pipeline_fails_alone(world: Defects, name: str) -> None:
    world.begin(name)
    world.daemon.pps.CreatePipeline(bad())
    world.put("other", "a")
    failed = until(lambda: [one for one in [inspect(world.daemon, "bad")] if one.state == pps_pb2.PIPELINE_FAILURE])[0]
    assert defects.TEXT in failed.recent_error
    world.others_go_on("b")
    world.end()
    world.daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=BAD_PIPELINE))
    world.daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=BAD_PIPELINE))
    until(lambda: any(job.state == pps_pb2.JOB_SUCCESS for job in jobs(world.daemon, "bad")))
    until(lambda: inspect(world.daemon, "bad").state == GOOD)


def test_a_clock_stops_alone(world: Defects) -> None:
    world.begin("ppsd.engine.cron:Clock.tick", "bad_tick")
    world.daemon.pps.CreatePipeline(spec("bad", ["true"], input={"cron": {"name": "tick", "spec": "@every 1s"}}))
    until(lambda: inspect(world.daemon, "bad").state == pps_pb2.PIPELINE_FAILURE)
    assert defects.TEXT in inspect(world.daemon, "bad").recent_error
    world.others_go_on("a")


def test_an_update_fails_alone_and_can_be_made_again(world: Defects) -> None:
    world.daemon.pps.CreatePipeline(bad())
    flush(world.daemon, world.put("other", "a"))
    world.begin("ppsd.engine.changes:Changes._carry_out_update", "")
    changed = bad(description="changed")
    changed.transform.stdin[:] = ["cp /pfs/other/* /pfs/out/b"]
    with pytest.raises(grpc.RpcError, match="INTERNAL"):
        update(world.daemon, changed)
    assert inspect(world.daemon, "bad").state == pps_pb2.PIPELINE_FAILURE
    world.others_go_on("c")
    world.end()
    update(world.daemon, changed)
    until(
        lambda: any(job.pipeline_version > 1 and job.state == pps_pb2.JOB_SUCCESS for job in jobs(world.daemon, "bad"))
    )
    delete(world.daemon, "bad", delete_jobs=True, delete_repo=True)


def test_logs_and_stats_fail_alone(world: Defects) -> None:
    world.begin("ppsd.storage.logs:Logs._store", "")
    world.begin("ppsd.engine.stats:commit", "")
    world.daemon.pps.CreatePipeline(bad(enable_stats=True))
    world.put("other", "a")
    until(lambda: jobs(world.daemon, "bad"))
    assert ended(world.daemon, jobs(world.daemon, "bad")[0]).state == pps_pb2.JOB_SUCCESS
    world.others_go_on("b")
    world.end()
    world.others_go_on("c")
    until(lambda: logs(world.daemon, pipeline=pps_pb2.Pipeline(name="upper")))


def test_a_service_that_can_not_begin_leaves_the_files_alone(world: Defects) -> None:
    world.begin("ppsd.storage.registry:Registry.load", "")
    world.begin("ppsd.launchers.local:LocalLauncher.take_up", "")
    assert world.daemon.stop() == 0
    world.daemon.start()
    at = world.put("other", "a")
    assert world.daemon.get(at, "a") == b"text\n"
    world.end()
    world.begin("ppsd.launchers.local:LocalLauncher.take_up", "")
    world.others_go_on("b")


def test_damaged_records_are_passed_over(world: Defects) -> None:
    """Others may write what they like below the service's prefix."""
    world.others_go_on("a")
    deep = b"[" * 50_000
    garbage = {
        "pps/pipelines/x": b"\xff",
        "pps/pipelines/y": deep,
        "pps/open-jobs/zzz": b"",
        "pps/jobs/upper/zzz": b"{}",
        "pps/job-ids/yyy": b"\xff\xff",
        "pps/logs/upper/zz": b"zz",
        "pps/logs/upper/ffff": json.dumps({"v": 1, "lines": 3}).encode(),
        "pps/clocks/in": b"\xff",
    }
    put = [pfsd_pb2.Record(key=key, value=value) for key, value in garbage.items()]
    world.daemon.records.Write(pfsd_pb2.WriteRecordsRequest(put=put))
    assert world.daemon.stop() == 0
    world.daemon.start()
    world.others_go_on("b")
    assert jobs(world.daemon)
    assert logs(world.daemon, pipeline=pps_pb2.Pipeline(name="upper"))
    assert [
        info.pipeline.name for info in world.daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest()).pipeline_info
    ] == ["upper"]


def test_a_worker_that_sends_garbage_is_told(world: Defects) -> None:
    salt = inspect(world.daemon).salt
    hello = ppsd_pb2.FromWorker(hello=ppsd_pb2.Hello(pipeline="upper", worker_id="w", salt=salt)).SerializeToString()
    stats = pps_pb2.ProcessStats(process_time={"seconds": 2**62, "nanos": -5})
    absurd = ppsd_pb2.FromWorker(outcome=ppsd_pb2.Outcome(lease=1, stats=stats))
    for garbage in (b"\xff\xff\xff", absurd.SerializeToString()):
        channel: Any = world.daemon.channel
        work = channel.stream_stream("/ppsd.Workers/Work")
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            list(work(iter([hello, garbage]), timeout=LIMIT))
    world.others_go_on("a")
    log = world.daemon.log()
    assert "Traceback" not in log
    assert "never retrieved" not in log
    world.daemon.version.GetVersion(Empty())


def test_a_worker_that_goes_before_it_is_taken_in_is_handed_nothing() -> None:
    session, pool = Session("w"), Pool()
    session.close()
    pool.join(session)
    assert pool.sessions == []
