"""Deployments on a real cluster: what its API server accepts, the system with an S3 store, faults, and removal."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support.daemons import Daemon
from tests.support.kubernetes import clusters
from tests.support.kubernetes.clusters import TestCluster
from tests.support.kubernetes.deployments import FLAVOURS
from tests.support.kubernetes.registries import serving
from tests.support.servers import s3servers
from tests.support.servers.s3servers import ACCESS, SECRET, S3Server
from tools.cluster.layout import HOST_ADDRESS, REGISTRY
from tools.demo import photographs
from tools.s3server import gateway_path

ANSWER_SECONDS = 180
AWAY_SECONDS = 60

EVERYTHING = (
    "deployments,replicasets,replicationcontrollers,pods,services,secrets,configmaps,serviceaccounts,roles,rolebindings,"
    "persistentvolumeclaims"
)
WIDE = "clusterroles,clusterrolebindings,persistentvolumes"


@pytest.fixture(scope="module")
def cluster() -> TestCluster:
    return clusters.connected()


@pytest.fixture(scope="module")
def image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return clusters.load_own(cluster, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def busybox(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return clusters.load_busybox(cluster, tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that pods reach."""
    if gateway_path() is None:
        pytest.skip("there is no versitygw here: python -m tools.s3server builds it (Go is needed)")
    with s3servers.gateway(tmp_path_factory.mktemp("gateway"), HOST_ADDRESS) as started:
        yield started


@pytest.fixture
def namespace(cluster: TestCluster) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name


@dataclass(frozen=True)
class Deployment:
    """pfsd in a namespace of the cluster."""

    cluster: TestCluster
    namespace: str

    def run(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """pachctl, pointed at the cluster."""
        return subprocess.run(
            [sys.executable, "-m", "pachctl.main", *args, "--namespace", self.namespace],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)},
            timeout=ANSWER_SECONDS,
            check=False,
        )

    def outcomes(self, *args: str) -> dict[str, str]:
        """What became of each object."""
        done = self.run(*args)
        assert done.returncode == 0, done.stderr
        return dict(line.split() for line in done.stdout.splitlines())

    def left(self) -> str:
        """What the cluster still has of it."""
        mine = self.cluster.kubectl("get", EVERYTHING, "-n", self.namespace, "-l", "suite=pfsd", "-o", "name")
        return mine + self.cluster.kubectl("get", WIDE, "-l", f"pfsd-namespace={self.namespace}", "-o", "name")

    def wait(self) -> None:
        """Until the daemon is ready."""
        self.cluster.kubectl("rollout", "status", "deployment/pfsd", "-n", self.namespace, "--timeout=110s")

    def daemon_pod(self) -> str:
        """The name of its pod."""
        return self.cluster.kubectl("get", "pods", "-n", self.namespace, "-l", "app=pfsd", "-o", "name").strip()

    @contextlib.contextmanager
    def forwarded(self, path: pathlib.Path) -> Iterator[Daemon]:
        """The daemon by way of `pachctl port-forward`, which has to end cleanly afterwards."""
        command = [sys.executable, "-m", "pachctl.main", "port-forward", "-p", "0", "--namespace", self.namespace]
        with (path / "port-forward.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)},
            )
        assert process.stdout is not None
        daemon = Daemon(path / "none")
        try:
            said = process.stdout.readline()
            daemon.address = re.match(r"Forwarding (\S+) to pfsd", said).group(1)  # type: ignore[union-attr]
            yield daemon
        finally:
            daemon.end()
            process.send_signal(signal.SIGTERM)
            status = process.wait(10)
            process.stdout.close()
        assert status == 0


@contextlib.contextmanager
def deployed(cluster: TestCluster, namespace: str, *args: str) -> Iterator[Deployment]:
    """A deployment that is ready, and is removed afterwards, data on the node included."""
    deployment = Deployment(cluster, namespace)
    done = deployment.run("deploy", *args, "--node-port", "0")
    assert done.returncode == 0, done.stderr
    try:
        deployment.wait()
        yield deployment
    finally:
        removed = deployment.run("undeploy", "--all", stdin="y\n")
    assert removed.returncode == 0, removed.stderr


@pytest.fixture
def on_node(cluster: TestCluster) -> Iterator[str]:
    """A directory of the node that is gone afterwards."""
    name = f"pfsd-test-{secrets.token_hex(4)}"
    yield f"/var/lib/{name}"
    for node in cluster.tool.layout.nodes():
        shutil.rmtree(node.var / "lib" / name, ignore_errors=True)


