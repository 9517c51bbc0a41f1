"""Garbage collection, while everything else goes on.

What a commit, a tag, a staged write or a running operation (`pfsd.runtime.references`) can reach is marked: tree nodes
exactly, chunks in a Bloom filter, whose rare errors keep a chunk that could go. Then nodes, chunks and objects
without a mark are removed, and packs of which little is left are rewritten.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pfsd.errors import CorruptError, InvalidError, StateError
from pfsd.local.packs import RECORD, location
from pfsd.model import records, treeobjects
from pfsd.model.root import Root
from pfsd.model.stagedrows import staged_entries
from pfsd.runtime.batches import batches
from pfsd.runtime.references import Bloom
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry, FileEntry

log = logging.getLogger(__name__)

BATCH = 1000
"""Rows that are looked at, and removed, in one step: how long writers may have to wait."""
LIVE_SHARE = 0.5
"""A pack is rewritten when less than this part of it is live."""
BITS_PER_CHUNK = 16
SMALL_PACK_BYTES = 4 << 20
SMALL_PACKS = 8
"""So many packs with less than SMALL_PACK_BYTES live are put together: finishing leaves them in a remote store."""
MOVED_AT_ONCE = 64 << 20
"""Live bytes that are on disk twice before the old packs go."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a collection found and freed."""

    nodes_kept: int = 0
    nodes_removed: int = 0
    chunks_kept: int = 0
    chunks_removed: int = 0
    packs_removed: int = 0
    """Packs that are gone, those that were rewritten included."""
    packs_rewritten: int = 0
    bytes_freed: int = 0
    """By how much the packs became smaller, all together."""


def collect_garbage(root: Root) -> Report:
    """Remove what nothing can reach any more; raises StateError when another collection runs."""
    if not root.collecting.acquire(blocking=False):
        raise StateError("a garbage collection is running already: wait for its end")
    try:
        return Collector(root).run()
    finally:
        root.collecting.release()


