"""The tool that brings a cluster up and takes it down, whole, beside the cluster that other tests use."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tools.cluster.layout import layout
from tools.cluster.machines import GROUPS

PREFIX = "pfs-tooltest-"
SECONDS = 400
_SCRIPT = """
set -e
ip link set lo up
mount -t tmpfs names /run/netns
tool() { "$PYTHON" -m tools.cluster "$@"; }
trap 'tool down' EXIT
tool up --nodes 2
tool up
tool load "$IMAGE"
eval "$(tool env)"
kubectl run one --image=pfsd/busybox:test --overrides='{"spec": {"nodeName": "node1"}}' -- sleep 3600
kubectl wait pod/one --for=condition=Ready --timeout=60s
tool stop-node 1
tool up
kubectl wait pod/one --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 --timeout=60s
tool remove-node 2
echo "nodes: $(kubectl get nodes -o name)"
tool down
tool down
echo "left: $(ip netns list) $(ip -o link | grep -v ' lo:')"
"""
"""Runs in a network namespace, and with names of network namespaces, of its own."""


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    """A directory with a short name for a cluster, with the programs that were built."""
    if not os.environ.get("PFS_TEST_CLUSTER_TOOL"):
        pytest.skip("this brings up a cluster of two nodes for a few minutes: PFS_TEST_CLUSTER_TOOL=1 has it do so")
    base = layout().base
    if os.geteuid() or not (base / "bin").exists() or not shutil.which("containerd"):
        pytest.skip("this needs root and what `python -m tools.cluster up`, as root, builds and installs")
    made = pathlib.Path(tempfile.mkdtemp(prefix="pfsc-", dir="/tmp"))
    (made / "bin").symlink_to(base / "bin")
    pathlib.Path("/run/netns").mkdir(exist_ok=True)
    try:
        yield made
    finally:
        subprocess.run(["pkill", "-KILL", "-f", str(made)], check=False)  # only where the test failed
        shutil.rmtree(made)


def test_a_cluster_comes_up_bears_losses_and_leaves_nothing(directory: pathlib.Path) -> None:
    image = directory / "busybox.tar"
    subprocess.run([sys.executable, "-m", "tools.image", "busybox", "-o", str(image)], check=True, timeout=SECONDS)
    environment = {
        **os.environ,
        "PFS_CLUSTER_DIR": str(directory),
        "PFS_CLUSTER_PREFIX": PREFIX,
        "PYTHON": sys.executable,
        "IMAGE": str(image),
    }
    alone = ["unshare", "--net", "--mount", "--propagation", "private"]
    done = subprocess.run(
        [*alone, "sh", "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "nodes: node/node1" in lines
    assert lines[-1].split() == ["left:"]
    assert not list(GROUPS.glob(f"*/{PREFIX}*"))
    assert sorted(path.name for path in directory.iterdir()) == ["bin", "busybox.tar", "images", "lock"]
    assert subprocess.run(["pgrep", "-f", str(directory)], check=False).returncode == 1
    assert str(directory) not in pathlib.Path("/proc/self/mountinfo").read_text()
