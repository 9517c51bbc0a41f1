"""What lists, globs and differences of files answer: one after the other, for messages of any size."""

from __future__ import annotations

from collections.abc import Iterator

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import dirs, paths
from pfsd.entries import DirEntry
from pfsd.errors import NotADirectoryPfsError
from pfsd.files import Difference
from pfsd.records import Commit
from pfsd.services import convert
from pfsd.store import Store

BATCH = 1000
"""Files in a message of a stream."""

MAX_BATCH_PATH_BYTES = 1 << 20
"""Length of the paths together beyond which a message is sent with fewer."""


def listed(store: Store, commit: Commit, path: str) -> Iterator[pfs_pb2.FileInfo]:
    """The entries of a directory; raises NotFoundError, NotADirectoryPfsError."""
    name = convert.commit_name(commit.repo, commit.id)
    prefix = _prefix(path)
    for child, entry in store.files.children(commit, path):
        yield convert.file_info(name, prefix + child, entry)


def walked(store: Store, commit: Commit, path: str) -> Iterator[pfs_pb2.FileInfo]:
    """All below a directory, each directory before what it holds; raises NotFoundError, NotADirectoryPfsError."""
    top = store.files.inspect(commit, path)
    if not isinstance(top, DirEntry):
        raise NotADirectoryPfsError(f"{path} is a file and can't be listed: use inspect-file")
    name = convert.commit_name(commit.repo, commit.id)
    prefix = _prefix(path)
    for parts, entry in dirs.walk(store.root.nodes, top):
        if parts:
            yield convert.file_info(name, prefix + "/".join(parts), entry)


def globbed(store: Store, commit: Commit, pattern: str) -> Iterator[pfs_pb2.FileInfo]:
    """What matches a pattern; raises InvalidError when it is malformed."""
    name = convert.commit_name(commit.repo, commit.id)
    for found in store.files.glob(commit, pattern):
        yield convert.file_info(name, paths.join(found.path) if found.path else "", found.entry)


class Comparison:
    """What DiffFile is asked."""

    def __init__(self, store: Store, request: pfs_pb2.DiffFileRequest) -> None:
        """Raises NotFoundError for a commit that is not there."""
        self._store = store
        self._new = store.commits.resolve(request.new_file.commit.repo.name, request.new_file.commit.id)
        self._new_path = self._old_path = request.new_file.path
        self._shallow = request.shallow
        self._old: Commit | None = None
        if request.HasField("old_file"):
            self._old = store.commits.resolve(request.old_file.commit.repo.name, request.old_file.commit.id)
            self._old_path = request.old_file.path
        elif self._new.parent:
            self._old = store.commits.resolve(self._new.repo, self._new.parent)

    def new_files(self) -> Iterator[pfs_pb2.FileInfo]:
        """What the new side has and the old one has not, or has differently."""
        name = convert.commit_name(self._new.repo, self._new.id)
        for item in self._differences():
            if item.new is not None:
                yield convert.file_info(name, convert.below(self._new_path, "/".join(item.path)), item.new)

    def old_files(self) -> Iterator[pfs_pb2.FileInfo]:
        """What the old side has and the new one has not, or has differently."""
        if self._old is None:
            return
        name = convert.commit_name(self._old.repo, self._old.id)
        for item in self._differences():
            if item.old is not None:
                yield convert.file_info(name, convert.below(self._old_path, "/".join(item.path)), item.old)

    def _differences(self) -> Iterator[Difference]:
        files = self._store.files
        new = files.find(self._new, paths.parse(self._new_path))
        old = files.find(self._old, paths.parse(self._old_path)) if self._old else None
        return files.diff(new, old, shallow=self._shallow)


def batches(infos: Iterator[pfs_pb2.FileInfo]) -> Iterator[list[pfs_pb2.FileInfo]]:
    """Files in lists that fit a message."""
    batch: list[pfs_pb2.FileInfo] = []
    size = 0
    for info in infos:
        batch.append(info)
        size += len(info.file.path)
        if len(batch) >= BATCH or size >= MAX_BATCH_PATH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def file_batches(infos: Iterator[pfs_pb2.FileInfo]) -> Iterator[pfsd_pb2.FileBatch]:
    """Files as messages."""
    return (pfsd_pb2.FileBatch(files=batch) for batch in batches(infos))


def diff_batches(comparison: Comparison) -> Iterator[pfsd_pb2.DiffBatch]:
    """A comparison as messages: all new files before the first old one."""
    for batch in batches(comparison.new_files()):
        yield pfsd_pb2.DiffBatch(new_files=batch)
    for batch in batches(comparison.old_files()):
        yield pfsd_pb2.DiffBatch(old_files=batch)


def _prefix(asked: str) -> str:
    """What the paths of a directory's entries begin with: `a/b` lists `a/b/x`, `/a/` lists `/a/x`, the root `x`."""
    return convert.below(asked, "x")[:-1]
