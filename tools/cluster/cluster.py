"""The cluster as a whole: up, down, and whether it is well."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pfsd.errors import RefusedError, StateError, UnavailableError
from tools.cluster import control, dns, images, machines, network, node, programs
from tools.cluster.commands import run, succeeds
from tools.cluster.layout import Layout, Machine
from tools.cluster.pki import ADMINISTRATORS, Authority

READY_SECONDS = 300.0


class Cluster:
    """The one cluster that there may be on this machine."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def up(self, nodes: int) -> None:
        """Have a cluster with so many nodes that run and take pods, and with names; what runs already is left alone.

        Raises RefusedError without the rights, StateError beside another cluster, UnavailableError where something
        does not start.
        """
        self._root()
        with self._alone():
            programs.install(self.layout)
            self._first()
            authority = Authority(self.layout)
            network.add_bridge(self.layout)
            if not machines.running(self.layout.control):
                machines.start(self.layout, self.layout.control, control.programs(self.layout, authority))
            authority.kubeconfig(self.layout.kubeconfig, "admin", "admin", ADMINISTRATORS)
            for number in range(1, nodes + 1):
                self._start(self.layout.node(number), authority)
            self._until(lambda: succeeds(self.kubectl("get", "--raw", "/readyz")), "the API server is not ready")
            run(self.kubectl("apply", "--filename", "-"), dns.manifest())
            self._wait_for("nodes to be ready", "node", "--all", "--for=condition=Ready")
            rollout = ("--namespace", dns.NAMESPACE, "deployment/coredns", "--for=condition=Available")
            self._wait_for("CoreDNS to be ready", *rollout)

    def down(self) -> None:
        """Leave nothing but what was built: no process, mount, interface, control group or setting of the kernel."""
        self._root()
        with self._alone():
            for namespace in network.namespaces():
                machines.stop(namespace)
            network.remove_bridge()
            for group in machines.left_groups():
                machines.remove_groups(group)
            self._restore_settings()
            self.layout.kubeconfig.unlink(missing_ok=True)
            shutil.rmtree(self.layout.state, ignore_errors=True)

    def start(self, number: int) -> None:
        """Start a node, new or stopped, and wait until it takes pods; it has the images of the others then."""
        self._root()
        with self._alone():
            if not machines.running(self.layout.control):
                raise StateError("there is no cluster that a node could join: `python -m tools.cluster up` starts one")
            started = self.layout.node(number)
            self._start(started, Authority(self.layout))
            self._wait_for(f"{started.name} to be ready", f"node/{started.name}", "--for=condition=Ready")

    def stop(self, number: int) -> None:
        """End a node at once, as a loss of power would. `start` brings it back."""
        self._root()
        with self._alone():
            stopped = self.layout.node(number)
            if stopped.namespace not in network.namespaces():
                raise StateError(f"{stopped.name} does not run")
            machines.stop(stopped.namespace)

    def remove(self, number: int) -> None:
        """Have the cluster forget a node and its pods, and leave nothing of it."""
        self._root()
        with self._alone():
            removed = self.layout.node(number)
            if not removed.directory.exists():
                raise StateError(f"there is no {removed.name}")
            if removed.namespace in network.namespaces():
                machines.stop(removed.namespace)
            its_pods = ("--all-namespaces", f"--field-selector=spec.nodeName={removed.name}")
            run(self.kubectl("delete", "pods", *its_pods, "--force", "--grace-period=0"))
            run(self.kubectl("delete", "node", removed.name, "--ignore-not-found"))
            shutil.rmtree(removed.directory)

    def load(self, archive: Path) -> None:
        """Give the images in an archive to every node that runs."""
        running = self._running()
        if not running:
            raise StateError("there is no node to load images into: `python -m tools.cluster up` starts one")
        images.load(running, archive)

    def status(self) -> str:
        """What runs, in words; raises UnavailableError where the API server does not answer."""
        parts = [self.layout.control, *self.layout.nodes()]
        lines = [f"{part.name}: {'runs' if machines.running(part) else 'stopped'} at {part.address}" for part in parts]
        if machines.running(self.layout.control):
            lines += [run(self.kubectl("get", kind, *options)) for kind, *options in (("nodes",), ("pods", "-A"))]
        return "\n".join(lines)

    def kubectl(self, *arguments: str) -> list[str]:
        """The command line of kubectl as the cluster's administrator."""
        return [str(self.layout.programs / "kubectl"), f"--kubeconfig={self.layout.kubeconfig}", *arguments]

    def _start(self, started: Machine, authority: Authority) -> None:
        if machines.running(started):
            return
        others = self._running()
        machines.start(self.layout, started, node.programs(self.layout, started, authority))
        images.wait_ready(started)
        for archive in images.system_images(self.layout):
            images.load([started], archive)
        if others:
            images.copy(self.layout, others[0], started)
        (started.run / node.LOADED.name).touch()

    def _running(self) -> list[Machine]:
        return [node for node in self.layout.nodes() if machines.running(node)]

    def _first(self) -> None:
        """Before anything is started: no other cluster is here, and the kernel's settings are known."""
        if not self.layout.state.exists():
            if network.namespaces():
                raise StateError(
                    "another cluster is on this machine: take it down first, with the PFS_CLUSTER_DIR it was made with"
                )
            self.layout.state.mkdir(parents=True)
            settings = {str(path): path.read_text() for path in machines.KERNEL_SETTINGS if path.exists()}
            self._settings.write_text(json.dumps(settings))

    @property
    def _settings(self) -> Path:
        return self.layout.state / "kernel-settings.json"

    def _restore_settings(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path, value in json.loads(self._settings.read_text()).items():
                Path(path).write_text(value)

    def _until(self, done: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{complaint} after {READY_SECONDS:.0f} seconds: see {self.layout.state}/*/log")
            time.sleep(0.2)

    def _wait_for(self, what: str, *arguments: str) -> None:
        command = self.kubectl("wait", *arguments, "--timeout=5s")
        self._until(lambda: succeeds(command), f"still waiting for {what}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.layout.base.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _root() -> None:
        if os.geteuid():
            raise RefusedError("a cluster is made of namespaces, mounts and control groups: run this as root")