@pytest.fixture
def system(cluster: TestCluster, namespace: str, image: str, store: S3Server, on_node: str) -> Iterator[Deployment]:
    """pfsd with its packs in S3."""
    args = ("custom", "--persistent-disk", "host", "--object-store", "s3", on_node, "10", f"data/{namespace}")
    with deployed(cluster, namespace, *args, ACCESS, SECRET, store.endpoint, "--image", image) as made:
        yield made


def test_the_api_server_accepts_the_manifests_of_all_five_kinds(cluster: TestCluster, namespace: str) -> None:
    bare = ["serviceaccount/pfsd", "role/pfsd", "rolebinding/pfsd", f"clusterrole/pfsd-{namespace}"]
    bare += [f"clusterrolebinding/pfsd-{namespace}", "secret/pfsd-storage"]
    volume = [f"persistentvolume/pfsd-root-{namespace}", "persistentvolumeclaim/pfsd-root"]
    recorded = {
        "local": [*bare, "service/pfsd", "deployment/pfsd"],
        "custom": [*bare, *volume, "service/pfsd", "deployment/pfsd"],
        "amazon": [*bare, *volume, "service/pfsd", "deployment/pfsd"],
        "google": [*bare, *volume, "service/pfsd", "deployment/pfsd"],
        "microsoft": [*bare, *volume, "service/pfsd", "deployment/pfsd"],
    }
    deployment = Deployment(cluster, namespace)
    for flavour, args in FLAVOURS.items():
        for form in ("json", "yaml"):
            manifest = deployment.run("deploy", *args, "--dry-run", "-o", form, "--node-port", "0")
            assert manifest.returncode == 0, manifest.stderr
            accepted = cluster.kubectl("create", "--dry-run=server", "-f", "-", text=manifest.stdout)
            expected = [f"{name} created (server dry run)" for name in recorded[flavour]]
            assert [re.sub(r"^(\w+)[.\w]*/", r"\1/", line) for line in accepted.splitlines()] == expected
    assert deployment.left() == ""


def test_deploying_again_changes_what_differs_and_nothing_else(
    cluster: TestCluster, namespace: str, image: str, on_node: str, tmp_path: pathlib.Path
) -> None:
    given = ("local", "--host-path", on_node, "--image", image)
    args = ("deploy", *given, "--node-port", "0")
    with deployed(cluster, namespace, *given) as deployment:
        assert set(deployment.outcomes(*args).values()) == {"unchanged"}
        changed = deployment.outcomes(*args, "--pachd-memory-request", "64Mi")
        assert {name for name, outcome in changed.items() if outcome == "configured"} == {"deployment/pfsd"}
        deployment.wait()
        refused = deployment.run(*args[:-1], "1")
        assert refused.returncode == 1
        assert "does not accept Service pfsd" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert set(deployment.outcomes(*args, "--pachd-memory-request", "64Mi").values()) == {"unchanged"}

        port = 31000 + secrets.randbelow(1700)
        opened = deployment.outcomes(*args[:-1], str(port), "--pachd-memory-request", "64Mi")
        assert {name for name, outcome in opened.items() if outcome == "configured"} == {"service/pfsd"}
        daemon = Daemon(tmp_path / "none")
        daemon.address = f"{cluster.tool.layout.nodes()[0].address}:{port}"
        _await("the node's port leads to it", lambda: daemon.pachctl("version", check=False).returncode == 0)


def test_undeploy_keeps_the_volume_until_it_is_asked_for_too(
    cluster: TestCluster, namespace: str, image: str, on_node: str
) -> None:
    deployment = Deployment(cluster, namespace)
    storage_class = f"class-{namespace}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": storage_class},
        "spec": {
            "storageClassName": storage_class,
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": on_node, "type": "DirectoryOrCreate"},
        },
    }
    cluster.kubectl("create", "-f", "-", text=json.dumps(volume))
    try:
        options = ("--storage-class", storage_class, "--image", image, "--node-port", "0")
        args = ("deploy", "microsoft", "container", "account", "a2V5", "1", "--dynamic-etcd-nodes", "1", *options)
        deployment.outcomes(*args)
        deployment.wait()
        assert deployment.outcomes("undeploy")["deployment/pfsd"] == "deleted"
        assert deployment.left() == "persistentvolumeclaim/pfsd-root\n"

        deployment.outcomes(*args)
        deployment.wait()
        declined = deployment.run("undeploy", "--all", stdin="n\n")
        assert declined.returncode == 1
        assert "Are you sure? yN" in declined.stdout
        assert "deployment.apps/pfsd" in deployment.left()
        agreed = deployment.run("undeploy", "--all", stdin="y\n")
        assert agreed.returncode == 0
        assert "persistentvolumeclaim/pfsd-root deleted" in agreed.stdout
        assert deployment.left() == ""
        again = deployment.run("undeploy")
        assert again.returncode == 0
        assert again.stderr == f"nothing of pfsd is deployed in the namespace {namespace}\n"
    finally:
        cluster.kubectl("delete", "persistentvolume", storage_class, "--timeout=60s")


