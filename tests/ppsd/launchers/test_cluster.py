"""The cluster that tests run on, and the images that are made for it."""

from __future__ import annotations

import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pfsd.version import VERSION
from tests.support.kubernetes.clusters import TestCluster
from tools.cluster import layout
from tools.imagefiles.archive import Config, full_name, write_archive, write_layer

HELLO = """
import errno, stat, pyfuse3, trio

class Hello(pyfuse3.Operations):
    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == 1 else stat.S_IFREG | 0o644
        entry.st_size = 0 if inode == 1 else 6
        return entry

    async def lookup(self, parent, name, ctx=None):
        if name != b"hello":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(2)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, handle, offset, size):
        return b"hello\\n"[offset : offset + size]

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        with trio.open_signal_receiver(15) as signals:
            async for _ in signals:
                pyfuse3.terminate()
                break

pyfuse3.init(Hello(), "/shared/pfs", {"fsname=hello", "allow_other"})
trio.run(main)
pyfuse3.close(unmount=True)
"""
"""A file system with one file."""


FIXED = {"automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1}
"""Of the pods here."""


def _pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", **FIXED, "containers": containers, **spec},
    }


def test_a_pod_runs_and_finds_a_service_by_its_name(cluster: TestCluster, namespace: str, busybox_image: str) -> None:
    serve = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www"
    server = _pod("server", {"name": "c", "image": busybox_image, "command": ["sh", "-c", serve]})
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    ask = f"until wget -q -O - http://web.{namespace}; do sleep 0.2; done"
    client = _pod("client", {"name": "c", "image": busybox_image, "command": ["sh", "-c", ask]})
    cluster.create(namespace, server, service, client)
    cluster.wait_for_pod(namespace, "client", "Succeeded")
    assert cluster.logs(namespace, "client").splitlines()[-1] == "served"


def test_a_mount_made_in_one_container_is_seen_in_another_that_has_no_rights(
    cluster: TestCluster, namespace: str, own_image: str, busybox_image: str
) -> None:
    storage = {
        "name": "storage",
        "image": own_image,
        "command": ["sh", "-c", 'mkdir -p /shared/pfs && exec python -c "$PROGRAM"'],
        "env": [{"name": "PROGRAM", "value": HELLO}],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "shared", "mountPath": "/shared", "mountPropagation": "Bidirectional"}],
    }
    user = {
        "name": "user",
        "image": busybox_image,
        "command": ["sh", "-c", "until cat /shared/pfs/hello 2>/dev/null; do sleep 0.1; done"],
        "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "shared", "mountPath": "/shared", "mountPropagation": "HostToContainer"}],
    }
    volumes = [{"name": "shared", "emptyDir": {}}]
    cluster.create(namespace, _pod("both", storage, user, volumes=volumes))
    terminated = "jsonpath={.status.containerStatuses[?(@.name=='user')].state.terminated.exitCode}=0"
    cluster.kubectl("wait", "--namespace", namespace, "pod/both", f"--for={terminated}", "--timeout=100s")
    assert cluster.logs(namespace, "both", "user") == "hello\n"


def test_the_own_image_has_the_programs_and_what_they_import(
    cluster: TestCluster, namespace: str, own_image: str
) -> None:
    imports = (
        "import pfsd._core, pfsd.version, pfsfuse._answers, pfsfuse.mount, kubernetes; print(pfsd.version.VERSION)"
    )
    programs = " && ".join(f"{program} --help >/dev/null" for program in ("pfsd", "ppsd", "pachctl"))
    told = f"{programs} && test -x /usr/local/bin/pfs-runner && python -c '{imports}'"
    limits = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "c", "image": own_image, "command": ["sh", "-c", told], "securityContext": limits}
    cluster.create(namespace, _pod("own", container))
    pod = cluster.wait_for_pod(namespace, "own", "Succeeded", "Failed")
    assert cluster.logs(namespace, "own").splitlines()[-1] == VERSION
    assert pod.status.phase == "Succeeded"


def test_the_image_of_the_tutorial_finds_edges(cluster: TestCluster, namespace: str, opencv_image: str) -> None:
    find = "import cv2, numpy; print(cv2.Canny(numpy.eye(64, dtype='uint8') * 255, 100, 200).any())"
    container = {"name": "c", "image": opencv_image, "command": ["python3", "-c", find]}
    cluster.create(namespace, _pod("edges", container))
    cluster.wait_for_pod(namespace, "edges", "Succeeded")
    assert cluster.logs(namespace, "edges") == "True\n"


