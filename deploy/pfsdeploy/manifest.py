"""The objects of a deployment, in the order in which they are made, and their text."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from pfsdeploy.labels import DAEMON, NAME, SECRET
from pfsdeploy.rights import rights_objects
from pfsdeploy.settings import PORT, Settings
from pfsdeploy.volumes import pod_volume, volume_objects

ROOT = "/pfsd"
"""Where the volume is mounted in the daemon's pod."""
CACHE = "/var/cache/pfsd"
"""Where blocks of an object store are kept: on the node's disk, because they may go at any time."""

PULL_POLICY = "IfNotPresent"
START_SECONDS = 600
"""For which the daemon may open its root; a large one that was not closed takes a while."""

Object = dict[str, Any]


def objects(settings: Settings) -> list[Object]:
    """Everything that is deployed. Raises InvalidError for a volume that can't be named so."""
    return [
        *rights_objects(settings.namespace),
        _secret(settings),
        *volume_objects(settings.namespace, settings.volume),
        _service(settings),
        _daemon(settings),
    ]


def as_json(found: list[Object]) -> str:
    """One JSON document, a List, as `kubectl create -f` takes it."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found}, indent=2)


def as_yaml(found: list[Object]) -> str:
    """A YAML document for each object."""
    import yaml

    apart = json.loads(json.dumps(found))  # what two objects share would be written as an anchor
    text: str = yaml.safe_dump_all(apart, sort_keys=False, explicit_start=True)
    return text.rstrip()


def daemon_arguments(settings: Settings) -> list[str]:
    """The daemon's command line."""
    made = ["pfsd", "--root", ROOT, "--listen", f"0.0.0.0:{PORT}", "--launcher", "kubernetes"]
    if settings.store.url:
        made += ["--object-store", settings.store.url, "--cache-dir", CACHE]
        if settings.cache_size:
            made += ["--cache-size", settings.cache_size]
    return made + ["-v"] * settings.verbose


def _meta(settings: Settings, name: str = NAME) -> Object:
    return {"name": name, "namespace": settings.namespace, "labels": dict(DAEMON)}


def _secret(settings: Settings) -> Object:
    environment = sorted(settings.store.environment.items())
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(settings, SECRET),
        "type": "Opaque",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in environment},
    }


def _service(settings: Settings) -> Object:
    port: Object = {"name": "api-grpc-port", "port": PORT, "targetPort": PORT, "protocol": "TCP"}
    if settings.node_port:
        port["nodePort"] = settings.node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(settings),
        "spec": {
            "type": "NodePort" if settings.node_port else "ClusterIP",
            "selector": dict(DAEMON),
            "ports": [port],
        },
    }


def _daemon(settings: Settings) -> Object:
    secret = json.dumps(sorted(settings.store.environment.items())).encode()
    # A daemon reads its environment once: the sum makes it start anew where that changes.
    annotations = {"pfsd/storage-checksum": hashlib.sha256(secret).hexdigest()[:16]}
    volumes: list[Object] = [
        {"name": "pfsd-root", **pod_volume(settings.volume)},
        {"name": "tmp", "emptyDir": {}},
    ]
    if settings.store.url:
        volumes.append({"name": "pfsd-cache", "emptyDir": {}})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(settings),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # one daemon serves a root
            "selector": {"matchLabels": dict(DAEMON)},
            "template": {
                "metadata": {"labels": dict(DAEMON), "annotations": annotations},
                "spec": {
                    "serviceAccountName": NAME,
                    "enableServiceLinks": False,
                    "containers": [_container(settings)],
                    "volumes": volumes,
                },
            },
        },
    }


def _container(settings: Settings) -> Object:
    requests = {
        name: value for name, value in (("cpu", settings.cpu_request), ("memory", settings.memory_request)) if value
    }
    mounts = [{"name": "pfsd-root", "mountPath": ROOT}, {"name": "tmp", "mountPath": "/tmp"}]
    if settings.store.url:
        mounts.append({"name": "pfsd-cache", "mountPath": CACHE})
    return {
        "name": NAME,
        "image": settings.image,
        "imagePullPolicy": PULL_POLICY,
        "command": daemon_arguments(settings),
        "env": _environment(settings),
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "ports": [{"name": "api-grpc-port", "containerPort": PORT, "protocol": "TCP"}],
        "volumeMounts": mounts,
        "startupProbe": _probe(5, START_SECONDS // 5),
        "readinessProbe": _probe(5, 2),
        "livenessProbe": _probe(20, 6),
        "resources": {"requests": requests},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _environment(settings: Settings) -> list[Object]:
    """What the launcher of workers is told; see `ppsd`."""
    return [
        {"name": "PFS_NAMESPACE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}},
        {"name": "PFS_WORKER_IMAGE", "value": settings.image},
        {"name": "PFS_WORKER_IMAGE_PULL_POLICY", "value": PULL_POLICY},
        {"name": "PFS_SERVICE_ADDRESS", "value": f"{NAME}.{settings.namespace}:{PORT}"},
    ]


def _probe(period: int, failures: int) -> Object:
    return {
        "grpc": {"port": PORT, "service": ""},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
