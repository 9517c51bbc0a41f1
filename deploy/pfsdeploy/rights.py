"""What the daemon may do in its cluster: no more than the launcher of workers asks for."""

from __future__ import annotations

from typing import Any

from pfsdeploy.labels import DAEMON, NAME, wide_labels, wide_name

_RBAC = "rbac.authorization.k8s.io"

RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["replicationcontrollers"], "verbs": ["list", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "create", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
"""In the deployment's namespace: a pipeline's workers are a ReplicationController, its service a Service."""

WIDE_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
]
"""In the whole cluster: parallelism as a multiple of the nodes counts them."""


def rights_objects(namespace: str) -> list[dict[str, Any]]:
    """The daemon's account and its roles."""
    here = {"name": NAME, "namespace": namespace, "labels": dict(DAEMON)}
    wide = {"name": wide_name(namespace), "labels": wide_labels(namespace)}
    subjects = [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]
    api = {"apiVersion": f"{_RBAC}/v1"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {**api, "kind": "Role", "metadata": here, "rules": RULES},
        {
            **api,
            "kind": "RoleBinding",
            "metadata": here,
            "subjects": subjects,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": NAME},
        },
        {**api, "kind": "ClusterRole", "metadata": wide, "rules": WIDE_RULES},
        {
            **api,
            "kind": "ClusterRoleBinding",
            "metadata": wide,
            "subjects": subjects,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": wide["name"]},
        },
    ]
