"""What the tests of pipelines on the cluster share."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pachproto import pps_pb2
from tests.support.daemons import Daemon
from tests.support.kubernetes.clusters import TestCluster
from tests.support.pipelines import LIMIT, inspect, logs, spec, until
from tests.support.servers.s3servers import free_port
from tools.cluster.layout import HOST_ADDRESS

WORKERS = "app=pfsd-worker"


@dataclass
class Site:
    """A daemon on this machine whose pipelines' workers run in a namespace of the cluster."""

    daemon: Daemon
    cluster: TestCluster
    namespace: str
    image: str
    """That users' containers run: with a shell, and no Python."""

    def spec(self, name: str = "upper", *, lines: list[str] | None = None, **more: Any) -> Any:
        """A pipeline that runs shell lines in that image."""
        transform = {"image": self.image, "cmd": ["sh", "-e"], **more.pop("transform", {})}
        if lines is not None:
            transform["stdin"] = lines
        return spec(name, **{"transform": transform, **more})

    def pods(self) -> list[Any]:
        """The workers that are not about to end."""
        found = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=WORKERS).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def pod(self, *others: str) -> Any:
        """The one worker that there is, once it runs and is none of those called `others`."""

        def look() -> Any:
            running = [
                pod
                for pod in self.pods()
                if pod.metadata.name not in others
                and all(one.ready for one in pod.status.container_statuses or ())
                and pod.status.container_statuses
            ]
            return running[0] if len(running) == 1 else None

        return until(look)

    def controllers(self) -> list[str]:
        """The names of the replication controllers."""
        found = self.cluster.core.list_namespaced_replication_controller(self.namespace, label_selector=WORKERS)
        return [one.metadata.name for one in found.items]

    def services(self) -> list[str]:
        """The names of the services."""
        found = self.cluster.core.list_namespaced_service(self.namespace, label_selector=WORKERS)
        return [one.metadata.name for one in found.items]

    def open_gate(self, pod: Any) -> None:
        """Let what waits in a pod's user container go on."""
        where = ("exec", "--namespace", self.namespace, pod.metadata.name, "--container", "user")
        self.cluster.kubectl(*where, "--", "touch", "/tmp/open")

    def told(self, words: str, pipeline: str = "upper") -> pps_pb2.PipelineInfo:
        """The pipeline, once its recent error has these words."""

        def look() -> pps_pb2.PipelineInfo | None:
            found = inspect(self.daemon, pipeline)
            return found if words in found.recent_error else None

        found: pps_pb2.PipelineInfo = until(look)
        return found

    def said(self, words: str, pipeline: str = "upper") -> None:
        """Wait until a line of a pipeline's log has these words."""

        def lines() -> list[pps_pb2.LogMessage]:
            named = pps_pb2.Pipeline(name=pipeline)
            return logs(self.daemon, pipeline=named) + logs(self.daemon, pipeline=named, master=True)

        until(lambda: any(words in line.message for line in lines()))

    def began(self, pipeline: str = "upper") -> None:
        """Wait until `GATE` was reached."""
        self.said("at the gate", pipeline)

    def in_state(self, state: Any, pipeline: str = "upper") -> None:
        """Wait until the pipeline is in a state."""
        until(lambda: inspect(self.daemon, pipeline).state == state)


GATE = ["echo at the gate", "until [ -e /tmp/open ]; do sleep 0.05; done"]
"""Has a datum wait for `open_gate`."""
COPY = ["for f in $(find /pfs/in -type f); do tr a-z A-Z < $f > /pfs/out/${f##*/}; done"]


@contextlib.contextmanager
def site(directory: pathlib.Path, cluster: TestCluster, namespace: str, own: str, image: str) -> Iterator[Site]:
    """A daemon that runs its workers in a namespace."""
    port = free_port()
    address = f"{HOST_ADDRESS}:{port}"
    chosen = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PFS_NAMESPACE": namespace,
        "PFS_WORKER_IMAGE": own,
        "PFS_WORKER_IMAGE_PULL_POLICY": "Never",
        "PFS_SERVICE_ADDRESS": address,
    }
    former = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    daemon = Daemon(directory / "root", "--launcher", "kubernetes")
    daemon.address = address
    try:
        yield Site(daemon.start(), cluster, namespace, image)
    finally:
        daemon.end()
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def processes(*words: str) -> list[int]:
    """The processes of this machine, those in containers included, whose command lines have all these words."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if all(word.encode() in command for word in words):
                found.append(int(entry.name))
    return found


def kill(*words: str) -> None:
    """Kill the one process whose command line has these words."""
    [pid] = processes(*words)
    os.kill(pid, signal.SIGKILL)


def mounts_of(pods: list[Any]) -> list[str]:
    """Where the cluster's machines have what the sidecars of these pods mount."""
    uids = [pod.metadata.uid for pod in pods]
    found: list[str] = []
    for kubelet in pathlib.Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if (kubelet.parent / "comm").read_text() == "kubelet\n":
                lines = kubelet.read_text().splitlines()
                found += [line for line in lines if " - fuse " in line and any(uid in line for uid in uids)]
        except OSError:  # it has ended
            continue
    return found


__all__ = ["COPY", "GATE", "LIMIT", "Site", "kill", "mounts_of", "processes", "site"]
