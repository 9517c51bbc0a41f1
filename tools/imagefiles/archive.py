"""Image archives: layers that are tar files, put together with their description.

An archive is an OCI image layout in a tar file that also holds the `manifest.json` of `docker save`, so containerd,
podman, skopeo and docker all read it
(https://github.com/opencontainers/image-spec, image-layout.md, manifest.md, config.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Config:
    """How a container of an image starts."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar file, and the SHA-256 of it."""

    path: Path
    digest: str


def layer(path: Path) -> Layer:
    """The layer in a tar file."""
    with path.open("rb") as file:
        return Layer(path, hashlib.file_digest(file, "sha256").hexdigest())


def write_layer(path: Path, files: dict[str, Path]) -> Layer:
    """A layer of a few executable files, from the path in the image to the file here; equal files make equal layers."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for parent in sorted({str(above) for name in files for above in Path(name).parents} - {".", "/"}):
            entry = tarfile.TarInfo(parent.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, source in sorted(files.items()):
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.mode, entry.size = 0o755, source.stat().st_size
            with source.open("rb") as file:
                tar.addfile(entry, file)
    return layer(path)


def full_name(name: str) -> str:
    """The name by which a node knows an image: with the registry that is meant where none is given."""
    first = name.partition("/")[0]
    if "/" not in name:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def write_archive(target: Path, name: str, layers: list[Layer], config: Config) -> None:
    """Write the archive of an image called `name`, as in `owner/image:tag`, whole or not at all."""
    described = _json(_description(layers, config))
    blobs = [_blob(f"{_OCI}.layer.v1.tar", one.digest, one.path.stat().st_size) for one in layers]
    config_blob = _blob(f"{_OCI}.config.v1+json", _sha256(described), len(described))
    manifest = _json(
        {"schemaVersion": 2, "mediaType": f"{_OCI}.manifest.v1+json", "config": config_blob, "layers": blobs}
    )
    names = {"io.containerd.image.name": full_name(name), "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    entry = {**_blob(f"{_OCI}.manifest.v1+json", _sha256(manifest), len(manifest)), "annotations": names}
    docker = [
        {"Config": _path(described), "RepoTags": [name], "Layers": [f"blobs/sha256/{one.digest}" for one in layers]}
    ]
    new = target.with_name(f"{target.name}.new")
    with tarfile.open(new, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
        _add(tar, "manifest.json", _json(docker))
        _add(tar, _path(described), described)
        _add(tar, _path(manifest), manifest)
        for one in {layer.digest: layer for layer in layers}.values():
            tar.add(one.path, f"blobs/sha256/{one.digest}")
    new.rename(target)


def _description(layers: list[Layer], config: Config) -> dict[str, Any]:
    machine = platform.machine()
    start: dict[str, Any] = {"WorkingDir": config.directory, "Env": [f"{k}={v}" for k, v in config.environment.items()]}
    if config.entrypoint:
        start["Entrypoint"] = list(config.entrypoint)
    if config.command:
        start["Cmd"] = list(config.command)
    if config.labels:
        start["Labels"] = config.labels
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": start,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.digest}" for one in layers]},
    }


def _blob(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _path(data: bytes) -> str:
    return f"blobs/sha256/{_sha256(data)}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o644, len(data)
    tar.addfile(entry, io.BytesIO(data))
