"""Pipelines: what a datum costs over its command, few changes among many datums, a DAG's latency, idle pipelines."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import grpc

from pachproto import pfs_pb2, pfsd_pb2, pps_pb2
from pfsd import rpc
from ppsd.specs.specjson import parse_requests
from tools.bench.measure import Bench, Sample, Server, heading, line, peak_memory, serving

LIMIT_SECONDS = 3600.0
"""After so long a job counts as stuck."""
CHANGED = 10
"""Datums that change, of many."""
COPY = 'cat "$in" > "{out}/${{in##*/}}"'
"""The command of a datum: reads its file, writes one."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    bare: int = 500
    """Datums whose cost is compared with that of the bare command."""
    datums: int = 10_000
    """Datums of which a few change."""
    stages: int = 10
    idle: int = 100
    """Pipelines that have nothing to do."""
    rounds: int = 3
    idle_seconds: float = 5.0


DEFAULT = Scale()
LARGE = replace(DEFAULT, datums=100_000, idle=1000)
QUICK = Scale(10, 30, 2, 3, 1, 0.2)


def run(bench: Bench, large: bool, quick: bool) -> None:
    """Print all tables."""
    scale = LARGE if large else QUICK if quick else DEFAULT
    datum_cost(bench, scale)
    few_changed(bench, scale)
    dag(bench, scale)
    idle(bench, scale)


class Client:
    """The calls of a user of pipelines."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._pfs = rpc.Stub(channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])
        self._pps = rpc.Stub(channel, pps_pb2.DESCRIPTOR.services_by_name["API"])
        self._store = rpc.Stub(channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])

    def create_repo(self, name: str) -> None:
        self._pfs.CreateRepo(pfs_pb2.CreateRepoRequest(repo=pfs_pb2.Repo(name=name)))

    def create_pipeline(self, name: str, repo: str, command: str, glob: str = "/*", workers: int = 1) -> None:
        """A pipeline that runs a shell command over what `glob` gives of a repo, which the command sees as `in`."""
        text = {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-e", "-c", command]},
            "parallelism_spec": {"constant": workers},
            "input": {"atom": {"name": "in", "repo": repo, "glob": glob}},
        }
        self._pps.CreatePipeline(parse_requests(json.dumps(text), "bench")[0])

    def fill(self, repo: str, files: Mapping[str, bytes]) -> pfs_pb2.Commit:
        """An open commit with these files put."""
        parent = pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo))
        commit: pfs_pb2.Commit = self._pfs.StartCommit(pfs_pb2.StartCommitRequest(parent=parent, branch="master"))
        self._pfs.PutFile(
            pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=commit, path=path), value=data, overwrite=True)
            for path, data in files.items()
        )
        return commit

    def process(self, commit: pfs_pb2.Commit) -> float:
        """Finish a commit and wait for all that is computed from it; returns the seconds that took."""
        started = time.perf_counter()
        self._pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))
        made = list(self._pfs.FlushCommit(pfs_pb2.FlushCommitRequest(commits=[commit]), timeout=LIMIT_SECONDS))
        seconds = time.perf_counter() - started
        if not made:
            raise RuntimeError(f"nothing was computed from a commit of {commit.repo.name}")
        return seconds

    def last_job(self, pipeline: str) -> pps_pb2.JobInfo:
        """The newest job of a pipeline."""
        request = pps_pb2.ListJobRequest(pipeline=pps_pb2.Pipeline(name=pipeline))
        job: pps_pb2.JobInfo = self._pps.ListJob(request).job_info[0]
        return job


@contextmanager
def running(bench: Bench) -> Iterator[tuple[Server, Client]]:
    """A daemon with pipelines over an empty root, and a client of it."""
    with (
        bench.scratch() as scratch,
        serving(scratch / "root", pipelines=True) as server,
        grpc.insecure_channel(server.address, options=rpc.CHANNEL_OPTIONS) as channel,
    ):
        yield server, Client(channel)


def tiny_files(count: int, text: str = "content") -> dict[str, bytes]:
    """Small files, each with content of its own."""
    return {f"file-{number:07d}": f"{text} of {number}\n".encode() for number in range(count)}


def check_counts(client: Client, pipeline: str, processed: int, skipped: int) -> None:
    """Raise RuntimeError unless the last job computed and skipped so many datums."""
    job = client.last_job(pipeline)
    if (job.data_processed, job.data_skipped) != (processed, skipped):
        raise RuntimeError(f"the job computed {job.data_processed} datums and skipped {job.data_skipped}")


# --- the cost of a datum


def datum_cost(bench: Bench, scale: Scale) -> None:
    """A job of many small datums on two workers, against the same command under `xargs -P2`."""
    heading(f"{scale.bare:,} datums that copy a small file, two at a time; time is per datum")
    with running(bench) as (server, client), bench.scratch() as scratch:
        client.create_repo("data")
        client.create_pipeline("copy", "data", COPY.format(out="/pfs/out"), workers=2)
        client.process(client.fill("data", tiny_files(2)))  # the workers are there now
        jobs, bare = [], []
        for number in range(scale.rounds):
            files = tiny_files(scale.bare, f"round {number}")
            jobs.append(client.process(client.fill("data", files)) / scale.bare)
            check_counts(client, "copy", scale.bare, 0)
            bare.append(with_xargs(scratch / f"{number}", files) / scale.bare)
        over = statistics.median(job - alone for job, alone in zip(jobs, bare, strict=True))
        line("pfsd, finish-commit to flush-commit", statistics.median(jobs), sample=Sample(0, daemon=server.peak))
        line("xargs -P2, the same command", statistics.median(bare))
        line("pfsd over xargs (the goal is 5 ms)", over)


def with_xargs(directory: pathlib.Path, files: Mapping[str, bytes]) -> float:
    """Seconds that the command takes over files in plain directories."""
    out = directory / "out"
    out.mkdir(parents=True)
    paths = [directory / name for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    command = ["xargs", "-P2", "-n1", "sh", "-e", "-c", f'in="$0"; {COPY.format(out=out)}']
    started = time.perf_counter()
    subprocess.run(command, input="\n".join(map(str, paths)).encode(), check=True)
    seconds = time.perf_counter() - started
    if len(os.listdir(out)) != len(files):
        raise RuntimeError("xargs wrote fewer files than it was given")
    return seconds


# --- few changes


def few_changed(bench: Bench, scale: Scale) -> None:
    """A job in which few of many datums changed."""
    heading(f"{scale.datums:,} datums, of which {CHANGED} change")
    with running(bench) as (server, client):
        client.create_repo("data")
        client.create_pipeline("copy", "data", COPY.format(out="/pfs/out"), workers=2)
        files = tiny_files(scale.datums)
        seconds = client.process(client.fill("data", files))
        line("the first job, all datums", seconds, f"{scale.datums / seconds:,.0f} datums/s")
        check_counts(client, "copy", scale.datums, 0)
        times = []
        for number in range(scale.rounds):
            names = list(files)[number :: scale.datums // CHANGED][:CHANGED]
            changed = dict.fromkeys(names, b"changed in round %d\n" % number)
            times.append(client.process(client.fill("data", changed)))
            check_counts(client, "copy", CHANGED, scale.datums - CHANGED)
        line("a job with few changes (the goal is 5 s)", statistics.median(times), sample=Sample(0, daemon=server.peak))


# --- a DAG


def dag(bench: Bench, scale: Scale) -> None:
    """Pipelines in a row: from finishing a commit to the end of the last one's output commit."""
    heading(f"a row of {scale.stages} pipelines, one small file")
    with running(bench) as (server, client):
        client.create_repo("stage-0")
        for number in range(scale.stages):
            client.create_pipeline(f"stage-{number + 1}", f"stage-{number}", COPY.format(out="/pfs/out"))
        client.process(client.fill("stage-0", tiny_files(1, "first")))
        times = [client.process(client.fill("stage-0", tiny_files(1, str(turn)))) for turn in range(5 * scale.rounds)]
        for number in range(scale.stages):
            check_counts(client, f"stage-{number + 1}", 1, 0)
        seconds = statistics.median(times)
        rate = f"{seconds / scale.stages * 1e3:.1f} ms/stage"
        line("from the commit to the last output", seconds, rate, sample=Sample(0, daemon=server.peak))


