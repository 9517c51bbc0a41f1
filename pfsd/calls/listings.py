"""Answers to calls that list, glob and compare files: one file after the other, for messages of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.calls import convert
from pfsd.calls.reading import Find
from pfsd.chunks import content
from pfsd.errors import InvalidError, NotADirectoryPfsError
from pfsd.filesystem.files import Difference
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.names import paths
from pfsd.names.paths import Path
from pfsd.trees import dirs
from pfsd.trees.entries import DirEntry, Entry, FileEntry

BATCH = 1000
"""Files in a message of a stream."""

BATCH_BYTES = 1 << 20
"""Length of paths and contents together beyond which a message is sent with fewer."""

MAX_CONTENT_BYTES = 1 << 16
"""Size of the largest files whose content may come along."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file or directory, with its content where that was asked for."""

    info: pfs_pb2.FileInfo
    data: bytes | None = None


def listed(store: Store, commit: Commit, path: str) -> Iterator[pfs_pb2.FileInfo]:
    """The entries of a directory; raises NotFoundError, NotADirectoryPfsError."""
    name = convert.commit_name(commit.repo, commit.id)
    prefix = _prefix(path)
    describe, above = store.files.describer(commit), paths.parse(path)
    for child, entry in store.files.children(commit, path):
        yield convert.file_info(name, prefix + child, entry, describe((*above, child), entry).target)


def walked(store: Store, commit: Commit, path: str, *, recursive: bool, content_bytes: int) -> Iterator[Listed]:
    """The entries of a directory or all below it, each directory before what it holds.

    With the content of files of at most `content_bytes`, where it is not 0. Raises NotFoundError,
    NotADirectoryPfsError, InvalidError for too large a content.
    """
    if content_bytes > MAX_CONTENT_BYTES:
        raise InvalidError(f"content_bytes is {content_bytes}: at most {MAX_CONTENT_BYTES} can come along")
    top = store.files.inspect(commit, path)
    if not isinstance(top, DirEntry):
        raise NotADirectoryPfsError(f"{path} is a file and can't be listed: use inspect-file")
    name = convert.commit_name(commit.repo, commit.id)
    prefix = _prefix(path)
    nodes, chunks = store.root.nodes, store.root.chunks
    found: Iterator[tuple[str, Entry]]
    if recursive:
        found = (("/".join(parts), entry) for parts, entry in dirs.walk(nodes, top) if parts)
    else:
        found = dirs.children(nodes, top)
    describe, above = store.files.describer(commit), paths.parse(path)
    for place, entry in found:
        described = describe((*above, *place.split("/")), entry)
        info = convert.file_info(name, prefix + place, entry, described.target)
        told = described.content
        if content_bytes and isinstance(told, FileEntry) and told.size <= content_bytes:
            yield Listed(info, b"".join(content.read(nodes, chunks, told)))
        else:
            yield Listed(info)


def globbed(store: Store, commit: Commit, pattern: str, *, recursive: bool = False) -> Iterator[pfs_pb2.FileInfo]:
    """What matches a pattern; raises InvalidError when it is malformed."""
    name = convert.commit_name(commit.repo, commit.id)
    describe = store.files.describer(commit)
    for found in store.files.glob(commit, pattern, recursive=recursive):
        target = describe(found.path, found.entry).target
        yield convert.file_info(name, paths.join(found.path) if found.path else "", found.entry, target)


class Comparison:
    """What DiffFile is asked."""

    def __init__(self, store: Store, request: pfs_pb2.DiffFileRequest, find: Find) -> None:
        """Raises NotFoundError for a commit that is not there."""
        self._store = store
        self._new = find(request.new_file.commit)
        self._new_path = self._old_path = request.new_file.path
        self._shallow = request.shallow
        self._old: Commit | None = None
        if request.HasField("old_file"):
            self._old = find(request.old_file.commit)
            self._old_path = request.old_file.path
        elif self._new.parent:
            self._old = find(convert.commit_name(self._new.repo, self._new.parent))

    def new_files(self) -> Iterator[pfs_pb2.FileInfo]:
        """What the new side has and the old one has not, or has differently."""
        tell = self._teller(self._new, self._new_path)
        for item in self._differences():
            if item.new is not None:
                yield tell(item.path, item.new)

    def old_files(self) -> Iterator[pfs_pb2.FileInfo]:
        """What the old side has and the new one has not, or has differently."""
        if self._old is None:
            return
        tell = self._teller(self._old, self._old_path)
        for item in self._differences():
            if item.old is not None:
                yield tell(item.path, item.old)

    def _teller(self, commit: Commit, asked: str) -> Callable[[Path, Entry], pfs_pb2.FileInfo]:
        """A function that tells of what stands at a path relative to what was asked for."""
        name = convert.commit_name(commit.repo, commit.id)
        describe, above = self._store.files.describer(commit), paths.parse(asked)

        def tell(path: Path, entry: Entry) -> pfs_pb2.FileInfo:
            target = describe((*above, *path), entry).target
            return convert.file_info(name, convert.below(asked, "/".join(path)), entry, target)

        return tell

    def _differences(self) -> Iterator[Difference]:
        files = self._store.files
        new = files.find(self._new, paths.parse(self._new_path))
        old = files.find(self._old, paths.parse(self._old_path)) if self._old else None
        return files.diff(new, old, shallow=self._shallow)


def list_batches(items: Iterator[Listed]) -> Iterator[pfsd_pb2.FileBatch]:
    """Files with their contents as messages."""
    for batch in _batches(items, lambda item: len(item.info.file.path) + len(item.data or b"")):
        yield pfsd_pb2.FileBatch(
            files=[item.info for item in batch],
            contents=[
                pfsd_pb2.FileContent(index=index, data=item.data)
                for index, item in enumerate(batch)
                if item.data is not None
            ],
        )


def glob_batches(infos: Iterator[pfs_pb2.FileInfo]) -> Iterator[pfsd_pb2.FileBatch]:
    """Files as messages."""
    return (pfsd_pb2.FileBatch(files=batch) for batch in _batches(infos, _path_size))


def diff_batches(comparison: Comparison) -> Iterator[pfsd_pb2.DiffBatch]:
    """A comparison as messages: all new files before the first old one."""
    for batch in _batches(comparison.new_files(), _path_size):
        yield pfsd_pb2.DiffBatch(new_files=batch)
    for batch in _batches(comparison.old_files(), _path_size):
        yield pfsd_pb2.DiffBatch(old_files=batch)


def _batches(items: Iterator[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in lists that fit a message."""
    batch: list[T] = []
    left = BATCH_BYTES
    for item in items:
        batch.append(item)
        left -= size(item)
        if len(batch) >= BATCH or left <= 0:
            yield batch
            batch, left = [], BATCH_BYTES
    if batch:
        yield batch


def _path_size(info: pfs_pb2.FileInfo) -> int:
    return len(info.file.path)


def _prefix(asked: str) -> str:
    """What the paths of a directory's entries begin with: `a/b` lists `a/b/x`, `/a/` lists `/a/x`, the root `x`."""
    return convert.below(asked, "x")[:-1]
