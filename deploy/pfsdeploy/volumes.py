"""The daemon's persistent volume as Kubernetes objects.

The clouds' volumes are named by the fields that Kubernetes has had for them since 1.2: old clusters mount them
themselves, and those that no longer can hand them to the cloud's CSI driver.
"""

from __future__ import annotations

from typing import Any

from pfsd.errors import InvalidError
from pfsdeploy.labels import CLAIM, DAEMON, wide_labels, wide_name
from pfsdeploy.settings import Disk, Volume

FILE_SYSTEM = "ext4"

_MANAGED = "/subscriptions/"


def volume_objects(namespace: str, volume: Volume) -> list[dict[str, Any]]:
    """The PersistentVolume and PersistentVolumeClaim; none for a directory of the node. Raises InvalidError."""
    if volume.disk is Disk.DIRECTORY:
        return []
    size = {"storage": f"{volume.gigabytes}Gi"}
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace, "labels": dict(DAEMON)},
        "spec": spec,
    }
    if volume.disk is Disk.CLAIM:
        if volume.name:
            spec["storageClassName"] = volume.name
        return [claim]
    name = wide_name(namespace, CLAIM)
    spec |= {"storageClassName": "", "volumeName": name}
    disk = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": wide_labels(namespace)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": size,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": CLAIM},
            **_source(volume),
        },
    }
    return [disk, claim]


def pod_volume(volume: Volume) -> dict[str, Any]:
    """What the daemon's pod mounts: an entry of `volumes` without its name."""
    if volume.disk is Disk.DIRECTORY:
        return {"hostPath": {"path": volume.name, "type": "DirectoryOrCreate"}}
    return {"persistentVolumeClaim": {"claimName": CLAIM}}


def _source(volume: Volume) -> dict[str, Any]:
    if volume.disk is Disk.AWS:
        return {"awsElasticBlockStore": {"volumeID": volume.name, "fsType": FILE_SYSTEM}}
    if volume.disk is Disk.GOOGLE:
        return {"gcePersistentDisk": {"pdName": volume.name, "fsType": FILE_SYSTEM}}
    return {"azureDisk": _azure(volume.name)}


def _azure(uri: str) -> dict[str, Any]:
    managed = uri.startswith(_MANAGED)
    if not managed and not uri.startswith("https://"):
        raise InvalidError(
            f"the Azure disk {uri!r} is named by no URI: "
            f"write https://ACCOUNT.blob.core.windows.net/CONTAINER/DISK.vhd, or {_MANAGED}... for a managed disk"
        )
    return {
        "diskName": uri.rstrip("/").rpartition("/")[2],
        "diskURI": uri,
        "fsType": FILE_SYSTEM,
        "kind": "Managed" if managed else "Shared",
    }
