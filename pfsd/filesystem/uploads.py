"""Putting files into an open commit: what comes is stored as it comes, and staged when it is whole."""

from __future__ import annotations

from collections.abc import Iterator

from pfsd.chunks.split import Delimiter, Part, Splitter
from pfsd.errors import InvalidError, IsADirectoryPfsError, NotADirectoryPfsError
from pfsd.filesystem.filesinks import FileSink
from pfsd.filesystem.ownareas import own_area
from pfsd.filesystem.replacing import SPLIT_NAME, apply, replacing
from pfsd.filesystem.uploadsteps import Step, Steps
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write
from pfsd.names import paths
from pfsd.names.paths import Path, join
from pfsd.runtime.batches import batches
from pfsd.runtime.references import noted
from pfsd.trees import dirs, tree
from pfsd.trees.entries import DirEntry

STAGED_AT_ONCE = 1000
"""Of many writes, those that become rows together."""

_SPLIT_NAME_DIGITS = 16


class Upload:
    """Puts into an open commit, stored as they come and staged together by `finish`.

    Holds a bounded part of them in memory, however many they are.
    """

    def __init__(self, root: Root, commits: Commits, commit: Commit) -> None:
        self.operation = root.references.operation()
        self._root = root
        self._commits = commits
        self._commit = commit
        self._steps = Steps(root)
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
            self._steps.add(Step(self._path, overwrite=overwrite, begins_split=True))
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
            self._steps.add(Step(self._path, self._sink.finish(), self._overwrite))
        elif self._sink is not None:
            self._sink.finish()
        self._sink = None

    def _stage_in_parts(self) -> None:
        """Stage in an area of its own, a bounded part at a time, and let the commit have the outcome in one step."""
        root = self._root
        base = self._commits.tree(self._commit)
        with own_area(root, base) as area:
            writes = replacing(root, base, self._writes())
            for part in batches(writes, STAGED_AT_ONCE):
                area.apply(part)
            self._commits.replace_tree(self._commit, area.fold())

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
        if entry is None:
            return 0
        if not isinstance(entry, DirEntry):
            raise NotADirectoryPfsError(f"{join(path)} is a file: it can't become a directory of split files")
        for name, _ in tree.descending(self._root.nodes, entry.root, b"g"):  # above it are no hex digits
            if SPLIT_NAME.fullmatch(name):
                return int(name, 16) + 1
        return 0


class _SplitSink:
    """A put that becomes a directory of numbered files."""

    def __init__(self, root: Root, path: Path, splitter: Splitter, steps: Steps) -> None:
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
                    self._steps.add(Step(self._path, self._sink.finish(), is_numbered=True))
                    self._sink = None
        except InvalidError as error:
            raise InvalidError(f"{join(self._path)}: {error}") from error
