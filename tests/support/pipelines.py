"""What the tests of pipelines share: making specs, waiting, looking."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

from pachproto import pfs_pb2, pps_pb2
from ppsd.specs.specjson import parse_requests
from tests.support.daemons import Daemon

LIMIT = 60.0
"""Seconds after which waiting is given up."""

UPPER = ['for f in /pfs/in/*; do tr a-z A-Z < "$f" > "/pfs/out/$(basename "$f")"; echo "did $f"; done']


def spec(name: str = "upper", stdin: list[str] = UPPER, **more: Any) -> pps_pb2.CreatePipelineRequest:
    """A pipeline that runs shell lines over each file at the top of `in`."""
    text = {
        "pipeline": {"name": name},
        "transform": {"cmd": ["sh", "-e"], "stdin": stdin},
        "parallelism_spec": {"constant": 2},
        "input": {"atom": {"repo": "in", "glob": "/*"}},
        **more,
    }
    return parse_requests(json.dumps(text), "test")[0]


def flush(daemon: Daemon, at: pfs_pb2.Commit) -> list[pfs_pb2.CommitInfo]:
    return list(daemon.pfs.FlushCommit(pfs_pb2.FlushCommitRequest(commits=[at]), timeout=LIMIT))


def jobs(daemon: Daemon, pipeline: str = "upper") -> list[pps_pb2.JobInfo]:
    """Oldest first."""
    request = pps_pb2.ListJobRequest(pipeline=pps_pb2.Pipeline(name=pipeline) if pipeline else None)
    return list(reversed(daemon.pps.ListJob(request).job_info))


def inspect(daemon: Daemon, name: str = "upper") -> pps_pb2.PipelineInfo:
    info: pps_pb2.PipelineInfo = daemon.pps.InspectPipeline(
        pps_pb2.InspectPipelineRequest(pipeline=pps_pb2.Pipeline(name=name))
    )
    return info


def ended(daemon: Daemon, job: pps_pb2.JobInfo) -> pps_pb2.JobInfo:
    """The job once it is at its end."""
    request = pps_pb2.InspectJobRequest(job=job.job, block_state=True)
    info: pps_pb2.JobInfo = daemon.pps.InspectJob(request, timeout=LIMIT)
    return info


def logs(daemon: Daemon, **request: Any) -> list[pps_pb2.LogMessage]:
    """What is kept of a log; the messages without the newline in which each ends."""
    found = list(daemon.pps.GetLogs(pps_pb2.GetLogsRequest(**request)))
    for line in found:
        assert line.message.endswith("\n")
        line.message = line.message[:-1]
    return found


def delete(daemon: Daemon, name: str = "upper", **flags: bool) -> None:
    request = pps_pb2.DeletePipelineRequest(pipeline=pps_pb2.Pipeline(name=name), **flags)
    daemon.pps.DeletePipeline(request, timeout=LIMIT)


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, once it is true: for what offers nothing to wait on."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


def workers(daemon: Daemon) -> list[int]:
    """The processes that are workers of this daemon."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if b"ppsd.worker.worker" in words and daemon.address.encode() in words:
                found.append(int(entry.name))
    return found


class Gate:
    """Lets user code wait for the test."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o777)

    def lines(self) -> list[str]:
        """Shell code that notes its datum, waits for the gate, and writes output."""
        return [
            "name=$(basename /pfs/in/*)",
            f"echo x >> {self.directory}/began-$name",
            f"until [ -e {self.directory}/open ]; do sleep 0.02; done",
            "cp /pfs/in/* /pfs/out/",
        ]

    def began(self, count: int) -> None:
        """Wait until datums have begun `count` times."""
        until(lambda: sum(len(file.read_text().split()) for file in self.directory.glob("began-*")) >= count)

    def open(self) -> None:
        (self.directory / "open").touch()


def update(daemon: Daemon, request: pps_pb2.CreatePipelineRequest, *, reprocess: bool = False) -> None:
    """Update a pipeline to a spec."""
    request.update, request.reprocess = True, reprocess
    daemon.pps.CreatePipeline(request, timeout=LIMIT)


def all_ended(daemon: Daemon, count: int, pipeline: str = "upper") -> list[pps_pb2.JobInfo]:
    """A pipeline's jobs, oldest first, once there are `count` and all are at their end."""
    until(lambda: len(jobs(daemon, pipeline)) >= count)
    return [ended(daemon, job) for job in jobs(daemon, pipeline)]


def atom(repo: str, glob: str = "/*", **more: Any) -> dict[str, Any]:
    """An atom of a spec."""
    return {"atom": {"repo": repo, "glob": glob, **more}}
