"""Files of commits: putting, reading, listing, finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pfsd import content, dirs, entries, globs, paths, tree
from pfsd.commits import Commits
from pfsd.content import ChunkWriter, Piece
from pfsd.entries import Chunk, DirEntry, Entry, FileEntry
from pfsd.errors import InvalidError, IsADirectoryPfsError, NotADirectoryPfsError, NotFoundError
from pfsd.paths import Path, join
from pfsd.records import Commit
from pfsd.references import noted
from pfsd.root import Root
from pfsd.split import Delimiter, Splitter
from pfsd.staging import Write

INLINE_BYTES = 4096
"""Pieces up to this size wait in the staging rows until they are folded; larger ones go to packs at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the path at which it stands."""

    path: Path
    entry: Entry


@dataclass(frozen=True, slots=True)
class Difference:
    """A path, relative to what is compared, at which two trees differ."""

    path: Path
    new: Entry | None
    """What the new tree has there."""
    old: Entry | None
    """What the old tree has there."""


class Files:
    """The files of a root's commits."""

    def __init__(self, root: Root, commits: Commits) -> None:
        self._root = root
        self._commits = commits

    # --- reading

    def inspect(self, commit: Commit, path: str) -> Entry:
        """The entry at a path; raises NotFoundError."""
        parts = paths.parse(path)
        entry = dirs.lookup(self._root.nodes, self._commits.tree(commit), parts)
        if entry is None:
            raise NotFoundError(f"file {path} not found in repo {commit.repo} at commit {commit.id}")
        return entry

    def children(self, commit: Commit, path: str) -> Iterator[tuple[str, Entry]]:
        """The entries of the directory at a path; raises NotFoundError, NotADirectoryPfsError."""
        entry = self.inspect(commit, path)
        if not isinstance(entry, DirEntry):
            raise NotADirectoryPfsError(f"{path} is a file and can't be listed: use inspect-file")
        return dirs.children(self._root.nodes, entry)

    def read(self, commit: Commit, path: str, offset: int, size: int) -> Iterator[bytes]:
        """The bytes of the file at a path from `offset` on, `size` of them, or all where it is 0.

        Raises NotFoundError, IsADirectoryPfsError, InvalidError for a negative offset or size.
        """
        if offset < 0 or size < 0:
            raise InvalidError(f"{path} can't be read: the offset and the size may not be negative")
        entry = self.inspect(commit, path)
        if not isinstance(entry, FileEntry):
            raise IsADirectoryPfsError(f"{path} is a directory")
        return content.read(self._root.nodes, self._root.chunks, entry, offset, size or None)

    def glob(self, commit: Commit, pattern: str) -> Iterator[Found]:
        """The entries that match a pattern, in path order; raises InvalidError when it is malformed."""
        compiled = globs.compile(pattern)
        top = self._commits.tree(commit)
        return (Found(path, entry) for path, entry in compiled.walk(self._root.nodes, top))

    def names(self, directory: DirEntry) -> list[str]:
        """The names in a directory."""
        return [name for name, _ in dirs.children(self._root.nodes, directory)]

    def chunks(self, entry: FileEntry) -> Iterator[Chunk]:
        """A file's chunks in order."""
        return (chunk for _, chunk in entries.chunks_from(self._root.nodes, entry))

    def find(self, commit: Commit, path: Path) -> Entry | None:
        """The entry at a path, or None."""
        return dirs.lookup(self._root.nodes, self._commits.tree(commit), path)

    def diff(self, new: Entry | None, old: Entry | None, *, shallow: bool) -> Iterator[Difference]:
        """Where two entries differ: files at any depth, or, when `shallow`, the entries right below them."""
        if new == old:
            return
        if isinstance(new, DirEntry) or isinstance(old, DirEntry):
            yield from self._diff((), new, old, shallow)
        else:
            yield Difference((), new, old)

    def _diff(self, path: Path, new: Entry | None, old: Entry | None, shallow: bool) -> Iterator[Difference]:
        """Like `diff`, where at least one is a directory; a file on the other side is new or gone."""
        if isinstance(new, FileEntry):
            yield Difference(path, new, None)
        if isinstance(old, FileEntry):
            yield Difference(path, None, old)
        roots = [entry.root if isinstance(entry, DirEntry) else tree.EMPTY for entry in (old, new)]
        for key, before_value, after_value in tree.diff(self._root.nodes, roots[0], roots[1]):
            here = (*path, key.decode())
            before = None if before_value is None else entries.decode(before_value)
            after = None if after_value is None else entries.decode(after_value)
            if shallow or not (isinstance(before, DirEntry) or isinstance(after, DirEntry)):
                yield Difference(here, after, before)
            else:
                yield from self._diff(here, after, before, shallow)

    # --- writing

    def upload(self, commit: Commit) -> Upload:
        """A set of puts into an open commit that takes effect as one; raises StateError when it is finished."""
        self._commits.open_staging(commit)
        return Upload(self._root, self._commits, commit)

    def delete(self, commit: Commit, path: str) -> None:
        """Remove a file or directory from an open commit; what is not there is no error."""
        staging = self._commits.open_staging(commit)
        with staging.lock:
            self._commits.open_staging(commit)
            staging.delete(paths.parse(path))


