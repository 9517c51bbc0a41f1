"""What a pipeline's workers are for the cluster: objects as the API server takes them. Pure.

A pod has the user's container, in which the static runner is all that is ours, and beside it `ppsd.worker.sidecar`.
They share three volumes: the runner with its socket, the directory that becomes /pfs, and (the sidecar's own) scratch
space.
"""

from __future__ import annotations

import json
from typing import Any, Final

from blake3 import blake3

from ppsd.launchers.kube import names
from ppsd.launchers.kube.settings import Settings
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.records import PipelineRecord

Object = dict[str, Any]
"""An object of the cluster, in the form of its JSON."""

PIPELINE: Final = "pfsd/pipeline"
SALT: Final = "pfsd/salt"
FINGERPRINT: Final = "fingerprint"
"""A label: two controllers that have the same have the same pods."""
USER: Final = "user"
STORAGE: Final = "storage"

GRACE_SECONDS: Final = 10
"""For a pod's containers to end; they take about one."""
STORAGE_MEMORY: Final = "128Mi"

_RUNNER_SOURCE = "/usr/local/bin/pfs-runner"
_RUNNER_DIR = "/pfs-runner"
_SOCKET = f"{_RUNNER_DIR}/socket"
_SHARED_DIR = "/pfs-pod"
_SHOWN = "pfs"
"""The directory of the shared volume that the user's container has at /pfs.

Not the volume itself: then a container could not be started over a mount whose worker is gone, and the node would read
all of the input when it measures the volume.
"""
_SCRATCH_DIR = "/pfs-scratch"


def controller(record: PipelineRecord, settings: Settings, count: int) -> Object:
    """The replication controller that keeps `count` workers of a pipeline's version."""
    template = _pod(record, settings)
    text = json.dumps(template, sort_keys=True)
    fingerprint = blake3(text.encode()).hexdigest(8)
    labels = {**_labels(record), FINGERPRINT: fingerprint}
    template["metadata"] = {"labels": labels, "annotations": _annotations(record)}
    selector = {key: labels[key] for key in ("app", "pipeline", FINGERPRINT)}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": _metadata(record, labels),
        "spec": {"replicas": count, "selector": selector, "template": template},
    }


def service(record: PipelineRecord) -> Object | None:
    """What lets a service pipeline be reached: inside the cluster, and with an external port at every node."""
    asked = record.spec.service
    if asked is None:
        return None
    port: Object = {"port": asked.internal_port, "targetPort": asked.internal_port, "protocol": "TCP"}
    if asked.external_port:
        port["nodePort"] = asked.external_port
    labels = _labels(record)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(record, labels),
        "spec": {
            "type": "NodePort" if asked.external_port else "ClusterIP",
            "selector": {key: labels[key] for key in ("app", "pipeline")},
            "ports": [port],
        },
    }


def selector(pipeline: str = "") -> str:
    """What finds the objects of a pipeline (empty: of all) by their labels."""
    return f"app={names.APP}" + (f",pipeline={names.label(pipeline)}" if pipeline else "")


def notices(spec: PipelineSpec, settings: Settings) -> list[str]:
    """Sentences for a job's log: what of its spec is taken otherwise than it may be meant."""
    found = []
    if not spec.transform.image:
        found.append(f"no image is given: commands run in the workers' own, {settings.image}")
    return found


# --- parts -----------------------------------------------------------------------------------------------


def _labels(record: PipelineRecord) -> dict[str, str]:
    return {"app": names.APP, "suite": "pfsd", "component": "worker", "pipeline": names.label(record.name)}


def _annotations(record: PipelineRecord) -> dict[str, str]:
    return {PIPELINE: record.name, SALT: record.salt}


def _metadata(record: PipelineRecord, labels: dict[str, str]) -> Object:
    name = names.controller(record.name, record.version)
    return {"name": name, "labels": labels, "annotations": _annotations(record)}


def _pod(record: PipelineRecord, settings: Settings) -> Object:
    transform = record.spec.transform
    pod: Object = {
        "initContainers": [_runner_container(settings)],
        "containers": [_user_container(record.spec, settings), _storage_container(record, settings)],
        "volumes": [
            {"name": "runner", "emptyDir": {}},
            {"name": "pfs", "emptyDir": {}},
            {"name": "scratch", "emptyDir": {}},
            *(
                {"name": f"secret-{index}", "secret": {"secretName": secret.name}}
                for index, secret in enumerate(transform.secrets)
            ),
        ],
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
    }
    if settings.service_account:
        pod["serviceAccountName"] = settings.service_account
    if transform.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in transform.image_pull_secrets]
    return {"spec": pod}


def _runner_container(settings: Settings) -> Object:
    """Puts the static runner where the user's container finds it, so that any image can be one."""
    return {
        "name": "runner",
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["cp", _RUNNER_SOURCE, f"{_RUNNER_DIR}/pfs-runner"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "runner", "mountPath": _RUNNER_DIR}],
    }


def _user_container(spec: PipelineSpec, settings: Settings) -> Object:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if spec.limits().memory_bytes:
        requests["memory"] = str(spec.limits().memory_bytes)
    if spec.cpu:
        requests["cpu"] = f"{round(spec.cpu * 1000)}m"
    if spec.gpu:
        limits["nvidia.com/gpu"] = str(spec.gpu)
    return {
        "name": USER,
        "image": spec.transform.image or settings.image,
        "imagePullPolicy": "IfNotPresent" if spec.transform.image else settings.pull_policy,
        "command": [f"{_RUNNER_DIR}/pfs-runner", "--socket", _SOCKET],
        "resources": {"requests": requests, "limits": limits},
        "volumeMounts": [
            {"name": "runner", "mountPath": _RUNNER_DIR},
            {"name": "pfs", "mountPath": "/pfs", "subPath": _SHOWN, "mountPropagation": "HostToContainer"},
            *(
                {"name": f"secret-{index}", "mountPath": secret.mount_path, "readOnly": True}
                for index, secret in enumerate(spec.transform.secrets)
            ),
        ],
    }


def _storage_container(record: PipelineRecord, settings: Settings) -> Object:
    command = ["python", "-m", "ppsd.worker.sidecar", "--address", settings.address]
    command += ["--pipeline", record.name, "--salt", record.salt, "--worker-id", "$(POD_NAME)"]
    command += ["--runner", _SOCKET, "--mountpoint", f"{_SHARED_DIR}/{_SHOWN}", "--scratch", f"{_SCRATCH_DIR}/out"]
    environment = {"PFS_CACHE_DIR": f"{_SCRATCH_DIR}/cache", **dict(settings.environment)}
    return {
        "name": STORAGE,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": command,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *({"name": name, "value": value} for name, value in environment.items()),
        ],
        # Only a privileged container may let its mounts be seen by others.
        "securityContext": {"privileged": True, "runAsUser": 0},
        "resources": {"requests": {"memory": STORAGE_MEMORY}},
        "volumeMounts": [
            {"name": "runner", "mountPath": _RUNNER_DIR},
            {"name": "pfs", "mountPath": _SHARED_DIR, "mountPropagation": "Bidirectional"},
            {"name": "scratch", "mountPath": _SCRATCH_DIR},
        ],
    }
