"""The local launcher, with real workers."""

from __future__ import annotations

import pathlib

import trio

from pachproto import pfsd_pb2, pps_pb2
from ppsd.launchers.local import LocalLauncher
from ppsd.storage import codec, records
from ppsd.storage.records import FORM, PipelineRecord
from tests.support.daemons import Daemon
from tests.support.pipelines import LIMIT, spec, workers


class Reports:
    """Notes the workers that died."""

    def __init__(self) -> None:
        self.died: list[str] = []

    def worker_died(self, pipeline: str, reason: str, hopeless: bool) -> None:
        self.died.append(reason)

    def workers_held_up(self, pipeline: str, reason: str) -> None:
        self.died.append(reason)


def stopped_pipelines(daemon: Daemon, names: str) -> list[PipelineRecord]:
    """Pipelines whose workers the daemon leaves alone."""
    daemon.create_repo("in")
    for name in names:
        daemon.pps.CreatePipeline(spec(name))
        daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=pps_pb2.Pipeline(name=name)))
    batches = daemon.records.Scan(pfsd_pb2.ScanRecordsRequest(prefix=records.PIPELINES))
    return [codec.load(PipelineRecord, record.value, FORM) for batch in batches for record in batch.records]


def test_of_the_workers_without_a_job_those_idle_longest_go(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    pipelines = stopped_pipelines(pipeline_daemon, "abc")
    reports = Reports()

    async def warm(launcher: LocalLauncher, names: str) -> None:
        with trio.fail_after(LIMIT):
            while [one.name for one in pipelines if launcher.count(one.name)] != list(names):
                await trio.sleep(0.02)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            address = pipeline_daemon.address
            launcher = LocalLauncher(address, tmp_path / "scratch", tmp_path, nursery, reports, warm=2)
            a, b, c = pipelines
            for one in (b, a, c):
                await launcher.launch(one, 1)
            await warm(launcher, "abc")
            for one in (b, a, c):
                launcher.release(one.name)
            await warm(launcher, "ac")
            await launcher.prepare(b, 1)
            assert launcher.count("b") == 0
            await launcher.launch(b, 1)
            launcher.release("a")  # so c is idle longest now
            launcher.release("b")
            await warm(launcher, "ab")
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert reports.died == []
    assert workers(pipeline_daemon) == []
    assert not any((tmp_path / "scratch").glob("workers/*/*"))