# --- idle pipelines


def idle(bench: Bench, scale: Scale) -> None:
    """Many pipelines that have nothing to do, each of a repo of its own."""
    heading(f"{scale.idle:,} pipelines that idle, with 2 workers each wished for")
    with running(bench) as (server, client):
        before = peak_memory(server.pid)
        started = time.perf_counter()
        for number in range(scale.idle):
            client.create_repo(f"in-{number}")
            client.create_pipeline(f"idle-{number}", f"in-{number}", COPY.format(out="/pfs/out"), workers=2)
        line("creating repo and pipeline", (time.perf_counter() - started) / scale.idle)
        last = [f"in-{scale.idle - 1 - number}" for number in range(scale.rounds)]
        first = [client.process(client.fill(repo, tiny_files(1))) for repo in last]
        line("a pipeline's first job, its workers not there", statistics.median(first))
        again = [client.process(client.fill(repo, tiny_files(1, "more"))) for repo in last]
        line("its second job, its workers there", statistics.median(again))
        count = settled_count(server.pid, scale.idle_seconds)
        used = cpu_seconds(server.pid)
        time.sleep(scale.idle_seconds)
        share = (cpu_seconds(server.pid) - used) / scale.idle_seconds
        memory = f"{(peak_memory(server.pid) - before) / scale.idle / 1024:.0f} KiB/pipeline"
        line("memory of the daemon", 0, memory, sample=Sample(0, daemon=peak_memory(server.pid)))
        print(f"  processes below the daemon: {count}; the daemon's share of a core: {share:.1%}", flush=True)


def settled_count(pid: int, seconds: float) -> int:
    """How many processes are below a process, once that stays the same for some seconds."""
    former, count = -1, len(descendants(pid))
    while count != former:
        time.sleep(seconds)
        former, count = count, len(descendants(pid))
    return count


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    found: list[int] = []
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (thread / "children").read_text().split()
        except FileNotFoundError:  # the thread has ended
            continue
        for child in map(int, children):
            try:
                found += [child, *descendants(child)]
            except FileNotFoundError:  # it has ended
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
