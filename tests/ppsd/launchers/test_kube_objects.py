"""What the Kubernetes launcher asks of a cluster and reads of its answers, without one."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsd.errors import InvalidError
from pfsd.version import VERSION
from ppsd.launchers.kube import manifest, names, podstates, settings
from ppsd.launchers.kube.manifest import Object
from ppsd.launchers.kube.settings import Settings
from ppsd.specs.spec import validate
from ppsd.storage.records import PipelineRecord
from tests.support.pipelines import spec

SETTINGS = Settings("here", "own:1", "Never", "pfsd.here:30650", environment=(("PFS_READ_FROM", "daemon"),))
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def record(version: int = 1, salt: str = "5a17", **more: Any) -> PipelineRecord:
    return PipelineRecord(validate(spec(**more)), "1d", version, salt, 0)


def pods(record: PipelineRecord, settings: Settings = SETTINGS) -> Object:
    found: Object = manifest.controller(record, settings, 3)["spec"]["template"]
    return found


def container(pod: Object, name: str) -> Object:
    spec = pod["spec"]
    return next(one for one in (*spec["initContainers"], *spec["containers"]) if one["name"] == name)


def mounts(one: Object) -> dict[str, Object]:
    return {mount["mountPath"]: mount for mount in one["volumeMounts"]}


# --- names


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True), min_size=2, max_size=2, unique=True))
def test_names_are_allowed_and_tell_pipelines_apart(pipelines: list[str]) -> None:
    one, other = pipelines
    for pipeline in pipelines:
        name = names.controller(pipeline, 12)
        assert DNS_LABEL.fullmatch(name)
        assert len(name) <= names.NAME_CHARACTERS
        assert LABEL.fullmatch(names.label(pipeline))
    assert names.controller(one, 12) != names.controller(other, 12)
    assert names.label(one) != names.label(other)


def test_plain_names_stay_readable() -> None:
    assert names.controller("edges", 1) == "pipeline-edges-v1"
    assert names.label("Edges_2") == "Edges_2"
    assert re.fullmatch(r"pipeline-edges-2-[0-9a-f]{8}-v1", names.controller("Edges_2", 1))


# --- manifests


def test_the_sidecar_alone_is_privileged_and_mounts_for_the_other() -> None:
    pod = pods(record(transform={"cmd": ["x"], "image": "theirs:2"}))
    user, storage, runner = (container(pod, name) for name in ("user", "storage", "runner"))
    assert (user["image"], storage["image"], runner["image"]) == ("theirs:2", "own:1", "own:1")
    assert "securityContext" not in user
    assert storage["securityContext"]["privileged"]
    assert runner["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    shown, shared = mounts(user)["/pfs"], mounts(storage)["/pfs-pod"]
    assert shown["name"] == shared["name"]
    assert (shown["mountPropagation"], shared["mountPropagation"]) == ("HostToContainer", "Bidirectional")
    assert f"/pfs-pod/{shown['subPath']}" in storage["command"]
    assert user["command"][-1] in storage["command"]
    assert pod["spec"]["shareProcessNamespace"]
    assert not pod["spec"]["automountServiceAccountToken"]


def test_what_a_spec_asks_for_is_in_the_pod() -> None:
    asked = record(
        transform={
            "cmd": ["x"],
            "image": "theirs:2",
            "secrets": [{"name": "key", "mount_path": "/secrets/key"}],
            "image_pull_secrets": ["hub"],
        },
        resource_spec={"memory": "1.5Gi", "cpu": 0.25, "gpu": 2},
    )
    pod = pods(asked)
    user = container(pod, "user")
    assert user["resources"] == {
        "requests": {"memory": str(3 << 29), "cpu": "250m"},
        "limits": {"nvidia.com/gpu": "2"},
    }
    volume = mounts(user)["/secrets/key"]
    assert volume["readOnly"]
    assert {"name": volume["name"], "secret": {"secretName": "key"}} in pod["spec"]["volumes"]
    assert "/secrets/key" not in mounts(container(pod, "storage"))
    assert pod["spec"]["imagePullSecrets"] == [{"name": "hub"}]


def test_what_a_deployment_chooses_is_in_the_pod() -> None:
    pod = pods(record(), Settings("here", "own:1", "Always", "pfsd:1", "robot", (("PFS_CACHE_SIZE", "1G"),)))
    storage = container(pod, "storage")
    assert storage["imagePullPolicy"] == "Always"
    assert storage["command"][storage["command"].index("--address") + 1] == "pfsd:1"
    assert {"name": "PFS_CACHE_SIZE", "value": "1G"} in storage["env"]
    assert pod["spec"]["serviceAccountName"] == "robot"


def test_controllers_find_only_pods_that_are_as_they_would_make_them() -> None:
    def selector(record: PipelineRecord, settings: Settings = SETTINGS, count: int = 1) -> Object:
        made = manifest.controller(record, settings, count)
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert made["spec"]["selector"].items() <= labels.items()
        assert made["metadata"]["labels"] == labels
        found: Object = made["spec"]["selector"]
        return found

    one = selector(record())
    assert one == selector(record(version=2, description="other words"), count=5)
    assert one != selector(record(salt="other"))
    assert one != selector(record(resource_spec={"cpu": 1}))
    assert one != selector(record(), Settings("here", "own:2", "Never", "pfsd.here:30650"))


def test_a_service_pipeline_is_reached_at_its_ports() -> None:
    def ports(**service: int) -> Object:
        request = spec(service=service)
        request.ClearField("parallelism_spec")
        made = manifest.service(PipelineRecord(validate(request), "1d", 1, "5a17", 0))
        assert made is not None
        found: Object = made["spec"]
        return found

    outside = ports(internal_port=80, external_port=30080)
    assert outside["type"] == "NodePort"
    assert outside["ports"] == [{"port": 80, "targetPort": 80, "protocol": "TCP", "nodePort": 30080}]
    inside = ports(internal_port=80)
    assert inside["type"] == "ClusterIP"
    assert "nodePort" not in inside["ports"][0]
    assert manifest.service(record()) is None


def test_a_pipeline_without_an_image_runs_in_the_workers_own_and_says_so() -> None:
    asked = record()
    assert container(pods(asked), "user")["image"] == "own:1"
    assert manifest.notices(asked.spec, SETTINGS) == ["no image is given: commands run in the workers' own, own:1"]
    assert manifest.notices(record(transform={"cmd": ["x"], "image": "y"}).spec, SETTINGS) == []


# --- states


def pod(*containers: Object, phase: str = "Pending", **status: Any) -> Object:
    return {
        "metadata": {"name": "p-1", "annotations": {"pfsd/pipeline": "p"}},
        "status": {"phase": phase, "containerStatuses": list(containers), **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Object:
    return {"name": "user", "image": "theirs:2", "state": {"waiting": {"reason": reason, "message": message}}, **more}


RUNNING: Object = {"name": "storage", "image": "own:1", "state": {"running": {}}}


@pytest.mark.parametrize(
    "reason",
    ["ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "RunContainerError", "ErrImageNeverPull"],
)
def test_a_container_that_can_not_be_started_is_told_with_the_clusters_words(reason: str) -> None:
    found = podstates.trouble(pod(RUNNING, waiting(reason, "no such thing")))
    assert found is not None
    assert found.blocked
    assert found.text == f"worker p-1: container user of image theirs:2: {reason}: no such thing"


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_on_its_way_is_no_trouble(reason: str) -> None:
    assert podstates.trouble(pod(RUNNING, waiting(reason))) is None
    assert podstates.is_stuck(pod(RUNNING, waiting(reason)))
    assert not podstates.is_stuck(pod(RUNNING))


def test_the_full_reason_outlives_the_wait_for_the_next_try() -> None:
    first = podstates.trouble(pod(waiting("ErrImagePull", "not found: theirs:2")))
    assert podstates.trouble(pod(waiting("ImagePullBackOff", "Back-off pulling")), first) == first
    alone = podstates.trouble(pod(waiting("ImagePullBackOff", "Back-off pulling")))
    assert alone is not None
    assert "Back-off pulling" in alone.text


def test_a_container_that_ends_again_and_again_tells_how() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    found = podstates.trouble(pod(waiting("CrashLoopBackOff", "back-off 10s", lastState=ended, restartCount=2)))
    assert found is not None
    assert found.text.endswith("CrashLoopBackOff: back-off 10s (OOMKilled, exit status 137)")
    again = pod({**RUNNING, "restartCount": 2, "lastState": ended})
    assert podstates.restarts(again) == {"storage": 2}
    assert podstates.last_end(again, "storage").endswith("it ended, OOMKilled, exit status 137")


def test_a_pod_without_a_place_waits_for_room() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    found = podstates.trouble(pod(conditions=[condition]))
    assert found == podstates.Trouble("worker p-1 can't be placed: 0/1 nodes", blocked=False)


def test_events_tell_what_states_do_not() -> None:
    events = [
        {"type": "Normal", "reason": "Scheduled", "message": "fine", "lastTimestamp": "2026-01-01T00:00:03Z"},
        {"type": "Warning", "reason": "FailedMount", "message": "older", "lastTimestamp": "2026-01-01T00:00:01Z"},
        {"type": "Warning", "reason": "FailedMount", "message": "no key", "lastTimestamp": "2026-01-01T00:00:02Z"},
    ]
    found = podstates.trouble_of_events(pod(), events)
    assert found == podstates.Trouble("worker p-1 can't be started: FailedMount: no key", blocked=True)
    assert podstates.trouble_of_events(pod(), events[:1]) is None


def test_evictions_are_told() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on memory.")
    assert podstates.has_failed(evicted)
    assert podstates.loss(evicted) == "worker p-1 has failed: Evicted: The node was low on memory."
    condition = {"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}
    assert podstates.loss(pod(conditions=[condition])) == "worker p-1 is taken away: Eviction API: evicting"
    assert podstates.loss(pod(RUNNING, phase="Running")) == ""


@pytest.mark.parametrize(
    ("spec", "ready", "usable"),
    [
        ({}, "True", True),
        ({}, "Unknown", False),
        ({"unschedulable": True}, "True", False),
        ({"taints": [{"key": "k", "effect": "NoSchedule"}]}, "True", False),
        ({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}, "True", True),
    ],
)
def test_nodes_that_take_workers(spec: Object, ready: str, usable: bool) -> None:
    node = {"spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
    assert podstates.is_usable(node) is usable


# --- settings


def test_settings_in_a_pod_have_defaults(tmp_path: pathlib.Path) -> None:
    (tmp_path / "namespace").write_text("there\n")
    found = settings.from_environment({}, tmp_path)
    assert found == Settings("there", f"pfsd/pfsd:{VERSION}", "IfNotPresent", "pfsd.there:30650")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "PFS_SERVICE_ADDRESS is missing"),
        ({"PFS_SERVICE_ADDRESS": "host"}, "PFS_SERVICE_ADDRESS should be HOST:PORT"),
        ({"PFS_SERVICE_ADDRESS": "h:1", "PFS_WORKER_IMAGE_PULL_POLICY": "x"}, "PFS_WORKER_IMAGE_PULL_POLICY should"),
    ],
)
def test_wrong_settings_are_named(environment: dict[str, str], named: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidError, match=named):
        settings.from_environment(environment, tmp_path)
