"""Writing files into open commits: what comes is stored as it comes, and staged when it is whole."""

from __future__ import annotations

import errno
import itertools
import marshal
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pfsd.chunks import content
from pfsd.chunks.content import ChunkWriter, Piece
from pfsd.chunks.split import Delimiter, Part, Splitter
from pfsd.errors import CorruptError, FullError, InvalidError, IsADirectoryPfsError, NotADirectoryPfsError, StateError
from pfsd.filesystem.patches import FilePatch, hold
from pfsd.filesystem.replacing import SPLIT_NAME, apply, replacing
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write
from pfsd.names import paths, sizes
from pfsd.names.paths import Path, join
from pfsd.runtime.references import noted
from pfsd.trees import dirs, entries, tree
from pfsd.trees.entries import Chunk, ChunkList, FileEntry

INLINE_BYTES = 4096
"""Pieces up to this size wait in the staging rows until they are folded; larger ones go to packs at once."""

STEPS_HELD = 4096
BYTES_HELD = 4 << 20
"""Steps of one upload, and bytes in them, beyond which they wait in a file."""

STAGED_AT_ONCE = 1000
"""Of many writes, those that become rows together."""

_ZEROS_AT_ONCE = 1 << 36
_TOLD_BYTES = 1 << 20
_SPLIT_NAME_DIGITS = 16