def test_what_a_cluster_can_not_do_is_said_in_one_sentence(cluster: TestCluster, namespace: str) -> None:
    absent = Deployment(cluster, f"{namespace}-absent")
    for command in (("deploy", "local"), ("undeploy",), ("port-forward", "-p", "0")):
        refused = absent.run(*command)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"there is no namespace {namespace}-absent in the cluster at")
        assert len(refused.stderr.splitlines()) == 1
    unused = Deployment(cluster, namespace).run("port-forward", "-p", "0")
    assert unused.returncode == 1
    assert unused.stderr.startswith(f"pfsd is not deployed in the namespace {namespace} at")


# --- the system


def test_the_tutorial_from_outside_with_a_second_pipeline_without_python(
    system: Deployment, tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory, busybox: str
) -> None:
    opencv = clusters.load_opencv(system.cluster, tmp_path_factory.mktemp("opencv"))
    with system.forwarded(tmp_path) as daemon:
        daemon.pachctl("create-repo", "images")
        for name in ("coffee.png", "astronaut.png", "chelsea.png"):
            daemon.pachctl("put-file", "images", "master", name, "-c", "-f", str(photographs() / name))
        code = pathlib.Path("tools/edges.py").read_text().splitlines()
        _create(daemon, "edges", "images", opencv, ["python3"], code)
        script = "for f in /pfs/edges/*; do md5sum < $f > /pfs/out/${f##*/}.sum; done"
        _create(daemon, "sums", "edges", busybox, ["sh"], [script], lazy=True)
        daemon.pachctl("flush-commit", "images/master")
        found = daemon.pachctl("list-file", "sums", "master").stdout.decode()
        for name in ("coffee", "astronaut", "chelsea"):
            assert f"{name}.png.sum" in found
            picture = daemon.pachctl("get-file", "edges", "master", f"{name}.png").stdout
            assert picture.startswith(b"\x89PNG")
    assert system.run("undeploy").returncode == 0
    assert system.left() == ""


def _create(
    daemon: Daemon,
    name: str,
    repo: str,
    image: str,
    cmd: list[str],
    stdin: list[str],
    *options: str,
    lazy: bool = False,
    workers: int = 1,
) -> None:
    """A pipeline over every file of a repo."""
    spec = {
        "pipeline": {"name": name},
        "transform": {"image": image, "cmd": cmd, "stdin": stdin},
        "parallelism_spec": {"constant": workers},
        "input": {"atom": {"repo": repo, "glob": "/*", "lazy": lazy}},
    }
    daemon.pachctl("create-pipeline", *options, stdin=json.dumps(spec).encode())


def _slow_pipeline(daemon: Daemon, image: str, datums: int, workers: int = 4, seconds: str = "0.5") -> None:
    """A pipeline that takes `seconds` a datum, with all its input there."""
    daemon.create_repo("numbers")
    daemon.commit_files("numbers", {f"{number:03}": b"%d\n" % number for number in range(datums)})
    script = [f"sleep {seconds}", "for f in /pfs/numbers/*; do cat $f $f > /pfs/out/${f##*/}; done"]
    _create(daemon, "double", "numbers", image, ["sh"], script, workers=workers)


def _processed(daemon: Daemon) -> int:
    """How many datums the newest job has done; -1 where that can't be had now."""
    listed = daemon.pachctl("list-job", "-p", "double", check=False)
    found = re.search(r"(\d+) \+ \d+ / \d+", listed.stdout.decode())
    return int(found.group(1)) if listed.returncode == 0 and found else -1


def _states(daemon: Daemon) -> list[str]:
    """Of all jobs of the slow pipeline."""
    listed = daemon.pachctl("list-job", "-p", "double").stdout.decode().splitlines()
    return [line.split()[-1] for line in listed[1:]]


