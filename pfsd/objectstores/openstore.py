"""Opening the object store that a root has its packs in."""

from __future__ import annotations

import logging
import os
import pathlib
from dataclasses import dataclass

from pfsd.errors import InvalidError, RefusedError, StateError, UnavailableError
from pfsd.local.disk import fsync_directory
from pfsd.local.packs import is_pack
from pfsd.objectstores.blockcache import DEFAULT_BYTES, BlockCache
from pfsd.objectstores.cachedstore import CachedStore
from pfsd.objectstores.objectstore import LocalObjectStore, ObjectStore

log = logging.getLogger(__name__)

OBJECTS = "OBJECTS"
"""The file of a root that names its object store, where that is not the directory `objects`."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What the daemon was asked for. The default is what the root has."""

    object_store: str = ""
    """A URL; empty for the one that the root has."""
    take_over: bool = False
    """Whether another root's packs there are given up."""
    cache_directory: pathlib.Path | None = None
    """Where blocks of a remote object store are kept; None for `cache` in the root."""
    cache_bytes: int = DEFAULT_BYTES
    """How much of them."""


DEFAULTS = StorageOptions()


def open_store(directory: pathlib.Path, owner: str, options: StorageOptions) -> ObjectStore:
    """The object store of the root in `directory`, whose id is `owner`.

    A store that does not answer is taken as it is where the root had its packs there before.
    Raises StateError when the root has its packs elsewhere, InvalidError for a URL that is none, and what
    `pfsd.objectstores.s3store.S3ObjectStore.claim` raises.
    """
    known = recorded_url(directory)
    wanted = options.object_store.rstrip("/") or known
    if known and wanted != known:
        raise StateError(f"the root {directory} has its packs in {known}, not in {wanted}: leave --object-store out")
    if not wanted:
        if options.take_over or options.cache_directory:
            raise InvalidError(
                f"the root {directory} has its packs in its own directory: "
                "--take-over and --cache-dir are for a remote object store"
            )
        return LocalObjectStore(directory / "objects")
    if not wanted.startswith("s3://"):
        raise InvalidError(f"the object store {wanted} is not known to this version: write s3://BUCKET/PREFIX")
    if not known and any(is_pack(path) for path in (directory / "objects" / "packs").glob("??/*")):
        raise StateError(
            f"the root {directory} has its packs in {directory / 'objects'}: "
            f"pachctl migrate --root {directory} --object-store {wanted} moves them"
        )
    cache = BlockCache(options.cache_directory or directory / "cache", options.cache_bytes)
    cache.files.name_strangers()
    from pfsd.objectstores.s3store import S3ObjectStore

    store = S3ObjectStore(wanted)
    try:
        store.claim(owner, take_over=options.take_over)
    except RefusedError:
        raise
    except UnavailableError as error:
        if not known or options.take_over:
            raise
        log.warning("%s: starting without it; what is cached or in the spool is read, and packs wait for it", error)
        store.claim_later(owner)
    if not known:
        record_url(directory, wanted)
    return CachedStore(store, cache)


def recorded_url(directory: pathlib.Path) -> str:
    """Where a root has its packs; empty where that is its own directory."""
    try:
        return (directory / OBJECTS).read_text().strip()
    except FileNotFoundError:
        return ""


def record_url(directory: pathlib.Path, url: str) -> None:
    """Let a root have its packs at a URL, durably and as one step."""
    new = directory / f"{OBJECTS}.new"
    with new.open("w") as file:
        file.write(url + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(directory / OBJECTS)
    fsync_directory(directory)


def forget_url(directory: pathlib.Path) -> None:
    """Let a root have its packs in its own directory, durably."""
    (directory / OBJECTS).unlink()
    fsync_directory(directory)