class Collector:
    """One collection."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._db = root.db
        self._nodes: set[bytes] = set()
        self._chunks = Bloom(max(1 << 16, self._db.estimate("chunks") * BITS_PER_CHUNK))
        self._objects: set[bytes] = set()
        self._report = Report()

    def run(self) -> Report:
        """Collect; raises CorruptError, and removes nothing, when something reachable is missing."""
        packs = self._root.chunks.sealed_packs()
        self._root.references.begin_collection()
        try:
            self._mark_all()
            self._sweep_nodes()
            self._sweep_objects()
            self._sweep_chunks()
            self._sweep_packs(packs)
        finally:
            self._root.references.end_collection()
        log.info("collected: %s", self._report)
        return self._report

    # --- marking

    def _mark_all(self) -> None:
        for _, data in self._db.scan("commits", b""):
            commit = records.load_commit(data)
            self._mark_tree(bytes.fromhex(commit.root))
            if commit.tree:
                self._chunks.add(bytes.fromhex(commit.tree))
        for entry in staged_entries(self._db):
            self._mark_entry(entry)
        for _, object_hash in self._db.scan("tags", b""):
            self._mark_object(object_hash)
        for root in self._root.references.pinned():
            self._mark_tree(root)

    def _mark_object(self, name: bytes) -> None:
        self._objects.add(name)
        row = self._db.get("objects", name)
        if row:
            self._mark_entry(entries.decode(row))
            return
        self._chunks.add(name)
        try:
            root = treeobjects.read(self._root.chunks, name)
        except InvalidError:
            return
        self._mark_tree(root)

    def _mark_entry(self, entry: entries.Entry) -> None:
        if isinstance(entry, DirEntry):
            self._mark_tree(entry.root)
        elif isinstance(entry, FileEntry):
            self._mark_file(entry)

    def _mark_file(self, entry: FileEntry) -> None:
        for chunk in entry.chunks:
            self._chunks.add(chunk.hash)
        if entry.chunk_root is not None:
            for value in self._unmarked_values(entry.chunk_root):
                self._chunks.add(value[: tree.HASH_BYTES])

    def _mark_tree(self, root: bytes) -> None:
        todo = [root]
        while todo:
            for value in self._unmarked_values(todo.pop()):
                entry = entries.decode(value)
                if isinstance(entry, DirEntry):
                    todo.append(entry.root)
                elif isinstance(entry, FileEntry):
                    self._mark_file(entry)

    def _unmarked_values(self, root: bytes) -> Iterator[bytes]:
        """The values of a tree, but for those below nodes that are marked; marks the others."""
        todo = [root]
        while todo:
            fresh = [name for name in todo if name != tree.EMPTY and name not in self._nodes]
            todo = []
            for at in range(0, len(fresh), BATCH):
                names = list(dict.fromkeys(fresh[at : at + BATCH]))
                for name, data in zip(names, self._root.nodes.raw(names), strict=True):
                    node = tree.decode_node(data)
                    if node.level:
                        todo += (value[: tree.HASH_BYTES] for value in node.values)
                    else:
                        yield from node.values
                    self._nodes.add(name)

    # --- sweeping

    def _sweep_nodes(self) -> None:
        for names in batches((name for name, _ in self._db.scan("nodes", b"")), BATCH):
            dead = [name for name in names if name not in self._nodes]
            removed = self._root.nodes.remove(dead) if dead else 0
            self._count(nodes_removed=removed, nodes_kept=len(names) - removed)

    def _sweep_objects(self) -> None:
        """Forget objects without a tag; those of one chunk have no row but that chunk's."""
        for names in batches((name for name, _ in self._db.scan("objects", b"")), BATCH):
            with self._root.references.lock:
                batch = self._db.batch()
                for name in names:
                    if name not in self._objects and not self._root.references.is_held(name):
                        batch.delete("objects", name)
                self._db.write(batch)

    def _sweep_chunks(self) -> None:
        """Remove dead chunks."""
        self._root.chunks.flush()  # those of a former run that lie in the spool are in the index only now
        for names in batches((name for name, _ in self._db.scan("chunks", b"")), BATCH):
            dead = [name for name in names if name not in self._chunks]
            removed = self._root.chunks.remove(dead) if dead else 0
            self._count(chunks_removed=removed, chunks_kept=len(names) - removed)

    def _sweep_packs(self, packs: list[str]) -> None:
        """Rewrite the packs of which little is live. `packs` were sealed when the collection began."""
        self._root.chunks.flush()
        live = self._live_bytes()
        packs += self._root.chunks.seal_if(lambda pack, size: live.get(pack, 0) < size * LIVE_SHARE)
        live = self._live_bytes()
        wasteful = [pack for pack in packs if live.get(pack, 0) < self._root.chunks.pack_size(pack) * LIVE_SHARE]
        small = [pack for pack in packs if pack not in wasteful and live.get(pack, 0) < SMALL_PACK_BYTES]
        names: dict[str, list[bytes]] = {pack: [] for pack in wasteful}
        if len(small) < SMALL_PACKS:
            small = []
        for pack in small:
            names.setdefault(pack, [])
        for name, row in self._db.scan("chunks", b""):
            pack = location(row).pack
            if pack in names:
                names[pack].append(name)
        group: list[str] = []
        for pack in names:
            if self._move(pack, names[pack]):
                group.append(pack)
            if sum(live.get(each, 0) for each in group) >= MOVED_AT_ONCE:
                self._drop(group, names, live)
                group = []
        self._drop(group, names, live)

    def _live_bytes(self) -> dict[str, int]:
        """What the index names of each pack, in bytes."""
        live: dict[str, int] = defaultdict(int)
        for _, row in self._db.scan("chunks", b""):
            at = location(row)
            live[at.pack] += at.size + RECORD.size
        return live

    def _move(self, pack: str, names: list[bytes]) -> bool:
        try:
            self._root.chunks.move(pack, names)
        except CorruptError as error:
            log.warning("pack %s is kept as it is: %s", pack, error)
            return False
        return True

    def _drop(self, packs: list[str], names: dict[str, list[bytes]], live: dict[str, int]) -> None:
        """Remove packs whose chunks were moved, once those are safe where they are now."""
        if not packs:
            return
        self._root.chunks.settle()
        for pack in packs:
            size = self._root.chunks.pack_size(pack)
            self._root.chunks.drop(pack)
            rewritten = 1 if names[pack] else 0
            self._count(packs_removed=1, packs_rewritten=rewritten, bytes_freed=size - live.get(pack, 0))

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self._report, name) + value for name, value in more.items()}
        self._report = replace(self._report, **sums)
