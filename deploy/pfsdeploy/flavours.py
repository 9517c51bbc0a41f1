"""The five kinds of deployment: what their arguments make of the daemon's volume and its store.

The arguments and options are those of Pachyderm 1.5, which had an etcd beside its daemon. Here the daemon keeps the
metadata itself, so the volume of etcd is the daemon's; what this and other options come to is told in remarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pfsd.errors import InvalidError
from pfsdeploy.settings import NO_STORE, Disk, Store, Volume

HOST_PATH = "/var/pfsd"
GOOGLE_ENDPOINT = "https://storage.googleapis.com"
"""Speaks S3, to those who have an HMAC key."""

DISKS = {"aws": Disk.AWS, "google": Disk.GOOGLE, "azure": Disk.AZURE, "host": Disk.DIRECTORY}
"""The values of `--persistent-disk`; the last is not of 1.5."""
STORES = {
    "s3": ("BUCKET", "ID", "SECRET", "ENDPOINT"),
    "gcs": ("BUCKET",),
    "azure-blob": ("CONTAINER", "ACCOUNT", "KEY"),
}
"""The values of `--object-store` with their arguments."""


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """Options of 1.5 that name the volume of etcd."""

    static_volume: str = ""
    dynamic_nodes: int = 0
    storage_class: str = ""
    """For a volume that the cluster makes; not of 1.5."""


@dataclass(frozen=True, slots=True)
class HmacKey:
    """A key with which Google's store is spoken to as S3; not of 1.5."""

    id: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What the arguments come to."""

    volume: Volume
    store: Store = NO_STORE
    remarks: tuple[str, ...] = ()
    """Sentences for the user about what is different from 1.5."""


def local(host_path: str, etcd: EtcdOptions) -> Place:
    """Everything in a directory of the cluster's one node."""
    if not host_path.startswith("/"):
        raise InvalidError(f"the host path {host_path!r} is not absolute: write it from / on, such as {HOST_PATH}")
    remarks = [
        f"{option} has no meaning for deploy local: there is no etcd, and everything lies in {host_path} of the node"
        for option, given in (
            ("--static-etcd-volume", etcd.static_volume),
            ("--dynamic-etcd-nodes", etcd.dynamic_nodes),
            ("--storage-class", etcd.storage_class),
        )
        if given
    ]
    return Place(Volume(Disk.DIRECTORY, host_path), remarks=tuple(remarks))


def amazon(bucket: str, id: str, secret: str, token: str, region: str, size: str, etcd: EtcdOptions) -> Place:
    """Packs in S3, metadata on an EBS volume. A token of blanks is none."""
    volume, remarks = _volume(Disk.AWS, size, etcd)
    environment = {"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": region}
    if token.strip():
        environment["AWS_SESSION_TOKEN"] = token.strip()
        remarks.append(
            "a temporary token expires, and the daemon then loses its access to the bucket: deploy again before that"
        )
    return Place(volume, Store(_bucket_url(bucket), environment), tuple(remarks))


def google(bucket: str, size: str, key: HmacKey, etcd: EtcdOptions) -> Place:
    """Metadata on a persistent disk; packs in Google's store where there is a key to it, else on the disk too."""
    volume, remarks = _volume(Disk.GOOGLE, size, etcd)
    store, said = _gcs(bucket, key)
    return Place(volume, store, (*remarks, *said))


def microsoft(container: str, account: str, key: str, size: str, etcd: EtcdOptions) -> Place:
    """Metadata and packs on an Azure disk; the storage account is for what `as://` names."""
    volume, remarks = _volume(Disk.AZURE, size, etcd)
    store, said = _azure_blob(container, account, key)
    return Place(volume, store, (*remarks, *said))


def custom(
    disk: str, object_store: str, arguments: Sequence[str], key: HmacKey, etcd: EtcdOptions, *, secure: bool
) -> Place:
    """A disk of one kind and a store of another: VOLUME SIZE and the store's arguments."""
    names = ("VOLUME", "SIZE", *STORES[object_store])
    if len(arguments) != len(names):
        raise InvalidError(
            f"deploy custom with --object-store {object_store} takes {len(names)} arguments, "
            f"{' '.join(names)}, and got {len(arguments)}"
        )
    name, size, *rest = arguments
    volume, remarks = _volume(DISKS[disk], size, etcd, name)
    if secure and object_store != "s3":
        remarks.append(f"--secure has no meaning for {object_store}, which is always spoken to over TLS")
    if object_store == "s3":
        store, said = _s3(rest, secure=secure)
    elif object_store == "gcs":
        store, said = _gcs(rest[0], key)
    else:
        store, said = _azure_blob(*rest)
    return Place(volume, store, (*remarks, *said))


