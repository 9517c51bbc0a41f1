"""Taking a deployment out of its cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pfsd.errors import UnavailableError
from pfsdeploy.cluster import KINDS, Cluster
from pfsdeploy.labels import DAEMON, SUITE, selector, wide_labels

PODS_SECONDS = 180
"""For which pods may take to end."""
ASK_SECONDS = 0.3

WORKERS = ("ReplicationController", "ReplicaSet", "Service", "Pod")
"""What is left once no daemon makes more of it."""
REST = ("Secret", "ConfigMap", "RoleBinding", "Role", "ServiceAccount")
WIDE = ("ClusterRoleBinding", "ClusterRole")
DATA = ("PersistentVolumeClaim",)
WIDE_DATA = ("PersistentVolume",)


def remove(cluster: Cluster, *, data: bool) -> Iterator[str]:
    """Remove the deployment in the cluster's namespace, workers of pipelines included; yields `kind/name` of each.

    With `data`, the persistent volume goes too: what a cluster made is lost then, what was named stays where it is.
    Done means gone: returns once no pod is left. May be called again after a failure.
    """
    yield from _delete(cluster, ("Deployment",), selector(SUITE))
    # A daemon that still runs would make its workers again.
    _until_gone(cluster, "Pod", selector(DAEMON))
    yield from _delete(cluster, WORKERS, selector(SUITE))
    _until_gone(cluster, "Pod", selector(SUITE))
    yield from _delete(cluster, REST, selector(SUITE))
    mine = selector(wide_labels(cluster.namespace))
    yield from _delete(cluster, WIDE, mine)
    if data:
        yield from _delete(cluster, DATA, selector(SUITE))
        _until_gone(cluster, "PersistentVolumeClaim", selector(SUITE))
        yield from _delete(cluster, WIDE_DATA, mine)


def _delete(cluster: Cluster, kinds: tuple[str, ...], labels: str) -> Iterator[str]:
    for kind in kinds:
        for found in cluster.listed(kind, labels):
            name = found["metadata"]["name"]
            cluster.delete(kind, name)
            yield f"{KINDS[kind].plural.removesuffix('s')}/{name}"


def _until_gone(cluster: Cluster, kind: str, labels: str) -> None:
    deadline = time.monotonic() + PODS_SECONDS
    while left := [found["metadata"]["name"] for found in cluster.listed(kind, labels)]:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the cluster at {cluster.host} does not end {', '.join(left)}: "
                "look at it with kubectl describe, then call undeploy again"
            )
        time.sleep(ASK_SECONDS)
