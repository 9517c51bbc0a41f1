"""Fixtures."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from execnet import XSpec
from xdist.scheduler import LoadFileScheduling

from pfsfuse.kernel.mounts import detach, present
from pfsfuse.kernel.namespace import enter_own_namespace
from tests.support.daemons import Daemon, running
from tests.support.kubernetes import clusters
from tests.support.kubernetes.clusters import TestCluster
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server

# Run in the background, a shell has its commands ignore SIGINT, and what they start inherits that: tests that
# interrupt a process would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Who ends the tests this way wants what they started stopped too.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_xdist_setupnodes(specs: Sequence[XSpec]) -> None:
    """Of several processes that test at once (`-n`), each has mounts of its own, too."""
    if os.geteuid() == 0:
        for spec in specs:
            spec.python = shlex.join(["unshare", "--mount", sys.executable])


class FilesWhole(LoadFileScheduling):  # type: ignore[misc]
    """Gives each process whole files of tests, and those of the one Kubernetes cluster all to the same."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "cluster" if re.search(r"cluster|kube", path) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesWhole:
    """Who tests next."""
    return FilesWhole(config, log)


def pytest_sessionstart() -> None:
    """Mounts of the tests are theirs alone, and `unmount -a` finds no others: those of this machine may be in use.

    Only root may make a namespace for that.
    """
    if os.geteuid() == 0:
        if "PYTEST_XDIST_WORKER" not in os.environ:  # that was started in one of its own
            enter_own_namespace()
        for mount in reversed(present()):
            if mount.is_ours:
                detach(mount.target)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The suites of others take longest, and come first: several processes that test then end together."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/suites/"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A mount that a test leaves behind fails the run; as root, nobody else can see it any more."""
    left = [mount.target for mount in present() if mount.is_ours]
    if left and os.geteuid() == 0:
        sys.stderr.write(f"\nThe tests left these mounts behind: {', '.join(left)}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    """moto's S3 server, for the tests of one module."""
    with s3servers.moto() as started:
        yield started


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon of the file system alone, over a fresh root."""
    with running(tmp_path / "root", "--no-pipelines") as started:
        yield started


@pytest.fixture
def pipeline_daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon with pipelines, over a fresh root."""
    with running(tmp_path / "root") as started:
        yield started


@pytest.fixture(scope="session")
def cluster() -> TestCluster:
    """The Kubernetes cluster of `python -m tools.cluster`; skips where none runs."""
    return clusters.connected()


@pytest.fixture
def namespace(cluster: TestCluster) -> Iterator[str]:
    """A namespace of the cluster that goes, with all in it, when the test ends."""
    with cluster.namespace() as name:
        yield name


@pytest.fixture
def second_node(cluster: TestCluster) -> Iterator[str]:
    """The name of one more node, which a test may lose: `cluster.lose(name)`."""
    with clusters.second_node(cluster) as name:
        yield name


@pytest.fixture(scope="session")
def own_image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The project's own image, made of this tree, on the cluster's nodes."""
    return clusters.load_own(cluster, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def opencv_image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python with OpenCV, on the cluster's nodes."""
    return clusters.load_opencv(cluster, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def busybox_image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A shell and no Python, on the cluster's nodes."""
    return clusters.load_busybox(cluster, tmp_path_factory.mktemp("image"))