class Upload:
    """Puts into an open commit, stored as they come and staged together by `finish`."""

    def __init__(self, root: Root, commits: Commits, commit: Commit) -> None:
        self.operation = root.references.operation()
        self._root = root
        self._commits = commits
        self._commit = commit
        self._writes: list[Write] = []
        self._splits: list[_Split] = []
        self._sink: FileSink | _Split | None = None
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
            self._sink = FileSink(self._root)
        else:
            self._sink = _Split(self._root, self._path, overwrite, Splitter(delimiter, target_datums, target_bytes))

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
            self._commits.open_staging(self._commit)
            for split in self._splits:
                first = self._first_number(split)
                if split.overwrite:
                    self._writes.append(Write(split.path, remove=True))
                self._writes += split.writes(first)
            staging.apply(self._writes)

    def _end(self) -> None:
        if isinstance(self._sink, FileSink):
            self._writes.append(Write(self._path, self._sink.finish(), self._overwrite))
        elif self._sink is not None:
            self._sink.finish()
            self._splits.append(self._sink)
        self._sink = None

    def _first_number(self, split: _Split) -> int:
        """The number after the last split file in the directory; raises NotADirectoryPfsError when it is a file."""
        top = self._commits.tree(self._commit)
        entry = dirs.lookup(self._root.nodes, top, split.path)
        if isinstance(entry, FileEntry):
            raise NotADirectoryPfsError(f"{join(split.path)} is a file: it can't become a directory of split files")
        if entry is None or split.overwrite:
            return 0
        numbers = [int(name, 16) for name in self._split_names(entry)]
        return max(numbers, default=-1) + 1

    def _split_names(self, directory: DirEntry) -> Iterator[str]:
        for name, _ in dirs.children(self._root.nodes, directory):
            if len(name) == 16 and not set(name) - set("0123456789abcdef"):
                yield name


class FileSink:
    """Stores the bytes of one file as they come."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._head = bytearray()
        self._writer: ChunkWriter | None = None
        self._chunks: list[Chunk] = []

    def write(self, data: bytes) -> None:
        if self._writer is None and len(self._head) + len(data) <= INLINE_BYTES:
            self._head += data
            return
        if self._writer is None:
            self._writer = ChunkWriter(self._root.chunks)
            self._chunks += self._writer.write(bytes(self._head))
        self._chunks += self._writer.write(data)

    def finish(self) -> tuple[Piece, ...]:
        """What was written, as pieces."""
        if self._writer is None:
            return (bytes(self._head),) if self._head else ()
        self._chunks += self._writer.finish()
        return (entries.file_entry(self._root.nodes, self._chunks),)


class _Split:
    """A put that becomes a directory of numbered files."""

    def __init__(self, root: Root, path: Path, overwrite: bool, splitter: Splitter) -> None:
        self._root = root
        self._splitter = splitter
        self._files: list[tuple[Piece, ...]] = []
        self.path = path
        self.overwrite = overwrite

    def write(self, data: bytes) -> None:
        self._store(self._splitter.write(data))

    def finish(self) -> None:
        self._store(self._splitter.finish())

    def writes(self, first: int) -> Iterator[Write]:
        """The files, numbered from `first` on."""
        for number, pieces in enumerate(self._files, first):
            yield Write((*self.path, f"{number:016x}"), pieces)

    def _store(self, files: Iterator[bytes]) -> None:
        for data in files:
            sink = FileSink(self._root)
            sink.write(data)
            self._files.append(sink.finish())
