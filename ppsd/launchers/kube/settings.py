"""What a deployment chooses of the Kubernetes launcher: environment variables of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import InvalidError
from pfsd.version import VERSION

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""What the cluster shows to a pod of its service account."""

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PASSED_ON = ("PFS_READ_FROM", "PFS_CACHE_SIZE")
_PORT = 30650


@dataclass(frozen=True, slots=True)
class Settings:
    """How workers are run."""

    namespace: str
    image: str
    """This project's own."""
    pull_policy: str
    address: str
    """HOST:PORT at which pods reach the service and the daemon."""
    service_account: str = ""
    """Of the pods; empty for the namespace's default. They get no token of it."""
    environment: tuple[tuple[str, str], ...] = ()
    """For the workers."""


def from_environment(environment: Mapping[str, str], account: Path = ACCOUNT) -> Settings:
    """The settings that the environment asks for; raises InvalidError naming the variable at fault."""
    inside = (account / "namespace").is_file()
    namespace = environment.get("PFS_NAMESPACE", "")
    if not namespace:
        namespace = (account / "namespace").read_text().strip() if inside else "default"
    address = environment.get("PFS_SERVICE_ADDRESS", "")
    if not address:
        if not inside:
            raise InvalidError("PFS_SERVICE_ADDRESS is missing: set it to HOST:PORT at which pods reach this service")
        address = f"pfsd.{namespace}:{_PORT}"
    if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdecimal():
        raise InvalidError(f"PFS_SERVICE_ADDRESS should be HOST:PORT, and is {address!r}")
    policy = environment.get("PFS_WORKER_IMAGE_PULL_POLICY") or "IfNotPresent"
    if policy not in PULL_POLICIES:
        raise InvalidError(f"PFS_WORKER_IMAGE_PULL_POLICY should be one of {', '.join(PULL_POLICIES)}, not {policy!r}")
    return Settings(
        namespace=namespace,
        image=environment.get("PFS_WORKER_IMAGE") or f"pfsd/pfsd:{VERSION}",
        pull_policy=policy,
        address=address,
        service_account=environment.get("PFS_WORKER_SERVICE_ACCOUNT", ""),
        environment=tuple((name, environment[name]) for name in _PASSED_ON if environment.get(name)),
    )
