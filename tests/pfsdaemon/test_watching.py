"""Watching over a daemon: health, readiness, figures, logs for collectors, and an end that waits for calls."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pachproto import pfs_pb2
from pfsd.runtime.requestids import KEY
from tests.support.daemons import Daemon, commit, running
from tests.support.pipelines import ended, flush, jobs, spec
from tests.support.places import TREE

SECONDS = 30
MONITORING = TREE / "deploy/monitoring"


@pytest.fixture
def watched(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon that can be asked, and that waits at its end for what is at work."""
    with running(tmp_path / "root", "--http", "127.0.0.1:0", "--drain", str(SECONDS), "--log-format", "json") as daemon:
        yield daemon


def pages(daemon: Daemon) -> str:
    """HOST:PORT, from the daemon's second line."""
    assert daemon.process is not None
    assert daemon.process.stdout is not None
    return daemon.process.stdout.readline().strip().rpartition("/")[2]


def get(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def figures(address: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """All samples by name and the values of their labels."""
    status, text = get(address, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_figures_tell_what_was_done(watched: Daemon) -> None:
    address = pages(watched)
    assert get(address, "/healthz") == (200, "ok\n")
    assert get(address, "/readyz") == (200, "ready\n")
    watched.create_repo("in")
    watched.pps.CreatePipeline(spec())
    at = watched.commit_files("in", {"a": b"a" * 1000, "b": b"b"})
    flush(watched, at)
    before = figures(address).get(("pfsd_calls_total", ("pfs.API.InspectRepo", "NOT_FOUND")), 0)
    with pytest.raises(grpc.RpcError):
        watched.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="none")))
    found = figures(address)
    assert found["pfsd_calls_total", ("pfs.API.InspectRepo", "NOT_FOUND")] == before + 1
    assert found["pfsd_calls_total", ("pfs.API.CreateRepo", "OK")] == 2
    assert found["pfsd_call_seconds_count", ("pfs.API.CreateRepo",)] == 2
    assert found["pfsd_call_seconds_bucket", ("+Inf", "pfs.API.CreateRepo")] == 2
    assert found["pfsd_received_bytes_total", ("pfs.API.PutFile",)] > 1000
    assert found["pfsd_sent_bytes_total", ("pfs.API.FlushCommit",)] > 0
    assert found["pfsd_open_calls", ("ppsd.Workers.Work",)] >= 1
    assert found["pfsd_writable", ()] == 1
    assert found["pfsd_rows", ("commits",)] >= 2
    assert found["pfsd_workers", ("upper",)] >= 1
    assert found["pfsd_pipeline_state", ("upper", "running")] == 1
    ended(watched, jobs(watched)[0])
    found = figures(address)
    assert found["pfsd_ended_jobs_total", ("upper", "success")] == 1
    assert found["pfsd_datums_total", ("processed", "upper")] == 2


def test_alerts_and_the_dashboard_ask_for_what_is_told(watched: Daemon, tmp_path: pathlib.Path) -> None:
    watched.create_repo("in")
    watched.pps.CreatePipeline(spec())
    told = {name for name, _ in figures(pages(watched))}
    elsewhere = {"pfsd_object_store_requests_total", "pfsd_object_store_failures_total", "pfsd_cache_bytes"}
    elsewhere |= {"pfsd_cache_reads_total", "pfsd_ended_jobs_total", "pfsd_open_jobs"}  # once there are some
    for file in ("alerts.yaml", "dashboard.json"):
        text = (MONITORING / file).read_text()
        asked = set(re.findall(r"\b(?:pfsd|process)_[a-z_]+(?=[{\[ ]|$)", text, re.MULTILINE))
        assert len(asked) > 5
        assert asked - told - elsewhere - {"pfsd_call_seconds_bucket"} == set()


def half_put(
    daemon: Daemon, address: str, at: pfs_pb2.Commit
) -> tuple[queue.SimpleQueue[pfs_pb2.PutFileRequest | None], Any]:
    """A put that has begun: what takes its further messages, None after the last, and its outcome."""
    parts: queue.SimpleQueue[pfs_pb2.PutFileRequest | None] = queue.SimpleQueue()
    parts.put(pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path="f"), value=b"first "))
    putting = daemon.pfs.PutFile.future(iter(parts.get, None))
    until(lambda: figures(address).get(("pfsd_open_calls", ("pfs.API.PutFile",))) == 1)
    return parts, putting


