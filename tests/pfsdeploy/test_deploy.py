"""`pachctl deploy`, `undeploy` and `port-forward` without a cluster: manifests, remarks, and what is wrong in words."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

from pfsd.version import VERSION
from tests.support.kubernetes.deployments import FLAVOURS, Manifest
from tests.support.servers.s3servers import free_port


def pachctl(*args: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "pachctl.main", *args],
        input=stdin,
        capture_output=True,
        text=True,
        env={**kept, "HOME": "/nonexistent", **environment},
        timeout=60,
        check=False,
    )


def dry_run(*args: str) -> Manifest:
    result = pachctl("deploy", *args, "--dry-run")
    assert result.returncode == 0, result.stderr
    return Manifest.read(json.loads(result.stdout))


def remarks(*args: str) -> list[str]:
    result = pachctl("deploy", *args, "--dry-run")
    assert result.returncode == 0, result.stderr
    return result.stderr.splitlines()


@pytest.fixture
def dead_cluster(tmp_path: pathlib.Path) -> str:
    """A kubeconfig of a cluster that does not answer."""
    cluster = {"name": "c", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "team"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [context],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_a_manifest_names_is_in_it(flavour: str) -> None:
    manifest = dry_run(*FLAVOURS[flavour], "--namespace", "data")
    pod = manifest.pod
    (container,) = pod["containers"]
    assert container["image"] == f"pfsd/pfsd:{VERSION}"
    assert pod["serviceAccountName"] in manifest.names("ServiceAccount")
    assert container["envFrom"][0]["secretRef"]["name"] in manifest.names("Secret")
    for binding, role in (("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")):
        bound = manifest.one(binding)
        assert bound["roleRef"]["name"] in manifest.names(role)
        assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "pfsd", "namespace": "data"}]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claim = volumes["pfsd-root"].get("persistentVolumeClaim")
    assert ([claim["claimName"]] if claim else []) == manifest.names("PersistentVolumeClaim")
    service = manifest.one("Service")["spec"]
    labels = manifest.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert service["ports"][0]["targetPort"] == container["ports"][0]["containerPort"] == 30650
    for found in manifest.items:
        wide = found["kind"] in ("ClusterRole", "ClusterRoleBinding", "PersistentVolume")
        assert found["metadata"]["labels"]["suite"] == "pfsd"
        assert found["metadata"].get("namespace") == (None if wide else "data")
        assert ("data" in found["metadata"]["name"]) == wide, "objects in no namespace must not clash"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_yaml_says_the_same_as_json(flavour: str) -> None:
    manifest = dry_run(*FLAVOURS[flavour])
    result = pachctl("deploy", *FLAVOURS[flavour], "--dry-run", "-o", "yaml")
    assert result.returncode == 0
    assert list(yaml.safe_load_all(result.stdout)) == manifest.items
    assert "&id" not in result.stdout


def test_the_daemon_has_no_right_that_it_does_not_use() -> None:
    manifest = dry_run("local")
    security = manifest.pod["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    for role in (manifest.one("Role"), manifest.one("ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            assert "secrets" not in rule["resources"]
    assert manifest.one("ClusterRole")["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]


def test_amazon_keeps_packs_in_s3_and_metadata_on_the_named_volume() -> None:
    manifest = dry_run("amazon", "bkt", "id", "sec", " ", "us-west-2", "12", "--static-etcd-volume=vol-1")
    assert manifest.secret == {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "sec", "AWS_REGION": "us-west-2"}
    assert manifest.option("--object-store") == "s3://bkt"
    volume = manifest.one("PersistentVolume")["spec"]
    assert volume["awsElasticBlockStore"] == {"volumeID": "vol-1", "fsType": "ext4"}
    assert volume["capacity"] == {"storage": "12Gi"}
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    with_token = dry_run("amazon", "bkt", "id", "sec", "tok", "us-west-2", "12", "--static-etcd-volume=vol-1")
    assert with_token.secret["AWS_SESSION_TOKEN"] == "tok"
    annotations = [one.one("Deployment")["spec"]["template"]["metadata"] for one in (manifest, with_token)]
    assert annotations[0] != annotations[1], "other credentials make the daemon start anew"


@pytest.mark.parametrize(("secure", "endpoint"), [((), "http://minio:9000"), (("-s",), "https://minio:9000")])
def test_custom_names_an_endpoint(secure: tuple[str, ...], endpoint: str) -> None:
    manifest = dry_run(
        "custom", "--persistent-disk", "google", "disk", "10", "bkt/data", "id", "sec", "minio:9000", *secure
    )
    assert manifest.secret["AWS_ENDPOINT_URL"] == endpoint
    assert manifest.option("--object-store") == "s3://bkt/data"
    assert manifest.one("PersistentVolume")["spec"]["gcePersistentDisk"]["pdName"] == "disk"


def test_google_takes_an_hmac_key_or_says_where_packs_stay() -> None:
    given = ("google", "bkt", "10", "--static-etcd-volume=disk")
    assert dry_run(*given).option("--object-store") is None
    assert [line for line in remarks(*given) if line.startswith("packs stay on the volume")]
    with_key = (*given, "--hmac-id", "GOOG1", "--hmac-secret", "sec")
    manifest = dry_run(*with_key)
    assert manifest.option("--object-store") == "s3://bkt"
    assert manifest.secret["AWS_ENDPOINT_URL"] == "https://storage.googleapis.com"
    assert not [line for line in remarks(*with_key) if line.startswith("packs stay")]


def test_microsoft_tells_managed_disks_from_others() -> None:
    blob = "https://acc.blob.core.windows.net/c/pach-disk.vhd"
    managed = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/pach"
    for uri, kind, name in ((blob, "Shared", "pach-disk.vhd"), (managed, "Managed", "pach")):
        disk = dry_run("microsoft", "c", "acc", "a2V5", "10", f"--static-etcd-volume={uri}").one("PersistentVolume")
        expected = {"diskName": name, "diskURI": uri, "fsType": "ext4", "kind": kind}
        assert disk["spec"]["azureDisk"] == expected
    refused = pachctl("deploy", "microsoft", "c", "acc", "a2V5", "10", "--static-etcd-volume=disk", "--dry-run")
    assert refused.returncode == 1
    assert "the Azure disk 'disk' is named by no URI" in refused.stderr


def test_the_cluster_makes_one_volume_where_etcd_would_have_had_several() -> None:
    given = ("amazon", "bkt", "id", "sec", " ", "us-west-2", "10", "--dynamic-etcd-nodes=3", "--storage-class=fast")
    manifest = dry_run(*given)
    assert manifest.names("PersistentVolume") == []
    assert manifest.one("PersistentVolumeClaim")["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Gi"}},
        "storageClassName": "fast",
    }
    assert remarks(*given) == [
        "there is no etcd: the cluster makes one volume of 10 GiB of the storage class fast for the daemon, "
        "which holds the metadata",
        "one daemon has one volume: 3 nodes for etcd are not made",
    ]


def test_options_of_the_daemon() -> None:
    given = ("custom", "--persistent-disk=host", "/data", "1", "bkt", "id", "sec", "http://s3:1")
    options = ("--pachd-cpu-request=500m", "--pachd-memory-request=2Gi", "--block-cache-size=5G", "--log-level=error")
    manifest = dry_run(*given, *options, "--node-port=0", "--image", "registry.example.com/pfsd:9")
    container = manifest.pod["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "2Gi"}}
    assert manifest.option("--cache-size") == "5000000000"
    assert "-v" not in container["command"]
    assert "-v" in dry_run(*given).pod["containers"][0]["command"]
    assert container["image"] == "registry.example.com/pfsd:9"
    assert {"name": "PFS_WORKER_IMAGE", "value": "registry.example.com/pfsd:9"} in container["env"]
    service = manifest.one("Service")["spec"]
    assert service["type"] == "ClusterIP"
    assert "nodePort" not in service["ports"][0]
    assert dry_run("local").one("Service")["spec"]["ports"][0]["nodePort"] == 30650


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--dashboard", "the dashboard is not part of pfsd: nothing is deployed for --dashboard and --dash-image"),
        ("--dash-image=x", "the dashboard is not part of pfsd: nothing is deployed for --dashboard and --dash-image"),
        ("--shards=3", "--shards has no meaning: one daemon serves a root"),
        (
            "--etcd-cpu-request=1",
            "--etcd-cpu-request has no meaning: there is no etcd, and --pachd-cpu-request is the daemon's",
        ),
        (
            "--etcd-memory-request=1G",
            "--etcd-memory-request has no meaning: there is no etcd, and --pachd-memory-request is the daemon's",
        ),
        ("--block-cache-size=5G", "--block-cache-size has no meaning: packs on the volume need no block cache"),
        ("--log-level=debug", "--log-level debug is the same as info, the most that pfsd logs"),
        (
            "--static-etcd-volume=v",
            "--static-etcd-volume has no meaning for deploy local: there is no etcd, and everything lies in /var/pfsd "
            "of the node",
        ),
    ],
)
def test_an_option_without_a_counterpart_says_so(option: str, sentence: str) -> None:
    assert remarks("local") == []
    assert remarks("local", option) == [sentence]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ((), "expected at least 1 argument, got 0"),
        (("cloud",), "there is no deployment 'cloud': write one of local, custom, amazon, google, microsoft"),
        (("local", "x"), "deploy local takes no arguments and got 1"),
        (("amazon", "b", "i"), "deploy amazon takes 6 arguments, BUCKET ID SECRET TOKEN REGION SIZE, and got 2"),
        (("custom", "v", "10"), "takes 6 arguments, VOLUME SIZE BUCKET ID SECRET ENDPOINT, and got 2"),
        (("custom", "--object-store=gcs", "v"), "with --object-store gcs takes 3 arguments, VOLUME SIZE BUCKET, and"),
        (("google", "b", "10GB"), "the size of the volume, '10GB', is not a whole number of gigabytes"),
        (("google", "b", "1", "--static-etcd-volume=d", "--dynamic-etcd-nodes=1"), "exclude each other: give one"),
        (("google", "b", "1", "--hmac-id=x"), "give both --hmac-id and --hmac-secret"),
        (("google", " ", "1", "--hmac-id=x", "--hmac-secret=y"), "the bucket ' ' is none"),
        (("google", "b", "1", "--host-path=/x"), "--host-path is for deploy local, not for deploy google"),
        (("local", "--secure"), "--secure is for deploy custom, not for deploy local"),
        (("local", "--host-path=x"), "the host path 'x' is not absolute"),
        (("local", "--dashboard-only"), "there is nothing that --dashboard-only could deploy"),
        (("local", "--pachd-memory-request=lots"), "--pachd-memory-request: 'lots' is not a quantity"),
        (("local", "--block-cache-size=5X"), "--block-cache-size: '5X' is not a size"),
        (("local", "--node-port=70000"), "'70000' is not a port"),
        (("custom", "-s", "v", "1", "b", "i", "s", "http://e"), "--secure asks for TLS and http://e is without"),
        (("custom", "--persistent-disk=host", "v", "1", "b", "i", "s", "e"), "the directory 'v' of the node is not"),
    ],
)
def test_what_can_not_be_deployed(args: tuple[str, ...], complaint: str) -> None:
    result = pachctl("deploy", *args, "--dry-run")
    assert result.returncode == 1
    assert result.stdout == ""
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_manifest_is_for_the_namespace_of_the_context_unless_one_is_named(dead_cluster: str) -> None:
    for given, namespace in (((), "team"), (("--namespace", "other"), "other")):
        result = pachctl("deploy", "local", "--dry-run", *given, KUBECONFIG=dead_cluster)
        assert Manifest.read(json.loads(result.stdout)).one("Deployment")["metadata"]["namespace"] == namespace
    assert dry_run("local").one("Deployment")["metadata"]["namespace"] == "default"


@pytest.mark.parametrize("command", [("deploy", "local"), ("undeploy",), ("undeploy", "-a"), ("port-forward", "-p0")])
def test_one_sentence_where_no_cluster_answers(command: tuple[str, ...], dead_cluster: str) -> None:
    away = pachctl(*command, KUBECONFIG=dead_cluster)
    assert away.returncode == 1
    server = json.loads(pathlib.Path(dead_cluster).read_text())["clusters"][0]["cluster"]["server"]
    assert away.stderr.splitlines() == [
        f"no cluster answers at {server}: is it up, and is it the one that KUBECONFIG means?"
    ]
    unnamed = pachctl(*command)
    assert unnamed.returncode == 1
    assert unnamed.stderr.startswith("no cluster is named: ")
    assert unnamed.stderr.endswith("set KUBECONFIG to the file that kubectl uses\n")
    assert len(unnamed.stderr.splitlines()) == 1


def test_port_forward_reads_the_flags_that_name_a_cluster(dead_cluster: str) -> None:
    flags = f"--kubeconfig {dead_cluster} --context=x -n data"
    found = pachctl("port-forward", "-k", flags, "--ui-port", "38080")
    assert (
        found.stderr.splitlines()[0] == "--ui-port has no meaning: there is no dashboard, and nothing listens on 38080"
    )
    assert "no cluster answers at" in found.stderr
    for flag, complaint in (
        ("--v=9", "of its flags not --v but --kubeconfig, --context, --namespace, -n"),
        ("--context", "--context needs a value"),
        ("'", "can't be read"),
    ):
        refused = pachctl("port-forward", f"--kubectlflags={flag}")
        assert refused.returncode == 1
        assert complaint in refused.stderr


def test_undeploy_asks_a_cluster_before_it_asks_the_user(dead_cluster: str) -> None:
    result = pachctl("undeploy", "--all", stdin="y\n", KUBECONFIG=dead_cluster)
    assert result.returncode == 1
    assert "Are you sure" not in result.stdout