def test_the_image_without_python_has_none(cluster: TestCluster, namespace: str, busybox_image: str) -> None:
    look = "! which python && ! which python3 && ! find / -xdev -name '*.so*' | grep ."
    cluster.create(namespace, _pod("bare", {"name": "c", "image": busybox_image, "command": ["sh", "-c", look]}))
    assert cluster.wait_for_pod(namespace, "bare", "Succeeded", "Failed").status.phase == "Succeeded"


def test_a_pod_whose_image_nobody_has_says_so_soon(cluster: TestCluster, namespace: str) -> None:
    cluster.create(namespace, _pod("none", {"name": "c", "image": "pfsd/none:1"}))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    cluster.kubectl("wait", "--namespace", namespace, "pod/none", f"--for={reason}=ErrImagePull", "--timeout=60s")


def test_pods_of_a_lost_node_are_made_again_on_another(
    cluster: TestCluster, namespace: str, second_node: str, busybox_image: str
) -> None:
    first = {"weight": 1, "preference": {"matchFields": [_field("metadata.name", second_node)]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [first]}}
    container = {"name": "c", "image": busybox_image, "command": ["sleep", "3600"]}
    pod = {"metadata": {"labels": {"app": "a"}}, "spec": {**FIXED, "containers": [container], "affinity": affinity}}
    spec = {"replicas": 1, "selector": {"app": "a"}, "template": pod}
    cluster.create(
        namespace,
        {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "one"}, "spec": spec},
    )
    before = cluster.wait_for(namespace, lambda pod: pod.status.phase == "Running")
    assert before.spec.node_name == second_node
    cluster.lose(second_node)
    cluster.wait_for(namespace, lambda pod: pod.status.phase == "Running" and pod.spec.node_name != second_node)


def _field(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}


def test_accounts_of_pods_have_no_rights_that_nobody_gave_them(cluster: TestCluster, namespace: str) -> None:
    account = f"--as=system:serviceaccount:{namespace}:default"
    assert cluster.kubectl("auth", "whoami", account).split()[-1] != "system:masters"
    with pytest.raises(AssertionError, match="Forbidden"):
        cluster.kubectl("get", "secrets", "--namespace", namespace, account)


def test_an_archive_names_each_part_by_its_hash(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    layer = write_layer(tmp_path / "layer.tar", {"/usr/bin/program": program})
    write_archive(tmp_path / "image.tar", "a/b:1", [layer], Config(command=("program",), environment={"A": "1"}))
    with tarfile.open(tmp_path / "image.tar") as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    blobs = {name: data for name, data in parts.items() if name.startswith("blobs/")}
    assert all(name == f"blobs/sha256/{sha256(data).hexdigest()}" for name, data in blobs.items())
    (entry,) = json.loads(parts["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/a/b:1"
    manifest = json.loads(blobs[_blob(entry["digest"])])
    config = json.loads(blobs[_blob(manifest["config"]["digest"])])
    assert [part["digest"] for part in manifest["layers"]] == config["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]
    assert config["config"]["Cmd"] == ["program"]
    assert config["config"]["Env"] == ["A=1"]
    (docker,) = json.loads(parts["manifest.json"])
    assert docker["RepoTags"] == ["a/b:1"]
    assert {docker["Config"], *docker["Layers"]} < set(blobs)
    with tarfile.open(layer.path) as tar:
        assert [(member.name, member.isdir(), member.mode) for member in tar.getmembers()] == [
            ("usr", True, 0o755),
            ("usr/bin", True, 0o755),
            ("usr/bin/program", False, 0o755),
        ]


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox:1", "docker.io/library/busybox:1"),
        ("pfsd/pfsd:1", "docker.io/pfsd/pfsd:1"),
        ("localhost/x:1", "localhost/x:1"),
        ("10.0.0.1:5000/x/y:1", "10.0.0.1:5000/x/y:1"),
    ],
)
def test_the_registry_is_part_of_a_full_name(name: str, full: str) -> None:
    assert full_name(name) == full


def test_machines_share_no_address(tmp_path: Path) -> None:
    made = layout.Layout(tmp_path)
    machines = [made.control, *(made.node(number) for number in range(1, layout.MOST_NODES + 1))]
    for values in zip(*((m.name, m.address, m.pods, m.namespace, m.interface) for m in machines), strict=True):
        assert len(set(values)) == len(machines)
    assert all(len(machine.interface) <= 15 for machine in machines)
    assert layout.HOST_ADDRESS not in {machine.address for machine in machines}
