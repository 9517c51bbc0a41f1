"""What is deployed: records that know nothing of Kubernetes or of command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pfsd.version import VERSION

IMAGE = f"pfsd/pfsd:{VERSION}"
"""The project's own image; `deploy/Dockerfile` makes it."""
PORT = 30650
"""At which the daemon is served, in its pod, in the cluster and on every node."""


class Disk(Enum):
    """What the daemon's root lies on."""

    DIRECTORY = "a directory of the node"
    AWS = "an EBS volume"
    GOOGLE = "a persistent disk of Google"
    AZURE = "an Azure disk"
    CLAIM = "a volume that the cluster makes"


@dataclass(frozen=True, slots=True)
class Volume:
    """The daemon's persistent volume: all of its root, the metadata always and the packs where no store has them."""

    disk: Disk
    name: str = ""
    """The directory, volume id, disk name or disk URI; of a CLAIM its storage class, or empty."""
    gigabytes: int = 0
    """Its size; unused for a DIRECTORY."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where packs are, and what the daemon's environment says about it."""

    url: str = ""
    """`s3://BUCKET`; empty for the volume."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Credentials, endpoints and regions: kept in a Secret."""


NO_STORE = Store()


@dataclass(frozen=True, slots=True)
class Settings:
    """One deployment."""

    namespace: str
    volume: Volume
    store: Store = NO_STORE
    image: str = IMAGE
    cache_size: str = ""
    """How much of the store's blocks are kept on the node, as `pfsd --cache-size` takes it; empty for its default."""
    cpu_request: str = ""
    memory_request: str = ""
    verbose: bool = True
    node_port: int = PORT
    """The port on every node; 0 for none."""
