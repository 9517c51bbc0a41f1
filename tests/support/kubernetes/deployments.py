"""Manifests in tests: the five kinds of deployment, and looking into what they print."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

FLAVOURS: dict[str, tuple[str, ...]] = {
    "local": ("local",),
    "custom": (
        *("custom", "--persistent-disk", "google", "--object-store", "s3", "my-disk", "10"),
        *("my-bucket", "id", "secret", "minio:9000", "--static-etcd-volume=my-disk"),
    ),
    "amazon": ("amazon", "my-bucket", "id", "secret", " ", "us-west-2", "10", "--static-etcd-volume=vol-0123"),
    "google": ("google", "my-bucket", "10", "--static-etcd-volume=my-disk", "--dashboard"),
    "microsoft": (
        *("microsoft", "container", "account", "a2V5", "10"),
        "--static-etcd-volume=https://account.blob.core.windows.net/container/pach-disk.vhd",
    ),
}
"""Command lines of the user documentation, with its variables filled in."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects of a manifest."""

    items: list[Object]

    @classmethod
    def read(cls, parsed: Object) -> Manifest:
        """Of what `--dry-run` printed as JSON."""
        assert (parsed["apiVersion"], parsed["kind"]) == ("v1", "List")
        return cls(parsed["items"])

    def names(self, kind: str) -> list[str]:
        """Of all objects of a kind."""
        return [item["metadata"]["name"] for item in self.items if item["kind"] == kind]

    def one(self, kind: str) -> Object:
        """The only object of a kind."""
        (found,) = [item for item in self.items if item["kind"] == kind]
        return found

    @property
    def pod(self) -> Object:
        """The daemon's pod."""
        spec: Object = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def secret(self) -> dict[str, str]:
        """What the daemon's environment is given."""
        return {name: base64.b64decode(value).decode() for name, value in self.one("Secret")["data"].items()}

    def option(self, name: str) -> str | None:
        """The value of an option of the daemon, None where it is not given."""
        command = self.pod["containers"][0]["command"]
        return command[command.index(name) + 1] if name in command else None
