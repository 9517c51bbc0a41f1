"""Where everything of the cluster is: directories, names, addresses."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import InvalidError

KUBERNETES = "v1.34.4"
"""The release: the last but one that takes control groups of version 1 (1.35 wants to be told twice)."""
BRIDGE = "pfsc0"
PREFIX = "pfs-cluster-"
"""What names of network namespaces and control groups begin with."""
MACHINES = ipaddress.ip_network("10.211.0.0/24")
PODS = ipaddress.ip_network("10.212.0.0/16")
SERVICES = ipaddress.ip_network("10.96.0.0/16")
HOST_ADDRESS = str(MACHINES[1])
"""Of this machine, as the cluster sees it."""
API_ADDRESS = str(SERVICES[1])
DNS_ADDRESS = str(SERVICES[10])
DOMAIN = "cluster.local"
API_PORT = 6443
REGISTRY = f"{HOST_ADDRESS}:5000"
"""Where nodes take a registry without TLS, for tests that run one on this machine."""
MOST_NODES = 4
_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Machine:
    """The control plane (number 0), or a node (1 and up)."""

    number: int
    directory: Path

    @property
    def name(self) -> str:
        """Also the name of the Kubernetes node."""
        return f"node{self.number}" if self.number else "control"

    @property
    def address(self) -> str:
        """On the bridge."""
        return str(MACHINES[10 + self.number] if self.number else MACHINES[2])

    @property
    def pods(self) -> str:
        """The network of the pods of this node."""
        return f"{PODS[256 * self.number]}/24"

    @property
    def namespace(self) -> str:
        """The name of its network namespace, and of its control group."""
        return PREFIX + self.name

    @property
    def interface(self) -> str:
        """Its end on the bridge."""
        return f"pfsc-{self.name}"

    @property
    def var(self) -> Path:
        """What the machine sees as /var: what outlives a restart of it."""
        return self.directory / "var"

    @property
    def run(self) -> Path:
        """What the machine sees as /run: empty at its start."""
        return self.directory / "run"

    @property
    def logs(self) -> Path:
        """One file for each program."""
        return self.directory / "log"

    @property
    def containerd(self) -> Path:
        """The socket of its containerd, as this machine sees it."""
        return self.run / "containerd" / "containerd.sock"


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories below `$PFS_CLUSTER_DIR`."""

    base: Path

    @property
    def programs(self) -> Path:
        """What has been built; `down` keeps it."""
        return self.base / "bin" / KUBERNETES

    @property
    def images(self) -> Path:
        """Archives of images that were made; `down` keeps them."""
        return self.base / "images"

    @property
    def state(self) -> Path:
        """Everything of the cluster that runs; `down` removes it."""
        return self.base / "state"

    @property
    def pki(self) -> Path:
        """Keys, certificates and the components' kubeconfigs."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.base / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by whoever changes the cluster."""
        return self.base / "lock"

    @property
    def control(self) -> Machine:
        """The machine of the control plane."""
        return Machine(0, self.state / "control")

    def node(self, number: int) -> Machine:
        """The node with a number from 1 to MOST_NODES."""
        return Machine(number, self.state / f"node{number}")

    def nodes(self) -> list[Machine]:
        """The nodes that were ever started since `up`."""
        return [node for node in map(self.node, range(1, MOST_NODES + 1)) if node.directory.exists()]

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return f"https://{self.control.address}:{API_PORT}"


def layout() -> Layout:
    """The one that the environment names: `$PFS_CLUSTER_DIR`, by default `~/.cache/pfs-cluster`.

    Raises InvalidError for a directory in which a cluster can't live.
    """
    base = Path(os.environ.get("PFS_CLUSTER_DIR") or Path.home() / ".cache" / "pfs-cluster").absolute()
    made = Layout(base)
    if base.is_relative_to("/var") or base.is_relative_to("/run"):
        raise InvalidError(
            f"{base} can't hold a cluster, whose machines have their own /var and /run: set PFS_CLUSTER_DIR"
        )
    if len(bytes(made.node(1).containerd)) > _SOCKET_PATH_BYTES - len(".ttrpc"):
        raise InvalidError(
            f"{base} is too long a path for the sockets of a cluster: set PFS_CLUSTER_DIR to a shorter one"
        )
    return made
