"""Images in archives, as `docker save`, `podman save` and the like write them, made ready for a registry.

Two forms are known: docker-archive (`manifest.json`, layers mostly as plain tars, which are compressed here) and
OCI (`index.json` and blobs, which stay as they are). https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import gzip
import hashlib
import json
import pathlib
import platform
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pfsd.errors import InvalidError, NotFoundError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

COMPRESSION = 5
"""Of layers: for half the time of gzip's best, a few percent more."""

_COMPRESSED = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of an image, under its hash."""

    digest: str
    """`sha256:` and 64 hex digits."""
    size: int
    path: pathlib.Path

    def described(self, media_type: str) -> dict[str, Any]:
        """Its entry in a manifest."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """What a registry is given."""

    id: str
    """64 hex digits: the hash of the configuration, as engines show it."""
    manifest: bytes
    media_type: str
    blobs: tuple[Blob, ...]
    """Layers and configuration, each once."""


@contextmanager
def opened(archive: pathlib.Path, name: str, directory: pathlib.Path) -> Iterator[Image]:
    """The image called `name` in an archive, or the only one; its blobs lie in `directory` meanwhile.

    Raises NotFoundError where the archive can't be read or lacks the image, InvalidError where it is none.
    """
    try:
        with tarfile.open(archive) as tar:
            names = {member.name.removeprefix("./") for member in tar}
            reader = _Reader(tar, archive, directory)
            if "manifest.json" in names:
                image = _docker_image(reader, name)
            elif "index.json" in names:
                image = _oci_image(reader, name)
            else:
                raise InvalidError(f"{archive} is no archive of an image: it has neither manifest.json nor index.json")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no image archive {archive}") from error
    except (tarfile.TarError, KeyError, TypeError, IndexError, ValueError) as error:
        raise InvalidError(f"{archive} is no archive of an image that can be read: {error}") from error
    try:
        yield image
    finally:
        for blob in image.blobs:
            blob.path.unlink(missing_ok=True)


class _Reader:
    """The members of an archive, by name."""

    def __init__(self, tar: tarfile.TarFile, path: pathlib.Path, directory: pathlib.Path) -> None:
        self._tar = tar
        self.path = path
        self._directory = directory
        self._members = {member.name.removeprefix("./"): member for member in tar}

    def open(self, name: str) -> IO[bytes]:
        """A member, links followed. Raises KeyError for one that is missing."""
        file = self._tar.extractfile(self._members[name])
        if file is None:
            raise KeyError(f"{name} is no file")
        return file

    def json(self, name: str) -> Any:
        """A member's content."""
        with self.open(name) as file:
            return json.load(file)

    def blob(self, name: str, *, compress: bool = False) -> tuple[Blob, str]:
        """A member as a blob, and how it is compressed: "", "+gzip" or "+zstd"."""
        target = self._directory / hashlib.sha256(name.encode()).hexdigest()
        with self.open(name) as source, target.open("wb") as file:
            begin = source.read(4)
            source.seek(0)
            kind = next((kind for magic, kind in _COMPRESSED.items() if begin.startswith(magic)), "")
            if compress and not kind:
                # Without name and time, equal layers give equal blobs, which a registry keeps once.
                with gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed:
                    shutil.copyfileobj(source, packed, 1 << 20)
                kind = "+gzip"
            else:
                shutil.copyfileobj(source, file, 1 << 20)
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Blob(f"sha256:{digest}", target.stat().st_size, target), kind


def _docker_image(reader: _Reader, name: str) -> Image:
    entries = {tag: entry for entry in reader.json("manifest.json") for tag in entry.get("RepoTags") or ("",)}
    entry = _chosen(entries, name, reader.path)
    config, _ = reader.blob(entry["Config"])
    layers = [reader.blob(layer, compress=True) for layer in entry["Layers"]]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.described(CONFIG_TYPE),
        "layers": [blob.described(LAYER_TYPE + kind) for blob, kind in layers],
    }
    return _image(config, [blob for blob, _ in layers], json.dumps(manifest).encode(), MANIFEST_TYPE)


def _oci_image(reader: _Reader, name: str) -> Image:
    key = "org.opencontainers.image.ref.name"
    listed = reader.json("index.json")["manifests"]
    entries = {entry.get("annotations", {}).get(key, ""): entry for entry in listed}
    entry = _chosen(entries, name, reader.path)
    while entry["mediaType"] in INDEX_TYPES:
        entry = _for_this_machine(reader.json(_blob_name(entry))["manifests"])
    with reader.open(_blob_name(entry)) as file:
        manifest = file.read()
    parsed = json.loads(manifest)
    config, _ = reader.blob(_blob_name(parsed["config"]))
    layers = [reader.blob(_blob_name(layer))[0] for layer in parsed["layers"]]
    for blob, described in zip([config, *layers], [parsed["config"], *parsed["layers"]], strict=True):
        if blob.digest != described["digest"]:
            raise InvalidError(f"{reader.path} is damaged: {described['digest']} has another content")
    return _image(config, layers, manifest, entry["mediaType"])


def _image(config: Blob, layers: list[Blob], manifest: bytes, media_type: str) -> Image:
    once = {blob.digest: blob for blob in [*layers, config]}
    return Image(config.digest.removeprefix("sha256:"), manifest, media_type, tuple(once.values()))


def _chosen(entries: dict[str, Any], name: str, archive: pathlib.Path) -> Any:
    if len(entries) == 1:
        return next(iter(entries.values()))
    for found, entry in entries.items():
        if full_name(found) == full_name(name):
            return entry
    raise NotFoundError(f"{archive} has no image {name}, but {', '.join(sorted(entries)) or 'none at all'}")


def full_name(name: str) -> str:
    """An image's name with registry and tag: `nginx` is `docker.io/library/nginx:latest`."""
    first, slash, _ = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _for_this_machine(listed: list[Any]) -> Any:
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    for entry in listed:
        if entry.get("platform", {}).get("architecture") == wanted:
            return entry
    return listed[0]


def _blob_name(described: dict[str, Any]) -> str:
    return "blobs/" + str(described["digest"]).replace(":", "/")
