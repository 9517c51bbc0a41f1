"""Files of commits: putting, reading, listing, finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pfsd.chunks import content
from pfsd.errors import InvalidError, IsADirectoryPfsError, NotADirectoryPfsError, NotFoundError, StateError
from pfsd.filesystem.bulkuploads import BulkUpload
from pfsd.filesystem.uploads import Upload
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.names import paths
from pfsd.names.paths import Path
from pfsd.trees import dirs, entries, globs, symlinks, tree
from pfsd.trees.entries import Chunk, DirEntry, Entry, FileEntry, SymlinkEntry


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the path at which it stands."""

    path: Path
    entry: Entry


@dataclass(frozen=True, slots=True)
class Described:
    """An entry as clients are told of it."""

    entry: Entry
    target: Entry | None = None
    """What a symbolic link leads to. In lists not a directory: who walks those that are told ends nowhere else."""

    @property
    def content(self) -> Entry:
        """What is read there."""
        return self.entry if self.target is None else self.target


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
        """The entry that a path leads to, symbolic links followed.

        Raises NotFoundError, and InvalidError for a link that leads out of the commit.
        """
        found = symlinks.resolve(self._root.nodes, self._commits.tree(commit), paths.parse(path))
        if found is None:
            raise NotFoundError(f"file {path} not found in repo {commit.repo} at commit {commit.id}")
        return found[1]

    def describe(self, commit: Commit, path: str) -> Described:
        """What stands at a path, with what it leads to where that is a symbolic link; raises NotFoundError."""
        parts = paths.parse(path)
        top = self._commits.tree(commit)
        if not parts:
            return Described(entries.with_attributes(top, bytes.fromhex(commit.attributes)))
        entry = dirs.lookup(self._root.nodes, top, parts)
        if isinstance(entry, SymlinkEntry):
            return Described(entry, symlinks.target_of(self._root.nodes, top, parts, entry))
        return Described(self.inspect(commit, path) if entry is None else entry)

    def describer(self, commit: Commit) -> Callable[[Path, Entry], Described]:
        """A function that gives what an entry of a list tells; see `Described`."""
        top = self._commits.tree(commit)

        def describe(path: Path, entry: Entry) -> Described:
            if not isinstance(entry, SymlinkEntry):
                return Described(entry)
            target = symlinks.target_of(self._root.nodes, top, path, entry)
            return Described(entry, None if isinstance(target, DirEntry) else target)

        return describe

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
            if isinstance(entry, DirEntry):
                raise IsADirectoryPfsError(f"{path or '/'} is a directory: name a file, or read it recursively (-r)")
            raise StateError(f"{path} is a named pipe, a socket or a device: there is nothing to read in it")
        return content.read(self._root.nodes, self._root.chunks, entry, offset, size or None)

    def glob(self, commit: Commit, pattern: str, *, recursive: bool = False) -> Iterator[Found]:
        """The entries that match a pattern, in path order; raises InvalidError when it is malformed.

        `recursive` says what `**` means: see `globs`.
        """
        compiled = globs.compile(pattern, recursive=recursive)
        top = self._commits.tree(commit)
        return (Found(path, entry) for path, entry in compiled.walk(self._root.nodes, top))

    def glob_changes(self, old: Commit, new: Commit, pattern: str, *, recursive: bool = False) -> Iterator[Difference]:
        """Where what matches a pattern differs between two commits, in path order; raises InvalidError."""
        compiled = globs.compile(pattern, recursive=recursive)
        before, after = self._commits.tree(old), self._commits.tree(new)
        found = compiled.changes(self._root.nodes, before, after)
        return (Difference(path, new=now, old=then) for path, then, now in found if not _is_same(now, then))

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
        if _is_same(new, old):
            return
        if not (isinstance(new, DirEntry) or isinstance(old, DirEntry)):
            yield Difference((), new, old)
            return
        yield from _replaced((), new, old)
        below: list[tuple[Path, Iterator[tuple[str, Entry | None, Entry | None]]]]
        below = [((), self._changed(new, old))]  # not recursion: directories may lie deep
        while below:
            path, changed = below[-1]
            found = next(changed, None)
            if found is None:
                below.pop()
                continue
            name, before, after = found
            if _is_same(before, after):
                continue
            here = (*path, name)
            if shallow or not (isinstance(before, DirEntry) or isinstance(after, DirEntry)):
                yield Difference(here, after, before)
            else:
                yield from _replaced(here, after, before)
                below.append((here, self._changed(after, before)))

    def _changed(self, new: Entry | None, old: Entry | None) -> Iterator[tuple[str, Entry | None, Entry | None]]:
        """The names under which two entries have something else, where at least one is a directory."""
        before, after = (entry.root if isinstance(entry, DirEntry) else tree.EMPTY for entry in (old, new))
        return dirs.changes(self._root.nodes, before, after)

    # --- writing

    def upload(self, commit: Commit) -> Upload:
        """A set of puts into an open commit that takes effect as one; raises StateError when it is finished."""
        self._commits.open_staging(commit)
        return Upload(self._root, self._commits, commit)

    def bulk_upload(self, commit: Commit, lease: int = 0) -> BulkUpload:
        """Puts into an open commit that take effect message by message; raises StateError when it is finished."""
        self._commits.open_staging(commit)
        return BulkUpload(self._root, self._commits, commit, lease)

    def delete(self, commit: Commit, path: str) -> None:
        """Remove a file or directory from an open commit; what is not there is no error."""
        staging = self._commits.open_staging(commit)
        with staging.lock:
            self._commits.open_staging(commit)
            staging.delete(paths.parse(path))


def _is_same(one: Entry | None, other: Entry | None) -> bool:
    """Whether nothing differs that counts as a change: see "plain" in `pfsd.trees.entries`."""
    if one is None or other is None:
        return one is other
    return one == other or entries.plain(one) == entries.plain(other)


def _replaced(path: Path, new: Entry | None, old: Entry | None) -> Iterator[Difference]:
    """The file or link that a directory replaces at a path, or that replaces one."""
    if new is not None and not isinstance(new, DirEntry):
        yield Difference(path, new, None)
    if old is not None and not isinstance(old, DirEntry):
        yield Difference(path, None, old)
