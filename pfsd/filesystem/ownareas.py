"""Staging areas of their own: what is more than one batch of rows, and has to take effect at once, is staged there.

A daemon that starts removes those that a crash left (`pfsd.model.commits`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pfsd.model.root import Root
from pfsd.model.staging import Staging
from pfsd.trees import entries
from pfsd.trees.entries import DirEntry


@contextmanager
def own_area(root: Root, base: DirEntry) -> Iterator[Staging]:
    """An area over a tree, under its lock, which goes with all that is still staged in it."""
    area = Staging(root.db, root.nodes, root.chunks, uuid.uuid4().bytes, base.root)
    try:
        with area.lock:
            yield area
    finally:
        _clear(root, area)


def folded(root: Root, area: Staging) -> DirEntry:
    """The tree of such an area with all that is staged in it, which is its base from now on."""
    top = area.fold()
    _clear(root, area)
    area.rebase(top)
    return entries.dir_entry(root.nodes, top)


def _clear(root: Root, area: Staging) -> None:
    batch = root.db.batch()
    area.discard(batch)
    root.db.write(batch)
