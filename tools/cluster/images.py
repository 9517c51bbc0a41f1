"""The images that the cluster itself needs, and loading images into its nodes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pfsd.errors import UnavailableError
from tools.cluster import machines
from tools.cluster.layout import KUBERNETES, Layout, Machine
from tools.cluster.node import PAUSE_IMAGE
from tools.commands import run, succeeds
from tools.imagefiles.archive import Config, write_archive, write_layer
from tools.imagefiles.build import digest_of

DNS_IMAGE = "pfsd/coredns:1"
READY_SECONDS = 120.0
_PAUSE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void ended(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
static void stop(int signal) { (void)signal; _exit(0); }
int main(void)
{
    signal(SIGCHLD, ended);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    for (;;) pause();
}
"""
"""Holds the namespaces of a pod and does nothing."""


def system_images(layout: Layout) -> list[Path]:
    """The archives of the images without which no pod runs and no name is found; made where they are missing."""
    layout.images.mkdir(parents=True, exist_ok=True)
    pause = layout.images / f"pause-{digest_of(_PAUSE.encode())}.tar"
    dns = layout.images / f"coredns-{KUBERNETES}.tar"
    with tempfile.TemporaryDirectory(prefix="pfs-cluster-") as work:
        if not pause.exists():
            program = Path(work) / "pause"
            run(["gcc", "-Os", "-static", "-o", str(program), "-x", "c", "-"], _PAUSE)
            layers = [write_layer(Path(work) / "layer.tar", {"/pause": program})]
            write_archive(pause, PAUSE_IMAGE, layers, Config(entrypoint=("/pause",)))
        if not dns.exists():
            layers = [write_layer(Path(work) / "layer.tar", {"/coredns": layout.programs / "coredns"})]
            write_archive(dns, DNS_IMAGE, layers, Config(entrypoint=("/coredns",)))
    return [pause, dns]


def load(nodes: list[Machine], archive: Path) -> None:
    """Give the images in an archive to nodes; raises UnavailableError where a node does not take them."""
    for node in nodes:
        run([*_ctr(node), "images", "import", "--snapshotter", "overlayfs", str(archive)])


def copy(layout: Layout, source: Machine, target: Machine) -> None:
    """Give to one node what images another one has whole, and it has not."""
    missing = [name for name, digest in _images(source).items() if _images(target).get(name) != digest]
    if missing:
        with tempfile.TemporaryDirectory(prefix="copy-", dir=layout.images) as work:
            archive = Path(work) / "images.tar"
            run([*_ctr(source), "images", "export", str(archive), *missing])
            load([target], archive)


def _images(node: Machine) -> dict[str, str]:
    """The hash of each image of a node that has a name, and is whole: of one that was pulled, parts may be missing."""
    lines = [line.split() for line in run([*_ctr(node), "images", "check"]).splitlines()[1:]]
    known = {name: digest for name, _kind, digest, state, *_rest in lines if state == "complete"}
    return {name: digest for name, digest in known.items() if not name.startswith("sha256:")}


def wait_ready(node: Machine) -> None:
    """Wait until a node's containerd answers; raises UnavailableError if it does not within READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    while not (node.containerd.exists() and succeeds([*_ctr(node), "version"])):
        if time.monotonic() > deadline or not machines.running(node):
            raise UnavailableError(f"containerd does not answer on {node.name}: see {node.logs}")
        time.sleep(0.2)


def _ctr(node: Machine) -> list[str]:
    return ["ctr", "--address", str(node.containerd), "--namespace", "k8s.io"]
