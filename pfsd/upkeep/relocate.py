"""Moving the packs of a root that nobody serves: from its own directory to a remote object store, and back."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pfsd.errors import CorruptError, FormatError, InvalidError, StateError
from pfsd.local.packs import sealed_name
from pfsd.model import root
from pfsd.objectstores.objectstore import MOVING, READ_BYTES, LocalObjectStore, open_object
from pfsd.objectstores.openstore import forget_url, record_url, recorded_url

if TYPE_CHECKING:
    from pfsd.objectstores.s3store import S3ObjectStore

LOCAL = "local"
"""Names a root's own directory where an address of packs is expected."""


def move_packs(directory: pathlib.Path, url: str) -> int:
    """Move all sealed packs to an `s3://BUCKET/PREFIX` and let the root have them there; returns how many there were.

    With LOCAL, back to its own directory. Cut off anywhere, the root has them where it had them, and this can be done
    again. Raises StateError while a daemon serves the root, or when its packs are in another remote store, InvalidError
    and FormatError when it is not a root, and what `S3ObjectStore.claim` raises.
    """
    if not directory.is_dir():
        raise InvalidError(f"the root {directory} is not a directory that is there")
    lock_fd = root.lock(directory)
    try:
        try:
            identity = root.read_identity(directory)
        except FileNotFoundError:
            raise FormatError(f"{directory} is not a root of pfsd: it has no FORMAT") from None
        known = recorded_url(directory)
        if url == LOCAL:
            return _move_back(directory, known, identity.store) if known else 0
        if known and known != url.rstrip("/"):
            raise StateError(f"the root {directory} has its packs in {known}: they can't be moved from there")
        return _move(directory, url.rstrip("/"), identity.store)
    finally:
        os.close(lock_fd)


@contextmanager
def _stores(directory: pathlib.Path, url: str, owner: str) -> Iterator[tuple[S3ObjectStore, LocalObjectStore]]:
    """The remote store, which is the root's then, and the one in the root's own directory."""
    from pfsd.objectstores.s3store import S3ObjectStore

    store = S3ObjectStore(url)
    local = LocalObjectStore(directory / "objects")
    try:
        store.claim(owner)
        yield store, local
    finally:
        store.close()
        local.close()


def _move(directory: pathlib.Path, url: str, owner: str) -> int:
    moving = directory / "objects" / MOVING
    with _stores(directory, url, owner) as (store, local):
        names = [name for name in local.names("packs") if sealed_name(name)]
        for name in names:
            moving.unlink(missing_ok=True)
            os.link(directory / "objects" / name, moving)  # the pack itself stays until all are there
            store.put_file(name, moving)
        record_url(directory, url)
    for name in names:
        (directory / "objects" / name).unlink(missing_ok=True)
    moving.unlink(missing_ok=True)
    packs = directory / "objects" / "packs"
    for place in (*packs.glob("??"), packs, packs.parent):
        with suppress(OSError):  # what is not ours stays, and a place that holds it
            place.rmdir()
    return len(names)


def _move_back(directory: pathlib.Path, url: str, owner: str) -> int:
    moving = directory / "objects" / MOVING
    with _stores(directory, url, owner) as (store, local):
        names = [name for name in store.names("packs") if sealed_name(name)]
        for name in names:
            size = store.size(name)
            if not local.has(name, size):
                with open_object(store, name) as source, moving.open("wb") as target:
                    shutil.copyfileobj(source, target, READ_BYTES)
                    if target.tell() != size:
                        raise CorruptError(f"object {name} in {url} ends before byte {size}")
                    target.flush()
                    os.fsync(target.fileno())
                local.put_file(name, moving)
        forget_url(directory)
        store.disown(names)
    return len(names)