def test_the_end_waits_for_what_is_at_work_and_for_nothing_else(watched: Daemon) -> None:
    address = pages(watched)
    watched.create_repo("r")
    at = watched.start_commit("r")
    waiting = watched.pfs.SubscribeCommit(pfs_pb2.SubscribeCommitRequest(repo=pfs_pb2.Repo(name="r"), branch="master"))
    parts, putting = half_put(watched, address, at)
    assert watched.process is not None
    watched.process.send_signal(signal.SIGTERM)
    until(lambda: get(address, "/readyz") == (503, "it is stopping\n"))
    assert get(address, "/healthz")[0] == 200
    assert watched.process.poll() is None
    parts.put(pfs_pb2.PutFileRequest(value=b"second"))
    parts.put(None)
    putting.result(SECONDS)
    assert watched.process.wait(SECONDS) == 0
    waiting.cancel()
    watched.start()
    assert watched.get(commit("r", at.id), "f") == b"first second"


def test_a_second_signal_hurries_the_end(watched: Daemon) -> None:
    address = pages(watched)
    watched.create_repo("r")
    at = watched.start_commit("r")
    parts, putting = half_put(watched, address, at)
    assert watched.process is not None
    watched.process.send_signal(signal.SIGTERM)
    until(lambda: get(address, "/readyz")[0] == 503)
    watched.process.send_signal(signal.SIGTERM)
    assert watched.process.wait(SECONDS) == 0
    parts.put(None)
    assert putting.exception(SECONDS) is not None


def test_an_address_that_is_taken_is_told_in_a_sentence(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for address, said in ((f"127.0.0.1:{port}", "can't listen on"), ("nowhere", "is not HOST:PORT")):
            daemon = Daemon(tmp_path / "root", "--http", address)
            with pytest.raises(AssertionError, match=said):
                daemon.start()
            assert daemon.process is not None
            assert daemon.process.wait(SECONDS) == 1
            assert "Traceback" not in daemon.log()


def test_who_asks_strangely_stops_nobody(watched: Daemon) -> None:
    address = pages(watched)
    host, _, port = address.rpartition(":")
    assert get(address, "/")[0] == 404
    assert get(address, "/metrics", "POST")[0] == 405
    for data in (b"\0" * 100_000, b"GET /" + b"x" * 200_000, b"GET /metrics HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM"):
        with socket.create_connection((host, int(port)), SECONDS) as strange:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
                strange.sendall(data)
            assert get(address, "/healthz")[0] == 200
    assert "ERROR" not in watched.log()


def lines(daemon: Daemon) -> list[dict[str, str]]:
    return [json.loads(line) for line in daemon.log().splitlines()]


def test_a_request_goes_by_one_id_from_process_to_process(watched: Daemon) -> None:
    watched.create_repo("in")
    watched.pps.CreatePipeline(spec(), metadata=((KEY, "from-the-client"),))
    calls = {line["message"].split()[0] for line in lines(watched) if line.get("request") == "from-the-client"}
    assert {"pps.API.CreatePipeline", "pfs.API.CreateRepo"} <= calls
    flush(watched, watched.commit_files("in", {"a": b"a"}))
    job = ended(watched, jobs(watched)[0])
    calls = {line["message"].split()[0] for line in lines(watched) if line.get("request") == job.job.id}
    assert {"pfs.API.StartCommit", "pfs.API.FinishCommit", "pfsd.Store.MergeTrees"} <= calls
    watched.pfs.ListRepo(pfs_pb2.ListRepoRequest(), metadata=((KEY, "not valid; " * 9),))
    last = [line for line in lines(watched) if line["message"].startswith("pfs.API.ListRepo")][-1]
    assert re.fullmatch("[0-9a-f]{16}", last["request"])


def test_systemd_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = pathlib.Path("/tmp") / f"pfs-notify-{threading.get_native_id()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.bind(str(short))
            channel.settimeout(SECONDS)
            monkeypatch.setenv("NOTIFY_SOCKET", str(short))
            with running(tmp_path / "root", "--no-pipelines") as daemon:
                assert channel.recv(100) == b"READY=1"
                daemon.stop()
            assert channel.recv(100) == b"STOPPING=1"
        finally:
            short.unlink(missing_ok=True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here: apt-get install systemd")
def test_the_unit_is_one(tmp_path: pathlib.Path) -> None:
    text = (TREE / "deploy/systemd/pfsd.service").read_text()
    unit = tmp_path / "pfsd.service"
    unit.write_text(text.replace("/usr/local/bin/pfsd", "/bin/true"))
    command = ["systemd-analyze", "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (result.returncode, result.stderr) == (0, "")