def _volume(disk: Disk, size: str, etcd: EtcdOptions, name: str = "") -> tuple[Volume, list[str]]:
    if not size.isascii() or not size.isdecimal() or int(size) < 1:
        raise InvalidError(f"the size of the volume, {size!r}, is not a whole number of gigabytes, such as 10")
    gigabytes = int(size)
    if etcd.static_volume and etcd.dynamic_nodes:
        raise InvalidError("--static-etcd-volume and --dynamic-etcd-nodes exclude each other: give one")
    if etcd.dynamic_nodes or not (etcd.static_volume or name):
        return Volume(Disk.CLAIM, etcd.storage_class, gigabytes), _made_by_cluster(gigabytes, etcd, name)
    remarks = []
    if etcd.static_volume:
        remarks.append(
            f"there is no etcd: --static-etcd-volume names the daemon's volume, {etcd.static_volume}, "
            "which holds the metadata"
        )
        if name and name != etcd.static_volume:
            remarks.append(f"one volume is all that is used: {name} is not")
    if etcd.storage_class:
        remarks.append("--storage-class has no meaning for a volume that is named")
    volume = Volume(disk, etcd.static_volume or name, gigabytes)
    if disk is Disk.DIRECTORY and not volume.name.startswith("/"):
        raise InvalidError(f"the directory {volume.name!r} of the node is not absolute: write it from / on")
    return volume, remarks


def _made_by_cluster(gigabytes: int, etcd: EtcdOptions, name: str) -> list[str]:
    kind = f"the storage class {etcd.storage_class}" if etcd.storage_class else "its default storage class"
    why = "there is no etcd" if etcd.dynamic_nodes else "no volume is named"
    made = [
        f"{why}: the cluster makes one volume of {gigabytes} GiB of {kind} for the daemon, which holds the metadata"
    ]
    if etcd.dynamic_nodes > 1:
        made.append(f"one daemon has one volume: {etcd.dynamic_nodes} nodes for etcd are not made")
    if name:
        made.append(f"the volume {name} is not used, because the cluster makes one")
    return made


def _bucket_url(bucket: str) -> str:
    name = bucket.removeprefix("s3://").strip("/")
    if not name or name.startswith("/") or any(character.isspace() for character in name):
        raise InvalidError(f"the bucket {bucket!r} is none: write BUCKET or BUCKET/PREFIX")
    return f"s3://{name}"


def _s3(arguments: Sequence[str], *, secure: bool) -> tuple[Store, list[str]]:
    bucket, id, secret, endpoint = arguments
    if endpoint.startswith("http://") and secure:
        raise InvalidError(f"--secure asks for TLS and {endpoint} is without: leave one of them")
    if not endpoint.startswith(("http://", "https://")):
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    environment = {"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": endpoint}
    return Store(_bucket_url(bucket), environment), []


def _gcs(bucket: str, key: HmacKey) -> tuple[Store, list[str]]:
    if bool(key.id) != bool(key.secret):
        raise InvalidError("an HMAC key has two parts: give both --hmac-id and --hmac-secret")
    if not key.id:
        return NO_STORE, [
            f"packs stay on the volume, which has to be large enough: Google's store takes them in {bucket} only with "
            "an HMAC key (--hmac-id and --hmac-secret; gsutil hmac create makes one)"
        ]
    environment = {
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_ENDPOINT_URL": GOOGLE_ENDPOINT,
        "AWS_REGION": "auto",
    }
    return Store(_bucket_url(bucket.removeprefix("gs://")), environment), []


def _azure_blob(container: str, account: str, key: str) -> tuple[Store, list[str]]:
    environment = {"AZURE_STORAGE_ACCOUNT": account, "AZURE_STORAGE_KEY": key}
    remark = (
        f"packs stay on the volume, which has to be large enough: Azure's store does not speak S3, so the container "
        f"{container} takes none; the storage account is for put-file from as:// and egress to it"
    )
    return Store(environment=environment), [remark]
