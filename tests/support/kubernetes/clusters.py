"""The Kubernetes cluster of `python -m tools.cluster` for tests: only ever that one, whatever KUBECONFIG says."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config, watch

from tests.support.places import TREE
from tools.cluster.cluster import Cluster
from tools.cluster.layout import MOST_NODES, layout
from tools.image import recipes
from tools.imagefiles.build import Cache, digest_of

HOW = "`python -m tools.cluster up`, as root, starts one"
POD_SECONDS = 120


class TestCluster:
    """A cluster that runs, and its administrator's clients."""

    __test__ = False

    def __init__(self, tool: Cluster) -> None:
        self.tool = tool
        self.kubeconfig = tool.layout.kubeconfig
        self.connection = config.new_client_from_config(config_file=str(self.kubeconfig))
        self.core = client.CoreV1Api(self.connection)
        self.apps = client.AppsV1Api(self.connection)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl writes; fails the test with what it says where it fails."""
        done = subprocess.run(
            self.tool.kubectl(*arguments), capture_output=True, text=True, input=text, check=False, timeout=POD_SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, namespace: str, *objects: dict[str, Any]) -> None:
        """Make objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("create", "--namespace", namespace, "--filename", "-", text=json.dumps(listed))

    def wait_for_pod(self, namespace: str, name: str, *phases: str) -> Any:
        """The pod, once it is in one of the phases; fails the test after POD_SECONDS, with what is known of the pod."""
        return self.wait_for(namespace, lambda pod: pod.metadata.name == name and pod.status.phase in phases)

    def wait_for(self, namespace: str, wanted: Callable[[Any], bool]) -> Any:
        """A pod that is as it is wanted, once there is one; fails the test after POD_SECONDS, with what is known."""
        seen: dict[str, Any] = {}
        deadline = time.monotonic() + POD_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            pods = self.core.list_namespaced_pod
            for event in watch.Watch().stream(pods, namespace, timeout_seconds=max(1, int(left))):
                pod = event["object"]
                seen[pod.metadata.name] = pod.status
                if event["type"] != "DELETED" and wanted(pod):
                    return pod
        raise AssertionError(f"no pod is as wanted: {seen}")

    def logs(self, namespace: str, name: str, container: str | None = None) -> str:
        """What a container of a pod wrote."""
        return self.kubectl("logs", "--namespace", namespace, name, *(["--container", container] if container else []))

    def lose(self, node: str) -> None:
        """End a node as a loss of power would."""
        self.tool.stop(int(node.removeprefix("node")))

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of a test, in which pods can be made; afterwards it and all in it are gone."""
        name = f"test-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        try:
            self.kubectl("wait", "--namespace", name, "--for=create", "serviceaccount/default", "--timeout=60s")
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=true", f"--timeout={POD_SECONDS - 10}s")


@contextlib.contextmanager
def second_node(cluster: TestCluster) -> Iterator[str]:
    """One more node that takes pods, for as long as it lasts; yields its name."""
    layout = cluster.tool.layout
    number = min(set(range(1, MOST_NODES + 1)) - {node.number for node in layout.nodes()})
    try:
        cluster.tool.start(number)
        yield layout.node(number).name
    finally:
        cluster.tool.remove(number)


def connected() -> TestCluster:
    """The cluster; skips the test where none answers."""
    tool = Cluster(layout())
    if not tool.layout.kubeconfig.exists():
        pytest.skip(f"there is no Kubernetes cluster: {HOW}")
    context = ssl.create_default_context(cafile=str(tool.layout.pki / "ca.crt"))
    try:
        with urllib.request.urlopen(f"{tool.layout.server}/readyz", timeout=5, context=context):
            pass
    except OSError as error:
        pytest.skip(f"the Kubernetes cluster at {tool.layout.server} does not answer ({error}): {HOW}")
    return TestCluster(tool)


def load_own(cluster: TestCluster, directory: pathlib.Path) -> str:
    """Make the project's image of this tree, give it to the cluster; returns its name, which no other tree's has."""
    name = f"pfsd/pfsd:tests-{digest_of(bytes(TREE))}"
    archive = directory / "own.tar"
    recipes.own(_cache(cluster), recipes.Tree(TREE), archive, name)
    return _loaded(cluster, archive, name)


def load_opencv(cluster: TestCluster, directory: pathlib.Path) -> str:
    """The same for the image of the tutorial's pipeline."""
    archive = directory / "opencv.tar"
    recipes.opencv(_cache(cluster), recipes.Tree(TREE), archive)
    return _loaded(cluster, archive, recipes.OPENCV_IMAGE)


def load_busybox(cluster: TestCluster, directory: pathlib.Path) -> str:
    """The same for an image that has a shell, and no Python."""
    archive = directory / "busybox.tar"
    recipes.busybox(_cache(cluster), archive)
    return _loaded(cluster, archive, recipes.BUSYBOX_IMAGE)


def _cache(cluster: TestCluster) -> Cache:
    if os.geteuid():
        pytest.skip("making images needs root")
    return Cache(cluster.tool.layout.images)


def _loaded(cluster: TestCluster, archive: pathlib.Path, name: str) -> str:
    cluster.tool.load(archive)
    archive.unlink()
    return name
