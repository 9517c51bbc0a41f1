"""Writing many files into an open commit: whole ones, parts of them, and patches of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pfsd._core import MIN_CHUNK
from pfsd.chunks import content
from pfsd.chunks.content import Piece
from pfsd.errors import InvalidError, IsADirectoryPfsError, StateError
from pfsd.filesystem.filesinks import INLINE_BYTES, FileSink
from pfsd.filesystem.patches import FilePatch, hold
from pfsd.filesystem.replacing import apply
from pfsd.local.handedfiles import HandedRange
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write, put
from pfsd.names import paths, sizes
from pfsd.names.paths import Path, join
from pfsd.runtime.references import noted
from pfsd.trees import attributes, dirs, entries
from pfsd.trees.entries import Chunk, FileEntry, SpecialEntry, SymlinkEntry

_TOLD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file to put, or a part of one: zeros, bytes, then stored chunks."""

    path: str = ""
    """Empty where a file goes on."""
    overwrite: bool = False
    """Whether it replaces what is there; does not matter where a file goes on."""
    data: bytes = b""
    chunks: Sequence[Chunk] = ()
    more: bool = False
    """Whether the next part goes on with the file."""
    zeros: int = 0
    base: FileEntry | None = None
    """What the file is a patch of."""
    size: int = 0
    """Of the file, where it is a patch."""
    offset: int = 0
    """Where the part stands, in a patch."""
    tell: bool = False
    """Whether `BulkUpload.told` gets the entry of the file that ends with it."""
    attributes: bytes | None = None
    """Of the file, with its first part; None where it keeps what it has."""
    other: SymlinkEntry | SpecialEntry | None = None
    """Instead of all others: a link or special file."""
    also: Sequence[str] = ()
    """With the first part of a file that overwrites: more paths at which the same file is put."""
    handed: HandedRange | None = None
    """Bytes of a file that was handed over, which come after `data`."""

    @property
    def is_whole(self) -> bool:
        """Whether it is a file of nothing but bytes."""
        is_more = self.chunks or self.more or self.zeros or self.tell or self.handed
        return not is_more and self.base is None and self.other is None


