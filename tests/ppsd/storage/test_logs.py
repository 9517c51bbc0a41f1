"""Logs: what is kept of what user code prints, which lines are asked for, and how much is kept."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

import grpc
import pytest
import trio

from pachproto import pfs_pb2, pps_pb2, ppsd_pb2
from pfsd import rpc
from ppsd.storage import logs as ppsd_logs
from ppsd.storage.grpccalls import open_channel
from ppsd.storage.grpcfilesystem import GrpcFileSystem
from ppsd.storage.logs import MAX_BYTES, MAX_LINES, LogLine, Logs
from tests.support.daemons import Daemon
from tests.support.pipelines import LIMIT, Gate, delete, flush, jobs, logs, spec


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path / "gate")


def read(daemon: Daemon, request: ppsd_pb2.LogsRequest) -> list[str]:
    stub = rpc.Stub(daemon.channel, ppsd_pb2.DESCRIPTOR.services_by_name["Logs"])
    return [message.message.removesuffix("\n") for message in stub.Read(request, timeout=LIMIT)]


def pachctl_logs(daemon: Daemon, *options: str) -> list[str]:
    return daemon.pachctl("get-logs", *options).stdout.decode().splitlines()


def test_lines_are_found_by_pipeline_job_datum_and_input(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    for name in ("upper", "other"):
        daemon.pps.CreatePipeline(spec(name, [f"echo {name} $in_COMMIT $in", "cp /pfs/in/* /pfs/out/"]))
    first = daemon.commit_files("in", {"a": b"1", "b": b"2"})
    flush(daemon, first)
    second = daemon.commit_files("in", {"c": b"3"})
    flush(daemon, second)

    of_first = [f"upper {first.id} /pfs/in/{name}" for name in "ab"]
    of_second = [f"upper {second.id} /pfs/in/c"]
    assert sorted(pachctl_logs(daemon, "--pipeline=upper")) == sorted(of_first + of_second)
    job, later = (info.job.id for info in jobs(daemon))
    assert sorted(pachctl_logs(daemon, "--job", job)) == of_first
    assert pachctl_logs(daemon, "--pipeline=upper", "--job", later) == of_second
    assert pachctl_logs(daemon, "--pipeline=upper", "--inputs=/b") == of_first[1:]
    assert pachctl_logs(daemon, "--job", job, "--inputs=/c") == []
    asked = pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=first, path="a"))
    assert pachctl_logs(daemon, "--job", job, f"--inputs=a,{daemon.pfs.InspectFile(asked).hash.hex()}") == of_first[:1]

    listed = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=pps_pb2.Job(id=later))).datum_info
    by_path = {info.data[0].path.strip("/"): info.datum.id for info in listed}
    assert pachctl_logs(daemon, "--pipeline=upper", "--datum", by_path["b"]) == of_first[1:]
    assert pachctl_logs(daemon, "--job", later, "--datum", by_path["c"]) == of_second
    assert pachctl_logs(daemon, "--job", later, "--datum", by_path["b"]) == []  # it was skipped

    line = json.loads("".join(pachctl_logs(daemon, "--job", later, "--raw")))
    assert (line["pipelineName"], line["jobId"], line["user"]) == ("upper", later, True)
    assert line["message"] == of_second[0] + "\n"
    assert line["workerId"].startswith("upper-")
    assert [one["path"] for one in line["data"]] == ["/c"]
    said = logs(daemon, pipeline=pps_pb2.Pipeline(name="upper"), master=True)
    assert any(f"job {later} succeeded" in message.message for message in said)

    wrong = daemon.pachctl("get-logs", "--pipeline=other", "--job", job, check=False)
    assert wrong.returncode == 1
    assert f"job {job} is not one of pipeline other's" in wrong.stderr.decode()
    for option in ("--pipeline=none", "--job=none"):
        assert daemon.pachctl("get-logs", option, check=False).returncode == 1


def test_a_running_job_is_followed_to_its_end(pipeline_daemon: Daemon, gate: Gate) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = ["echo before", *gate.lines(), "echo after"]
    daemon.pps.CreatePipeline(spec(stdin=lines))
    given = daemon.commit_files("in", {"a": b"1"})
    gate.began(1)
    [job] = jobs(daemon)
    command = [sys.executable, "-m", "pachctl.main", "get-logs", "-f", "--job", job.job.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"ADDRESS": daemon.address}) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stdout.readline() == b"before\n"
            assert follower.poll() is None
            gate.open()
            assert follower.stdout.read() == b"after\n"
            assert follower.wait(LIMIT) == 0
        finally:
            follower.kill()
    flush(daemon, given)
    ended = ppsd_pb2.LogsRequest(log=pps_pb2.GetLogsRequest(job=job.job), follow=True)
    assert read(daemon, ended) == ["before", "after"]


def test_a_pipeline_is_followed_until_the_caller_goes(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    pipeline = pps_pb2.Pipeline(name="upper")
    request = ppsd_pb2.LogsRequest(log=pps_pb2.GetLogsRequest(pipeline=pipeline), follow=True)
    with pytest.raises(grpc.RpcError, match="'upper' does not exist"):
        read(daemon, request)
    daemon.pps.CreatePipeline(spec())
    stub = rpc.Stub(daemon.channel, ppsd_pb2.DESCRIPTOR.services_by_name["Logs"])
    followed = stub.Read(request, timeout=LIMIT)
    for name in "ab":
        daemon.commit_files("in", {name: b"x"})
        assert next(followed).message == f"did /pfs/in/{name}\n"
    delete(daemon, delete_jobs=True)
    daemon.pps.CreatePipeline(spec())
    assert [next(followed).message for _ in "ab"] == ["did /pfs/in/a\n", "did /pfs/in/b\n"]
    followed.cancel()


def test_output_without_newlines_and_binary_output_come_in_pieces(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    piece = ppsd_logs.MAX_LINE_BYTES
    lines = [f"head -c {3 * piece + 7} /dev/zero | tr '\\0' x", "echo", "printf '\\377\\000\\n\\303\\244 no newline'"]
    daemon.pps.CreatePipeline(spec(stdin=lines))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    kept = [line.message for line in logs(daemon, pipeline=pps_pb2.Pipeline(name="upper"))]
    assert [len(message) for message in kept[:4]] == [piece, piece, piece, 7]
    assert kept[4:] == ["\ufffd\0", "ä no newline"]


def test_the_oldest_lines_are_dropped_beyond_the_limits(daemon: Daemon) -> None:
    """Through the daemon's records, and again after a restart of the service."""

    async def stored(name: str, messages: Sequence[str]) -> list[str]:
        with open_channel(daemon.address) as channel:
            made = Logs(GrpcFileSystem(channel))
            for number, message in enumerate(messages):
                made.add(name, LogLine(number, message))
                await made.room(name)
            return await kept(Logs(GrpcFileSystem(channel)) if not messages else made, name)

    async def kept(made: Logs, name: str) -> list[str]:
        found: list[str] = []
        over = trio.Event()
        over.set()

        async def take(lines: Sequence[LogLine]) -> None:
            found.extend(line.message for line in lines)

        await made.read(name, over, take)
        return found

    limits: Mapping[str, list[str]] = {
        "many": [str(number) for number in range(2 * MAX_LINES)],
        "long": [f"{number} " + "x" * 10_000 for number in range(2 * MAX_BYTES // 10_000)],
    }
    for name, messages in limits.items():
        found = trio.run(stored, name, messages)
        assert found == messages[-len(found) :]
        assert len(found) <= MAX_LINES
        assert sum(map(len, found)) <= MAX_BYTES
        assert len(found) > len(messages) * 0.4
        again = trio.run(stored, name, ["one more"])
        assert again == [*found, "one more"][-len(again) :]
        assert len(again) > len(messages) * 0.4
