"""Workers beside users' containers, in mount namespaces, with a service whose cluster does not answer."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pachproto import pfs_pb2, pfsd_pb2
from ppsd.storage import codec, records
from ppsd.storage.records import FORM, PipelineRecord
from tests.support.daemons import Daemon, running
from tests.support.kubernetes.pods import STOP_SECONDS, USER, Pod, pod
from tests.support.pipelines import all_ended, atom, flush, inspect, logs, spec, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse"
)
TRANSFORM = {"cmd": ["/program"], "env": {"OF_SPEC": "spec"}}
DEAD_CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "dead",
    "contexts": [{"name": "dead", "context": {"cluster": "dead", "user": "nobody"}}],
    "clusters": [{"name": "dead", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
}


@pytest.fixture
def alone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that can start no workers."""
    (tmp_path / "kubeconfig").write_text(json.dumps(DEAD_CLUSTER))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("PFS_SERVICE_ADDRESS", "127.0.0.1:1")
    with running(tmp_path / "root", "--launcher", "kubernetes") as daemon:
        yield daemon


def make(daemon: Daemon, **more: Any) -> str:
    """Make the pipeline; returns its salt."""
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec("upper", transform=TRANSFORM, **more))
    [batch] = daemon.records.Scan(pfsd_pb2.ScanRecordsRequest(prefix=records.PIPELINES))
    [record] = [codec.load(PipelineRecord, one.value, FORM) for one in batch.records]
    return record.salt


@pytest.fixture
def worker(alone: Daemon, tmp_path: pathlib.Path) -> Iterator[Pod]:
    """A pod of a pipeline with a datum for each file of `in`, whose container starts after the sidecar."""
    with pod(tmp_path / "pod", alone.address, "upper", make(alone)) as made:
        made.start_sidecar()
        made.start_container()
        yield made


def check(daemon: Daemon, at: pfs_pb2.Commit, files: dict[str, bytes]) -> None:
    [info] = flush(daemon, at)
    found = {path: daemon.get(info.commit, path) for path in daemon.list(info.commit)}
    assert found == {**files, "own": b"of the image\n" * len(files)}


def test_a_container_of_another_user_with_nothing_but_a_program_computes(alone: Daemon, worker: Pod) -> None:
    check(alone, alone.commit_files("in", {"a": b"first"}), {"a": b"FIRST"})
    [job] = all_ended(alone, 1)
    said = [line.message for line in logs(alone, job=job.job) if line.user]
    assert said == [f"/ image spec {USER}"]
    assert {line.worker_id for line in logs(alone, job=job.job) if line.user} == {"pod"}


def test_lazy_files_are_pipes_in_the_container_too(alone: Daemon, tmp_path: pathlib.Path) -> None:
    salt = make(alone, input=atom("in", "/", lazy=True, name="in"))
    with pod(tmp_path / "pod", alone.address, "upper", salt) as made:
        made.start_container()
        made.start_sidecar()
        at = alone.commit_files("in", {name: name.encode() * 1000 for name in ("a", "b", "c")})
        [info] = flush(alone, at)
        assert alone.get(info.commit, "c") == b"C" * 1000
        [job] = all_ended(alone, 1)
        assert job.stats.download_bytes == 3000


def test_after_a_sidecar_was_killed_another_one_takes_its_place(alone: Daemon, worker: Pod) -> None:
    worker.close_gate()
    at = alone.commit_files("in", {"a": b"first"})
    worker.began()
    assert worker.sidecar is not None
    worker.sidecar.kill()
    worker.sidecar.wait()
    assert worker.mounts()
    worker.open_gate()
    worker.start_sidecar()
    check(alone, at, {"a": b"FIRST"})


def test_after_a_container_was_killed_another_one_takes_its_place(alone: Daemon, worker: Pod) -> None:
    worker.close_gate()
    at = alone.commit_files("in", {"a": b"first"})
    worker.began()
    assert worker.container is not None
    former = worker.container
    (worker.work / "socket").unlink()
    worker.start_container()  # over the mount, which is not there to stay
    until((worker.work / "socket").exists)
    former.kill()
    former.wait()
    worker.open_gate()
    assert worker.container.wait(STOP_SECONDS) == 0
    worker.start_container()
    check(alone, at, {"a": b"FIRST"})
    assert "is started anew" in worker.log()


def test_workers_find_a_service_again_that_was_away(alone: Daemon, worker: Pod) -> None:
    check(alone, alone.commit_files("in", {"a": b"first"}), {"a": b"FIRST"})
    worker.close_gate()
    at = alone.commit_files("in", {"b": b"second"})
    worker.began()
    alone.kill()
    worker.open_gate()
    alone.start()
    check(alone, at, {"a": b"FIRST", "b": b"SECOND"})


def test_a_sidecar_that_is_told_to_end_does_so_and_leaves_no_mount(alone: Daemon, worker: Pod) -> None:
    worker.close_gate()
    alone.commit_files("in", {"a": b"first"})
    worker.began()
    assert worker.mounts() == [f"{worker.volume}/pfs", f"{worker.volume}/pfs/out"]
    assert worker.sidecar is not None
    worker.sidecar.send_signal(signal.SIGTERM)
    assert worker.sidecar.wait(STOP_SECONDS) == 0
    assert worker.mounts() == []


def test_a_cluster_that_does_not_answer_is_told_of(alone: Daemon) -> None:
    make(alone)
    alone.commit_files("in", {"a": b"first"})
    told = until(lambda: inspect(alone).recent_error)
    assert told == "the cluster does not answer: Failed to establish a new connection: [Errno 111] Connection refused"
