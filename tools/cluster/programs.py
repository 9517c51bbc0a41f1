"""The programs of a cluster: those that Debian has, and those that are built from their Go modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from pfsd.errors import UnavailableError
from tools.cluster.layout import KUBERNETES, Layout
from tools.cluster.node import CNI_PLUGINS
from tools.golang import go

SOURCES = Path(__file__).parent / "go"
DEBIAN = {
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": f"{CNI_PLUGINS}/ptp",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "procps": "sysctl",
    "mount": "mount",
    "gcc": "gcc",
}
"""Package: a program of it, or a file."""
_VERSION = "k8s.io/component-base/version"


def install(layout: Layout) -> None:
    """Have everything here that the cluster consists of.

    Building takes a quarter of an hour, the first time; broken off, it goes on where it was at the next call.
    Raises UnavailableError where something can't be had, with the reason.
    """
    script = Path(__file__).parents[1] / "debian-packages"
    done = subprocess.run([str(script), *(f"{name}:{proof}" for name, proof in DEBIAN.items())], check=False)
    if done.returncode:
        raise UnavailableError("the cluster needs Debian packages that are missing: see above")
    layout.programs.mkdir(parents=True, exist_ok=True)
    major, minor, _patch = KUBERNETES.removeprefix("v").split(".")
    flags = f"-X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={minor}"
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"):
        _build(layout.programs / name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", flags)
    _build(layout.programs / "coredns", "coredns", ".", "")


def _build(target: Path, module: str, package: str, flags: str) -> None:
    """Build a program, unless it is there. What go.mod leaves open is found out in a copy of the module."""
    if target.exists():
        return
    print(f"building {target.name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pfs-cluster-") as work:
        copy = Path(work) / module
        shutil.copytree(SOURCES / module, copy)
        new = target.with_name(f"{target.name}.new")
        command = [go(), "build", "-mod=mod", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(new), package]
        done = subprocess.run(command, check=False, cwd=copy, env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""})
        if done.returncode:
            raise UnavailableError(f"{target.name} could not be built: see above")
        new.rename(target)