class BulkUpload:
    """Many files put into an open commit. What was added by the time of a `stage` takes effect as one."""

    def __init__(self, root: Root, commits: Commits, commit: Commit, lease: int = 0) -> None:
        """With a `lease` of the caller's, nothing is staged once others have changed the commit since it was given."""
        self.operation = root.references.operation()
        self._lease = lease
        self.files = 0
        """How many are staged."""
        self._root = root
        self._commits = commits
        self.commit = commit
        self._writes: list[Write] = []
        self._sink: FileSink | FilePatch | None = None
        self._path: Path = ()
        self._overwrite = False
        self._attributes: bytes | None = None
        self._also: list[Path] = []
        self._told: list[FileEntry] = []
        self._told_bytes = 0

    @property
    def told(self) -> list[FileEntry]:
        """The entries of the files that were put with `tell`."""
        return self._told

    @noted
    def add(self, part: FilePart) -> None:
        """Put a file, or a part of one.

        Raises what `FileSink`, `FilePatch` and `hold` raise, and InvalidError for a path that can't be a file.
        """
        if self._sink is None:
            self._path = paths.parse_file(part.path)
            self._begin(part)
            if part.other is not None:
                self._writes.append(put(self._path, entries.check(part.other, join(self._path))))
                return
            if part.is_whole and len(part.data) <= INLINE_BYTES:
                self._put((part.data,) if part.data else ())
                return
            if part.is_whole and len(part.data) <= MIN_CHUNK:  # too short to be cut
                chunk = self._root.chunks.add(part.data)
                self._put((FileEntry(chunk.size, (chunk,), None, 1),))
                return
            self._sink = FileSink(self._root, self._path) if part.base is None else self._patch(part.base, part.size)
        elif part.path or part.base is not None:
            raise InvalidError(f"{part.path} begins although {join(self._path)} has to go on")
        self._take(self._sink, part)
        if not part.more:
            pieces = self._sink.finish()
            if part.tell:
                pieces = (self._tell(pieces),)
            self._put(pieces)
            self._sink = None

    def _begin(self, part: FilePart) -> None:
        """Look at what the first part of a file, whose path is known, says of all of it."""
        self._overwrite = part.overwrite
        self._also = [paths.parse_file(path) for path in part.also]
        if self._also and not part.overwrite:
            raise InvalidError(f"{join(self._path)} can only be put at more paths with overwrite")
        self._attributes = part.attributes
        if part.attributes is not None:
            self._attributes = attributes.checked(part.attributes, attributes.FILE_MODE, join(self._path))

    def _put(self, pieces: Sequence[Piece]) -> None:
        """The file that was added has these pieces."""
        for path in (self._path, *self._also):
            self._writes.append(Write(path, pieces, self._overwrite, self._attributes))

    def _patch(self, base: FileEntry, size: int) -> FilePatch:
        if not self._overwrite:
            raise InvalidError(f"{join(self._path)} can only be patched with overwrite")
        if size > base.size:
            sizes.check_file_size(size, join(self._path))
        staging = self._commits.open_staging(self.commit)
        with staging.lock:
            top = self._commits.tree(self.commit)
            self.operation.pin(top.root)
        found = dirs.lookup(self._root.nodes, top, self._path)
        if not isinstance(found, FileEntry) or found.content != base:  # else all of it is pinned
            hold(self._root, base, self._path)
        return FilePatch(self._root, base, size)

    def _take(self, sink: FileSink | FilePatch, part: FilePart) -> None:
        if isinstance(sink, FilePatch):
            if part.chunks:
                raise InvalidError(f"no chunks can be named in {join(self._path)}, which is patched")
            if part.zeros or part.data or part.handed:
                sink.seek(part.offset)
        sink.zeros(part.zeros)
        sink.write(part.data)
        if part.handed is not None:
            sink.pour(part.handed)
        for chunk in part.chunks:
            assert isinstance(sink, FileSink)
            sink.refer(chunk)

    def _tell(self, pieces: Sequence[Piece]) -> FileEntry:
        """The entry of a file, which is told."""
        if not self._overwrite:
            raise InvalidError(f"the entry of {join(self._path)} can only be told where it is put with overwrite")
        entry = content.concatenate(self._root.nodes, self._root.chunks, pieces)
        self._told_bytes += len(entries.encode(entry))
        if self._told_bytes > _TOLD_BYTES:
            raise InvalidError("one stream can't tell the entries of so many files: use several")
        self._told.append(entry)
        return entry

    @noted
    def stage(self) -> None:
        """Stage the whole files that were added since the last time.

        Stages none of them when it raises: IsADirectoryPfsError, NotADirectoryPfsError, StateError.
        """
        staging = self._commits.open_staging(self.commit)
        with staging.lock:
            self._stage(staging, lambda writes: apply(self._root, self._commits, self.commit, staging, lambda: writes))

    @noted
    def stage_at_once(self) -> bool:
        """Do what `stage` does, unless another writer is at work; returns whether it is done."""
        staging = self._commits.open_staging(self.commit)
        if not staging.lock.acquire(blocking=False):
            return False
        try:
            self._stage(staging, staging.apply)
        except IsADirectoryPfsError:
            if not any(write.overwrite for write in self._writes):
                raise
            return False  # to look into that takes long
        finally:
            staging.lock.release()
        return True

    def _stage(self, staging: Staging, stage: Callable[[Sequence[Write]], None]) -> None:
        """Stage what was added, by calling `stage`. The caller holds the staging lock."""
        self._commits.open_staging(self.commit)
        if self._lease and not self._root.sessions.is_unchanged(self.commit.id, self._lease):
            raise StateError(f"another client has changed commit {self.commit.id} meanwhile: look at it again")
        stage(self._writes)
        self.files += len(self._writes)
        self._writes = []
        if self._sink is None:  # what was noted has rows now
            self.operation = self._root.references.operation()

    def close(self) -> None:
        """Raises InvalidError when a file lacks its end."""
        if self._sink is not None:
            raise InvalidError(f"the last message of the stream says that {join(self._path)} goes on")
