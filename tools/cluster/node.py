"""The programs of a node and their settings: containerd with the CNI plugins, kubelet, kube-proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.cluster.init import Program
from tools.cluster.layout import DNS_ADDRESS, DOMAIN, PODS, REGISTRY, Layout, Machine
from tools.cluster.pki import Authority

PAUSE_IMAGE = "pfsd/pause:1"
CNI_PLUGINS = "/usr/lib/cni"
LOADED = Path("/run/images-are-loaded")
"""kubelet starts once this file is there: a node that took pods before it has their images would fail them."""
_SOCKET = "/run/containerd/containerd.sock"

_CONTAINERD = f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "/var/lib/cni/conf"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/var/lib/node/registries"
"""


def programs(layout: Layout, node: Machine, authority: Authority) -> list[Program]:
    """What runs on the machine of a node; writes the settings of it."""
    settings = node.var / "lib" / "node"
    settings.mkdir(parents=True, exist_ok=True)
    network = node.var / "lib" / "cni" / "conf"
    network.mkdir(parents=True, exist_ok=True)
    _save(network / "10-pods.conflist", _pod_network(node))
    registry = settings / "registries" / REGISTRY
    registry.mkdir(parents=True, exist_ok=True)
    (registry / "hosts.toml").write_text(f'server = "http://{REGISTRY}"\n')
    (settings / "containerd.toml").write_text(_CONTAINERD)
    (settings / "resolv.conf").write_text("")
    _save(settings / "kubelet.json", _kubelet(node, authority))
    _save(settings / "proxy.json", _proxy(node, authority))
    inside = Path("/var/lib/node")
    kubelet = [
        str(layout.programs / "kubelet"),
        f"--config={inside / 'kubelet.json'}",
        f"--kubeconfig={authority.component(f'node:{node.name}', 'system:nodes')}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]
    wait = f"until [ -e {LOADED} ]; do sleep 0.1; done"
    return [
        Program("containerd", ["/usr/bin/containerd", "--config", str(inside / "containerd.toml")]),
        Program("kubelet", ["sh", "-c", f'{wait}; exec "$0" "$@"', *kubelet]),
        Program("kube-proxy", [str(layout.programs / "kube-proxy"), f"--config={inside / 'proxy.json'}"]),
    ]


def _pod_network(node: Machine) -> dict[str, Any]:
    """A link of its own for each pod. Which addresses are taken is kept in /run: none, once the node starts again."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni-addresses",
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": addresses}, ports]}


def _kubelet(node: Machine, authority: Authority) -> dict[str, Any]:
    """Images are here because someone loaded them, so none is ever collected.

    What the kernel is to kill first is not said: in a container, root may not say so of its own processes.
    """
    serving = authority.kubelet(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.identity.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.namespace}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{_SOCKET}",
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "oomScoreAdj": 0,
        "resolvConf": "/var/lib/node/resolv.conf",
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
    }


def _proxy(node: Machine, authority: Authority) -> dict[str, Any]:
    """Limits of connection tracking belong to the kernel, not to a network namespace: they are left alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(authority.component("kube-proxy"))},
        "clusterCIDR": str(PODS),
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": node.name,
        "mode": "iptables",
        "oomScoreAdj": 0,
    }


def _save(path: Path, settings: dict[str, Any]) -> None:
    path.write_text(json.dumps(settings, indent=1))
