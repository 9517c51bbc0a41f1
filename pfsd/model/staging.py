"""Staged writes: what was put into a tree under construction and is not folded into its nodes yet.

`pfsd.model.stagedrows` says what the rows of a staging area are. The rows are the truth: `fold` turns them and the
base tree into a new tree, and the caller removes them in the batch that makes the new root visible.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pfsd.chunks.chunkstore import ChunkStore
from pfsd.chunks.content import Piece
from pfsd.errors import InvalidError, IsADirectoryPfsError, NotADirectoryPfsError, NotFoundError
from pfsd.local.kv import Batch, Database
from pfsd.model.folding import Folding
from pfsd.model.stagedrows import HIDDEN, KIND, SINGLE_DELETIONS, Kind, Overlay, row_key, split_key, subtree
from pfsd.names.paths import Path, join
from pfsd.runtime.batches import batches
from pfsd.trees import dirs, entries, tree
from pfsd.trees.attributes import without_change
from pfsd.trees.entries import DirEntry, Entry, FileEntry, SpecialEntry, SymlinkEntry
from pfsd.trees.nodestore import DatabaseNodes

T = TypeVar("T")

KNOWN_DIRECTORIES = 4096
KNOWN_FILES = 4096

ROWS_AT_ONCE = 1000
"""Writes whose rows are looked up together."""


@dataclass(frozen=True, slots=True)
class Write:
    """One step of a write: what happens at a path."""

    path: Path
    pieces: Sequence[Piece] = ()
    """Appended to the file at the path."""
    overwrite: bool = False
    """Whether what the file had before is dropped."""
    attributes: bytes | None = None
    """Of the file or directory; None where those that it has stay, but for its time where pieces are put."""
    directory: DirEntry | None = None
    """Instead of pieces: a directory whose content is put at the path."""
    other: SymlinkEntry | SpecialEntry | None = None
    """Instead of pieces: what is put at the path, in place of what is no directory there."""
    remove: bool = False
    """Instead of pieces: whether the path goes, with all below it."""


_KINDS = {entries.FILE: Kind.FILE, entries.DIRECTORY: Kind.DIRECTORY}
"""By the first byte of an entry."""


def put(path: Path, entry: Entry, *, overwrite: bool = False) -> Write:
    """The write that puts an entry at a path: a file is appended unless it overwrites, a directory merged in."""
    if isinstance(entry, FileEntry):
        return Write(path, (entry.content,) if entry.size else (), overwrite, entry.attributes or None)
    if isinstance(entry, DirEntry):
        return Write(path, directory=entry)
    return Write(path, other=entry)


class Change:
    """Writes that are staged together, or not at all."""

    def __init__(self, staging: Staging, overlay: Overlay) -> None:
        self._staging = staging
        self._overlay = overlay

    def prefetch(self, paths: Sequence[Path]) -> None:
        """Look up together what is staged at paths."""
        self._overlay.prefetch(paths)

    def kind(self, path: Path) -> Kind:
        """What is at a path with these writes."""
        return self._staging.kind(path, self._overlay)

    def is_empty(self, path: Path) -> bool:
        """Whether nothing is in the directory at a path with these writes."""
        return self._staging.is_empty(path, self._overlay)

    def other(self, path: Path) -> Entry:
        """The link or special file at a path with these writes."""
        return self._staging.other(path, self._overlay)

    def add(self, write: Write) -> None:
        """Take in a write; what it raises ends the change."""
        self._staging.add(self._overlay, write)

    def commit(self) -> None:
        """Stage them."""
        self._staging.commit(self._overlay)


class Staging:
    """One staging area over a base tree. Its methods are to be called under `lock`."""

    def __init__(
        self,
        database: Database,
        nodes: DatabaseNodes,
        chunks: ChunkStore,
        area: bytes,
        base: bytes,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """`changed` is called whenever something was staged."""
        self._db = database
        self._nodes = nodes
        self._chunks = chunks
        self._area = area
        self._base = entries.dir_entry(nodes, base)
        self._shown: dict[Path, bytes] = {}
        """Directories that have a row, each with the root of what is shown of the base tree there."""
        self._numbers: dict[Path, int] = {}
        """Files that have a row, each with the number of its next piece."""
        self._changed = changed
        self._clean: bool | None = None
        """What `is_clean` tells, where it is known."""
        self._writing = threading.Lock()
        self._gone = False
        self.lock = threading.RLock()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is staged."""
        if self._clean is None:  # a scan is slow after many rows were removed
            self._clean = next(self._db.scan("staging", self._area), None) is None
        return self._clean

    def rebase(self, base: bytes) -> None:
        """Go on over a new base tree, after what was staged was folded into it and removed."""
        self._base = entries.dir_entry(self._nodes, base)
        self._clean = True
        self._forget()

    def apply(self, writes: Iterable[Write]) -> None:
        """Stage writes, all or none. Raises IsADirectoryPfsError, NotADirectoryPfsError where a path is in the way,
        NotFoundError after `close`.
        """
        change = self.begin()
        for some in batches(writes, ROWS_AT_ONCE):
            change.prefetch([write.path for write in some])
            for write in some:
                change.add(write)
        change.commit()

    def begin(self) -> Change:
        """Writes that are going to be staged together."""
        self._chunks.spill()  # a row may not outlive the chunks that it names
        return Change(self, Overlay(self._db, self._area))

    def add(self, overlay: Overlay, write: Write) -> None:
        """Add the rows of one write to an overlay."""
        if write.remove:
            self._remove(overlay, write.path)
        else:
            self._apply(overlay, write)

    def commit(self, overlay: Overlay) -> None:
        """Write the rows of an overlay."""
        try:
            with self._writing:
                if self._gone:
                    raise NotFoundError("the commit was deleted while it was written to")
                self._db.write(overlay.batch)
            self._clean = None  # only now: who makes the writes may ask while they are taken
            if self._changed is not None:
                self._changed()
            _learn(self._numbers, overlay.numbers, KNOWN_FILES)
            _learn(self._shown, overlay.shown, KNOWN_DIRECTORIES)
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        """From now on nothing is staged here: `apply` raises NotFoundError. Needs no lock, and waits for no fold."""
        with self._writing:
            self._gone = True

    def kind(self, path: Path, overlay: Overlay | None = None) -> Kind:
        """What is at a path now, or with the rows of an overlay."""
        return self._look(overlay or Overlay(self._db, self._area), path)[0]

    def is_empty(self, path: Path, overlay: Overlay) -> bool:
        """Whether nothing is in the directory at a path, with the rows of an overlay."""
        if overlay.has_below(path):
            return False
        prefix = subtree(self._area, path)
        for key, _ in self._db.scan("staging", prefix):
            name = key[len(prefix) : -2]
            if name and key.endswith(b"\0\0") and b"\0" not in name:
                row = overlay.row((*path, name.decode()))
                if row is not None and row & KIND != Kind.NOTHING:
                    return False
        names = (key for key, _ in tree.items(self._nodes, self._shown_at(overlay, path)))
        return all(overlay.row((*path, name.decode())) is not None for name in names)

    def other(self, path: Path, overlay: Overlay) -> Entry:
        """The link or special file at a path, where there is one, with the rows of an overlay."""
        row = overlay.entry(path)
        value = row or tree.get(self._nodes, self._shown_at(overlay, path[:-1]), path[-1].encode())
        assert value is not None
        return entries.decode(value)

    def delete(self, path: Path) -> None:
        """Remove a file or a directory with all below it; what is not there is no error."""
        self.apply([Write(path, remove=True)])

    def discard(self, batch: Batch) -> None:
        """Remove all rows, in `batch`."""
        rows = self._db.scan("staging", self._area)
        keys = [key for key, _ in itertools.islice(rows, SINGLE_DELETIONS + 1)]
        if len(keys) > SINGLE_DELETIONS:
            batch.delete_prefix("staging", self._area)
        else:
            for key in keys:
                batch.delete("staging", key)

    def fold(self) -> bytes:
        """The root hash of the base tree with all that is staged; its nodes and chunks are stored.

        Changes no rows. Raises CorruptError when a staged chunk was lost in a crash.
        """
        nodes = self._nodes.gather()
        folding = Folding(nodes, self._nodes, self._chunks, self._db.scan("staging", self._area), self._area)
        root = folding.run(self._base.root)
        nodes.flush()
        return root

    def _forget(self) -> None:
        self._shown.clear()
        self._numbers.clear()

    # --- staging

    def _remove(self, overlay: Overlay, path: Path) -> None:
        kind, covers = self._look(overlay, path)
        if kind is Kind.NOTHING:
            return
        row = overlay.row(path)
        if kind in (Kind.FILE, Kind.OTHER) and row is not None:
            overlay.clear(path, self._next_number(overlay, path) if kind is Kind.FILE else 0)
        elif row is not None or not path:  # without a row, nothing is staged below either
            overlay.wipe(path)
            self._forget()
        if not path:
            overlay.set(path, Kind.DIRECTORY, hidden=True)
        elif covers:
            self._make_parents(overlay, path)
            overlay.set(path, Kind.NOTHING, hidden=True)

    def _apply(self, overlay: Overlay, write: Write) -> None:
        path = write.path
        self._make_parents(overlay, path)
        if write.directory is not None:
            self._apply_directory(overlay, path, write.directory, write.attributes)
            return
        kind, covers = self._look(overlay, path)
        if kind is Kind.DIRECTORY:
            raise IsADirectoryPfsError(f"{join(path)} is a directory: a file can't take its place")
        if kind is Kind.OTHER and not write.overwrite and write.other is None:
            raise InvalidError(f"{join(path)} is no regular file: overwrite it, or name the file that it leads to")
        row, attributes = overlay.row(path), write.attributes
        hidden = row is not None and bool(row & HIDDEN)
        if write.overwrite or write.other is not None:
            if row is not None:
                overlay.clear(path, self._next_number(overlay, path))
                row = None
            hidden = hidden or covers
        if write.other is not None:
            overlay.set(path, Kind.OTHER, hidden=hidden, entry=entries.encode(write.other))
            return
        if attributes is None and (kept := overlay.attributes(path)) is not None:
            attributes = without_change(kept) if write.pieces else kept
        overlay.set(path, Kind.FILE, hidden=hidden, attributes=attributes)
        if write.pieces:
            overlay.add_pieces(path, 0 if row is None else self._next_number(overlay, path), write.pieces)

    def _next_number(self, overlay: Overlay, path: Path) -> int:
        """The number of the next piece of a file that may have some."""
        number = overlay.numbers.get(path, self._numbers.get(path))
        if number is not None:
            return number
        last = next(self._db.scan("staging", row_key(self._area, path), reverse=True), None)
        sequence = None if last is None else split_key(last[0], len(self._area))[1]
        return 0 if sequence is None else sequence + 1

    def _apply_directory(self, overlay: Overlay, top: Path, directory: DirEntry, attributes: bytes | None) -> None:
        for path, entry in dirs.walk(self._nodes, directory, top):
            if not isinstance(entry, DirEntry):
                self._apply(overlay, put(path, entry))
                continue
            kind, _ = self._look(overlay, path)
            if kind not in (Kind.NOTHING, Kind.DIRECTORY):
                raise NotADirectoryPfsError(f"{join(path)} is a file: a directory can't take its place")
            given = attributes if path == top and attributes is not None else entry.attributes or None
            if kind is Kind.NOTHING or given is not None:
                self._make_parents(overlay, path)
                self._set_directory(overlay, path, given)

    def _set_directory(self, overlay: Overlay, path: Path, attributes: bytes | None = None) -> None:
        """Give a directory a row, and new attributes where they are given."""
        if attributes is None:
            attributes = overlay.attributes(path)
        overlay.set(path, Kind.DIRECTORY, hidden=overlay.hidden(path), attributes=attributes)

    def _make_parents(self, overlay: Overlay, path: Path) -> None:
        """Give every directory above `path` a row; raises NotADirectoryPfsError when one is a file."""
        depth = self._known_depth(overlay, path, len(path) - 1)
        for end in range(depth + 1, len(path)):
            above = path[:end]
            kind, _ = self._look(overlay, above)
            if kind not in (Kind.NOTHING, Kind.DIRECTORY):
                raise NotADirectoryPfsError(f"{join(above)} is a file: {join(path)} can't be below it")
            self._set_directory(overlay, above)
            overlay.shown[above] = self._shown_at(overlay, above)

    def _look(self, overlay: Overlay, path: Path) -> tuple[Kind, bool]:
        """What is at a path, and whether it covers something of the base tree, shown or hidden."""
        if not path:
            return Kind.DIRECTORY, True
        above = self._shown_at(overlay, path[:-1])
        base = None if above == tree.EMPTY else tree.get(self._nodes, above, path[-1].encode())
        row = overlay.row(path)
        if row is not None:
            return Kind(row & KIND), base is not None
        if base is None:  # every directory above a staged path has a row
            return Kind.NOTHING, False
        return _KINDS.get(base[0], Kind.OTHER), True

    def _known_depth(self, overlay: Overlay, path: Path, most: int) -> int:
        """How many names of a path, up to `most`, lead to the lowest directory known to have a row; 0 for none."""
        while most > 0 and path[:most] not in overlay.shown and path[:most] not in self._shown:
            most -= 1
        return most

    def _shown_at(self, overlay: Overlay, path: Path) -> bytes:
        """The root of what is shown of the base tree's directory at a path; the empty tree where there is none."""
        depth = self._known_depth(overlay, path, len(path))
        known = overlay.shown.get(path[:depth], self._shown.get(path[:depth]))
        if known is not None:
            root = known
        else:
            root = tree.EMPTY if overlay.hidden(()) else self._base.root
        for end in range(depth + 1, len(path) + 1):
            if root == tree.EMPTY:
                break
            value = tree.get(self._nodes, root, path[end - 1].encode())
            entry = None if value is None or overlay.hidden(path[:end]) else entries.decode(value)
            root = entry.root if isinstance(entry, DirEntry) else tree.EMPTY
        return root


def _learn(known: dict[Path, T], more: dict[Path, T], most: int) -> None:
    """Add to what is known, of which there is a bound."""
    if len(known) + len(more) > most:
        known.clear()
    known |= itertools.islice(more.items(), most)
