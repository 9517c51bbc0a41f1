"""Names and labels by which everything of a deployment is found."""

from __future__ import annotations

from collections.abc import Mapping

NAME = "pfsd"
"""Of the daemon's Deployment, Service, ServiceAccount, Role and RoleBinding."""
SECRET = "pfsd-storage"
CLAIM = "pfsd-root"

SUITE: Mapping[str, str] = {"suite": "pfsd"}
"""What the daemon's objects, and those that it makes for pipelines, have in common."""
DAEMON: Mapping[str, str] = {"app": "pfsd", **SUITE}
NAMESPACE_LABEL = "pfsd-namespace"
"""On objects that lie in no namespace: whose deployment they belong to."""


def selector(labels: Mapping[str, str]) -> str:
    """Labels as the API takes them in a query."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def wide_labels(namespace: str) -> dict[str, str]:
    """Labels of the objects in no namespace that belong to the deployment in this one."""
    return {**DAEMON, NAMESPACE_LABEL: namespace}


def wide_name(namespace: str, name: str = NAME) -> str:
    """The name of such an object, one for each deployment of a cluster."""
    return f"{name}-{namespace}"