class FileSink:
    """Stores the content of one file as it comes: bytes, and chunks that are stored already."""

    def __init__(self, root: Root, path: Path = ()) -> None:
        self._root = root
        self._path = path
        self._size = 0
        self._head = bytearray()
        self._writer: ChunkWriter | None = None
        self._nodes = root.nodes.gather()
        self._list = ChunkList(self._nodes, entries.EMPTY_FILE)
        self._ended = False

    @property
    def is_small(self) -> bool:
        """Whether all that was taken in waits in memory, to become a row."""
        return self._writer is None

    def write(self, data: bytes) -> None:
        """Take in the next bytes."""
        if self._ended and data:
            raise InvalidError("nothing can follow a chunk that the end of a file ended")
        self._size += len(data)
        if self._writer is None and len(self._head) + len(data) <= INLINE_BYTES:
            self._head += data
            return
        self._keep(self._to_writer().write(data))

    def zeros(self, count: int) -> None:
        """Take in so many zero bytes; raises InvalidError where the file would be larger than one with holes may be."""
        if self._ended and count:
            raise InvalidError("nothing can follow a chunk that the end of a file ended")
        if count:
            sizes.check_file_size(self._size + count, join(self._path))
            self._size += count
            for at in range(0, count, _ZEROS_AT_ONCE):
                self._keep(self._to_writer().zeros(min(count - at, _ZEROS_AT_ONCE)))

    def refer(self, chunk: Chunk) -> None:
        """Take in a stored chunk.

        Raises StateError when it is not there, InvalidError when no chunk of that size may stand here.
        """
        store = self._root.chunks
        writer = self._to_writer()
        self._keep(writer.cut())  # first of all: it may be a chunk of the bytes before
        if not store.has(chunk.hash):
            raise StateError(f"chunk {chunk.hash.hex()} of {join(self._path)} is not in the store: send its bytes")
        at = store.locate(chunk.hash)
        if at.size != chunk.size:
            raise InvalidError(f"chunk {chunk.hash.hex()} of {join(self._path)} has {at.size} bytes, not {chunk.size}")
        if self._ended or not writer.at_cut:
            raise InvalidError(
                f"chunk {chunk.hash.hex()} of {join(self._path)} begins where no chunk of that file does"
            )
        self._size += chunk.size
        self._keep([chunk])
        self._ended = not at.is_cut

    def finish(self) -> tuple[Piece, ...]:
        """What was taken in, as pieces."""
        if self._writer is None:
            return (bytes(self._head),) if self._head else ()
        self._keep(self._writer.finish())
        entry = self._list.finish()
        self._nodes.flush()
        return (entry,) if entry.size else ()

    def _to_writer(self) -> ChunkWriter:
        if self._writer is None:
            self._writer = ChunkWriter(self._root.chunks)
            self._keep(self._writer.write(bytes(self._head)))
        return self._writer

    def _keep(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._list.put(chunk)


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

    @property
    def is_whole(self) -> bool:
        """Whether it is a file of nothing but bytes."""
        return not (self.chunks or self.more or self.zeros or self.tell) and self.base is None


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
            self._overwrite = part.overwrite
            if part.is_whole and len(part.data) <= INLINE_BYTES:
                self._writes.append(Write(self._path, (part.data,) if part.data else (), part.overwrite))
                return
            self._sink = FileSink(self._root, self._path) if part.base is None else self._patch(part.base, part.size)
        elif part.path or part.base is not None:
            raise InvalidError(f"{part.path} begins although {join(self._path)} has to go on")
        self._take(self._sink, part)
        if not part.more:
            pieces = self._sink.finish()
            if part.tell:
                pieces = (self._tell(pieces),)
            self._writes.append(Write(self._path, pieces, self._overwrite))
            self._sink = None

    def _patch(self, base: FileEntry, size: int) -> FilePatch:
        if not self._overwrite:
            raise InvalidError(f"{join(self._path)} can only be patched with overwrite")
        if size > base.size:
            sizes.check_file_size(size, join(self._path))
        staging = self._commits.open_staging(self.commit)
        with staging.lock:
            top = self._commits.tree(self.commit)
            self.operation.pin(top.root)
        if dirs.lookup(self._root.nodes, top, self._path) != base:  # else all of it is pinned
            hold(self._root, base, self._path)
        return FilePatch(self._root, base, size)

    def _take(self, sink: FileSink | FilePatch, part: FilePart) -> None:
        if isinstance(sink, FilePatch):
            if part.chunks:
                raise InvalidError(f"no chunks can be named in {join(self._path)}, which is patched")
            if part.zeros or part.data:
                sink.seek(part.offset)
        sink.zeros(part.zeros)
        sink.write(part.data)
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
            raise StateError(f"another client has changed commit {self.commit.id} meanwhile: read it again, then write")
        stage(self._writes)
        self.files += len(self._writes)
        self._writes = []
        if self._sink is None:  # what was noted has rows now
            self.operation = self._root.references.operation()

    def close(self) -> None:
        """Raises InvalidError when a file lacks its end."""
        if self._sink is not None:
            raise InvalidError(f"the last message of the stream says that {join(self._path)} goes on")


class Upload:
    """Puts into an open commit, stored as they come and staged together by `finish`.

    Holds a bounded part of them in memory, however many they are.
    """

    def __init__(self, root: Root, commits: Commits, commit: Commit) -> None:
        self.operation = root.references.operation()
        self._root = root
        self._commits = commits
        self._commit = commit
        self._steps = _Steps(root)
        self._sink: FileSink | _SplitSink | None = None
        self._path: Path = ()
        self._overwrite = False

    @noted
    def begin(
        self,
        path: str,
        *,
        overwrite: bool = False,
        delimiter: Delimiter = Delimiter.NONE,
        target_datums: int = 0,
        target_bytes: int = 0,
    ) -> None:
        """What is written from here on goes to `path`; raises InvalidError for a path that can't be a file."""
        self._end()
        self._path = paths.parse_file(path)
        self._overwrite = overwrite
        if target_datums < 0 or target_bytes < 0:
            raise InvalidError("target_file_datums and target_file_bytes may not be negative")
        if delimiter is Delimiter.NONE:
            self._sink = FileSink(self._root, self._path)
        else:
            self._steps.add(_Step(self._path, overwrite=overwrite, begins_split=True))
            self._sink = _SplitSink(
                self._root, self._path, Splitter(delimiter, target_datums, target_bytes), self._steps
            )

    @noted
    def write(self, data: bytes) -> None:
        """Take in the next bytes of the path."""
        if self._sink is None:
            raise InvalidError("the first message of PutFile has to name a file")
        self._sink.write(data)

    @noted
    def finish(self) -> None:
        """Stage everything, or nothing when it raises: IsADirectoryPfsError, NotADirectoryPfsError, StateError."""
        self._end()
        staging = self._commits.open_staging(self._commit)
        with staging.lock:
            self._stage(staging)

    @noted
    def finish_at_once(self) -> bool:
        """Do what `finish` does, unless it may take long or another writer is at work; returns whether it is done."""
        if not isinstance(self._sink, FileSink) or not self._sink.is_small or not self._steps.is_empty:
            return False
        staging = self._commits.open_staging(self._commit)
        if not staging.lock.acquire(blocking=False):
            return False
        try:
            self._end()
            self._commits.open_staging(self._commit)
            staging.apply(self._writes())
        except IsADirectoryPfsError:
            if not self._overwrite:
                raise
            return False  # to look into that takes long
        finally:
            staging.lock.release()
        return True

    def close(self) -> None:
        """Give up what is held; to be called in the end, whether it is finished or not."""
        self._steps.close()

    def _stage(self, staging: Staging) -> None:
        """Stage everything. The caller holds the staging lock."""
        self._commits.open_staging(self._commit)
        if self._steps.spilled:
            self._stage_in_parts()
        else:
            if any(step.begins_split for step in self._steps):
                self._commits.tree(self._commit)  # `_writes` looks at it, and what is staged may not move meanwhile
            apply(self._root, self._commits, self._commit, staging, self._writes)

    def _end(self) -> None:
        if isinstance(self._sink, FileSink):
            self._steps.add(_Step(self._path, self._sink.finish(), self._overwrite))
        elif self._sink is not None:
            self._sink.finish()
        self._sink = None

    def _stage_in_parts(self) -> None:
        """Stage in an area of its own, a bounded part at a time, and let the commit have the outcome in one step."""
        root = self._root
        base = self._commits.tree(self._commit)
        area = Staging(root.db, root.nodes, root.chunks, uuid.uuid4().bytes, base.root)
        try:
            with area.lock:
                writes = replacing(root, base, self._writes())
                while part := list(itertools.islice(writes, STAGED_AT_ONCE)):
                    area.apply(part)
                folded = area.fold()
            self._commits.replace_tree(self._commit, folded)
        finally:
            batch = root.db.batch()
            area.discard(batch)
            root.db.write(batch)

    def _writes(self) -> Iterator[Write]:
        """The steps as writes: files of splits get the numbers after those that are there."""
        numbers: dict[Path, int] = {}
        for step in self._steps:
            if step.begins_split:
                if step.overwrite:
                    numbers[step.path] = 0
                    yield Write(step.path, remove=True)
                elif step.path not in numbers:
                    numbers[step.path] = self._first_number(step.path)
            elif step.is_numbered:
                number = numbers[step.path]
                numbers[step.path] += 1
                yield Write((*step.path, f"{number:0{_SPLIT_NAME_DIGITS}x}"), step.pieces)
            else:
                if step.overwrite and numbers.pop(step.path, None) is not None:
                    yield Write(step.path, remove=True)  # it was split just now
                yield Write(step.path, step.pieces, step.overwrite)

    def _first_number(self, path: Path) -> int:
        """The number after the last split file in a directory; raises NotADirectoryPfsError when it is a file."""
        top = self._commits.tree(self._commit)
        entry = dirs.lookup(self._root.nodes, top, path)
        if isinstance(entry, FileEntry):
            raise NotADirectoryPfsError(f"{join(path)} is a file: it can't become a directory of split files")
        if entry is None:
            return 0
        for name, _ in tree.descending(self._root.nodes, entry.root, b"g"):  # above it are no hex digits
            if SPLIT_NAME.fullmatch(name):
                return int(name, 16) + 1
        return 0


class _SplitSink:
    """A put that becomes a directory of numbered files."""

    def __init__(self, root: Root, path: Path, splitter: Splitter, steps: _Steps) -> None:
        self._root = root
        self._path = path
        self._splitter = splitter
        self._steps = steps
        self._sink: FileSink | None = None

    def write(self, data: bytes) -> None:
        self._store(self._splitter.write(data))

    def finish(self) -> None:
        self._store(self._splitter.finish())

    def _store(self, parts: Iterator[Part]) -> None:
        try:
            for part in parts:
                if self._sink is None:
                    self._sink = FileSink(self._root, self._path)
                self._sink.write(part.data)
                if part.ends_file:
                    self._steps.add(_Step(self._path, self._sink.finish(), is_numbered=True))
                    self._sink = None
        except InvalidError as error:
            raise InvalidError(f"{join(self._path)}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of an upload."""

    path: Path
    pieces: tuple[Piece, ...] = ()
    overwrite: bool = False
    begins_split: bool = False
    """Whether the path becomes a directory of numbered files."""
    is_numbered: bool = False
    """Whether it is the next file of the directory that the path is."""


class _Steps:
    """Steps in order: in memory at first, in a file without a name once they are many."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._held: list[_Step] = []
        self._bytes = 0
        self._file: BinaryIO | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._held and self._file is None

    @property
    def spilled(self) -> bool:
        """Whether there are more than memory should hold."""
        return self._file is not None

    def add(self, step: _Step) -> None:
        """Add a step at the end; raises FullError when the disk has no room."""
        self._held.append(step)
        self._bytes += sum(len(piece) for piece in step.pieces if isinstance(piece, bytes))
        if len(self._held) >= STEPS_HELD or self._bytes >= BYTES_HELD:
            self._spill()

    def __iter__(self) -> Iterator[_Step]:
        if self._file is not None:
            self._file.seek(0)
            while True:
                try:
                    row = marshal.load(self._file)
                except EOFError:
                    break
                yield _decode(row)
        yield from self._held

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._root.spool)  # noqa: SIM115 (closed by `close`)
            for step in self._held:
                marshal.dump(_encode(step), self._file)
            self._file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FullError("the disk that holds the root is full: nothing was changed") from error
            raise
        self._held = []
        self._bytes = 0


_Row = tuple[Path, tuple[tuple[bool, bytes], ...], bool, bool, bool]


def _encode(step: _Step) -> _Row:
    pieces = tuple(
        (True, entries.encode(piece)) if isinstance(piece, FileEntry) else (False, piece) for piece in step.pieces
    )
    return step.path, pieces, step.overwrite, step.begins_split, step.is_numbered


def _decode(row: _Row) -> _Step:
    path, pieces, *flags = row
    return _Step(path, tuple(_piece(is_entry, data) for is_entry, data in pieces), *flags)


def _piece(is_entry: bool, data: bytes) -> Piece:
    if not is_entry:
        return data
    entry = entries.decode(data)
    if not isinstance(entry, FileEntry):
        raise CorruptError("a piece of an upload is not a file")
    return entry