def _await(what: str, true: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def _check_doubled(daemon: Daemon, datums: int) -> None:
    """Wait for the job, with a call that is made again where a connection breaks; compare all of its output."""
    _await(
        "the job ends",
        lambda: daemon.pachctl("flush-commit", "numbers/master", check=False).returncode == 0,
    )
    out = pathlib.Path(daemon.root.parent / f"out-{secrets.token_hex(4)}")
    daemon.pachctl("get-file", "double", "master", "/", "-r", "-o", str(out))
    found = {path.name: path.read_bytes() for path in out.iterdir()}
    assert found == {f"{number:03}": b"%d\n" % number * 2 for number in range(datums)}


def test_the_daemon_is_killed_in_the_middle_of_a_job_and_port_forward_finds_the_next(
    system: Deployment, tmp_path: pathlib.Path, busybox: str
) -> None:
    with system.forwarded(tmp_path) as daemon:
        _slow_pipeline(daemon, busybox, datums=60)
        _await("some datums are done", lambda: _processed(daemon) >= 8)
        before = system.daemon_pod()
        system.cluster.kubectl("delete", before, "-n", system.namespace, "--grace-period=0", "--force")
        _await("another pod serves", lambda: daemon.pachctl("version", check=False).returncode == 0)
        assert system.daemon_pod() != before
        _check_doubled(daemon, 60)


@contextlib.contextmanager
def _cut(cluster: TestCluster, cut: str, mend: str) -> Iterator[Callable[[], None]]:
    """Two commands in the network of each node, before and after the block; what it is given waits AWAY_SECONDS out."""
    names = [node.namespace for node in cluster.tool.layout.nodes()]
    began = time.monotonic()
    for name in names:
        subprocess.run(["ip", "netns", "exec", name, *cut.split()], check=True)
    try:
        yield lambda: time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "exec", name, *mend.split()], check=True)


def test_the_store_is_away_for_a_minute_in_the_middle_of_a_job(
    system: Deployment, tmp_path: pathlib.Path, busybox: str
) -> None:
    route = f"blackhole {HOST_ADDRESS}/32"
    with system.forwarded(tmp_path) as daemon:
        _slow_pipeline(daemon, busybox, datums=40)
        _await("some datums are done", lambda: _processed(daemon) >= 4)
        with _cut(system.cluster, f"ip route add {route}", f"ip route del {route}") as wait:
            # What needs no store goes on: names are the daemon's own.
            assert "numbers" in daemon.pachctl("list-repo").stdout.decode()
            assert b"double" in daemon.pachctl("list-pipeline").stdout
            wait()
            assert _states(daemon) == ["running"], "what is finished is in the store"
        _check_doubled(daemon, 40)
        assert _states(daemon) == ["success"]


def test_the_daemon_is_out_of_reach_of_its_workers_for_a_minute_in_the_middle_of_a_job(
    system: Deployment, tmp_path: pathlib.Path, busybox: str
) -> None:
    chain = "FORWARD -p tcp -m multiport --ports 30650 -j DROP"
    with system.forwarded(tmp_path) as daemon:
        _slow_pipeline(daemon, busybox, datums=40)
        _await("some datums are done", lambda: _processed(daemon) >= 4)
        with _cut(system.cluster, f"iptables -I {chain}", f"iptables -D {chain}") as wait:
            wait()  # port-forward does not take that way
            assert _processed(daemon) < 40, "workers are cut off"
        _check_doubled(daemon, 40)
        assert _states(daemon) == ["success"]


def test_an_image_that_is_pushed_is_what_the_cluster_runs(
    system: Deployment, tmp_path: pathlib.Path, busybox: str
) -> None:
    from tools.image import recipes
    from tools.imagefiles.build import Cache

    archive = tmp_path / "busybox.tar"
    recipes.busybox(Cache(system.cluster.tool.layout.images), archive)
    with serving(tmp_path / "registry", {}, REGISTRY), system.forwarded(tmp_path) as daemon:
        daemon.create_repo("words")
        daemon.commit_files("words", {"a": b"hello\n"})
        options = ("--push-images", "-r", f"http://{REGISTRY}", "-u", "team", "--image-archive", str(archive))
        script = ["tr a-z A-Z < /pfs/words/a > /pfs/out/a"]
        _create(daemon, "upper", "words", busybox, ["sh"], script, *options)
        shown = json.loads(daemon.pachctl("inspect-pipeline", "upper", "--raw").stdout)
        assert shown["transform"]["image"].startswith(f"{REGISTRY}/team/")
        daemon.pachctl("flush-commit", "words/master")
        assert daemon.pachctl("get-file", "upper", "master", "a").stdout == b"HELLO\n"
        pods = json.loads(
            system.cluster.kubectl("get", "pods", "-n", system.namespace, "-l", "app=pfsd-worker", "-o", "json")
        )
        images = {container["image"] for pod in pods["items"] for container in pod["spec"]["containers"]}
        assert shown["transform"]["image"] in images
