"""Changing an open commit in place: directories, removals, renames, as a writable mount asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pfsd.errors import (
    AlreadyExistsError,
    InvalidError,
    IsADirectoryPfsError,
    NotADirectoryPfsError,
    NotEmptyError,
    NotFoundError,
)
from pfsd.filesystem.ownareas import folded, own_area
from pfsd.filesystem.patches import hold
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.stagedrows import Kind
from pfsd.model.staging import Change, Staging, Write, put
from pfsd.names.paths import Path, join
from pfsd.runtime.references import as_operation
from pfsd.trees import attributes, dirs, entries
from pfsd.trees.entries import DirEntry, Entry, FileEntry, SpecialEntry, SymlinkEntry


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A new directory; its parent is one and nothing is at the path."""

    path: Path
    parents: bool = False
    """Whether those above it are made too, and it may be there."""


@dataclass(frozen=True, slots=True)
class Remove:
    """What is at a path goes, with all below it."""

    path: Path
    empty_directory: bool = False
    """Whether only an empty directory may go."""
    file: bool = False
    """Whether only a file may go."""


@dataclass(frozen=True, slots=True)
class Rename:
    """What is at a path moves; what it replaces is a file for a file, an empty directory for a directory."""

    source: Path
    target: Path
    no_replace: bool = False


@dataclass(frozen=True, slots=True)
class Replace:
    """The file, link or special file at a path becomes this, or comes to be."""

    path: Path
    entry: FileEntry | SymlinkEntry | SpecialEntry


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """What is at a path, which may be the commit's root, gets other attributes."""

    path: Path
    attributes: bytes


Step = MakeDirectory | Remove | Rename | Replace | SetAttributes


class Edits:
    """Edits the open commits of a root."""

    def __init__(self, root: Root, commits: Commits) -> None:
        self._root = root
        self._commits = commits

    @as_operation
    def apply(self, commit: Commit, steps: Sequence[Step], *, tells: bool = True) -> DirEntry | None:
        """Take all steps, or none when it raises; returns the commit's tree if `tells`, which costs folding it.

        Raises NotFoundError, AlreadyExistsError, NotEmptyError, IsADirectoryPfsError, NotADirectoryPfsError and
        InvalidError as the system calls do that the steps stand for, StateError when the commit is finished.
        """
        staging = self._commits.open_staging(commit)
        with staging.lock:
            self._commits.open_staging(commit)
            if _is_one_batch(steps):
                edit = _Edit(self._root, staging, lambda: self._commits.tree(commit))
                edit.take(steps)
                if edit.of_root is not None:
                    self._commits.set_attributes(commit, edit.of_root)
            else:
                with own_area(self._root, self._commits.tree(commit)) as area:
                    edit = _Edit(self._root, area, lambda: folded(self._root, area))
                    edit.take(steps)
                    self._commits.replace_tree(commit, area.fold(), edit.of_root)
            return self._commits.tree(commit) if tells else None


def _is_one_batch(steps: Sequence[Step]) -> bool:
    """Whether the steps of an edit can be stored by one write.

    A rename needs a tree with all that comes before it, and the attributes of the commit's root are stored elsewhere.
    """
    of_root = [step for step in steps if isinstance(step, SetAttributes) and not step.path]
    return not any(isinstance(step, Rename) for step in steps[1:]) and len(of_root) in (0, len(steps))


class _Edit:
    """The steps of an edit, which are staged in an area; `tree` gives the area's tree with what is staged."""

    def __init__(self, root: Root, staging: Staging, tree: Callable[[], DirEntry]) -> None:
        self._root = root
        self._staging = staging
        self._tree = tree
        self._change: Change | None = None
        self.of_root: bytes | None = None
        """Attributes that the commit's root is to have."""

    def take(self, steps: Sequence[Step]) -> None:
        """Check the steps and stage them: together, but for what comes before a rename."""
        for step in steps:
            self._take(step)
        self._stage()

    def _take(self, step: Step) -> None:
        if isinstance(step, MakeDirectory):
            if not step.parents:
                self._need_parent(step.path)
                if self._writes.kind(step.path) is not Kind.NOTHING:
                    raise AlreadyExistsError(f"{join(step.path)} already exists")
            self._writes.add(Write(step.path, directory=entries.EMPTY_DIR))
        elif isinstance(step, Remove):
            self._check_removal(step)
            self._writes.add(Write(step.path, remove=True))
        elif isinstance(step, Rename):
            self._need_parent(step.target)
            self._stage()
            for write in self._renamed(self._tree(), step):
                self._writes.add(write)
        elif isinstance(step, Replace):
            self._need_parent(step.path)
            self._writes.add(self._replaced(step))
        elif step.path:
            self._writes.add(self._with_attributes(step))
        else:
            self.of_root = _of_directory(step, "/")

    def _stage(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.commit()

    @property
    def _writes(self) -> Change:
        if self._change is None:
            self._change = self._staging.begin()
        return self._change

    def _replaced(self, step: Replace) -> Write:
        entry = entries.check(step.entry, join(step.path))
        if isinstance(entry, FileEntry):
            hold(self._root, entry.content, step.path)
        return put(step.path, entry, overwrite=True)

    def _with_attributes(self, step: SetAttributes) -> Write:
        kind, where = self._writes.kind(step.path), join(step.path)
        if kind is Kind.NOTHING:
            raise NotFoundError(f"{where} not found")
        if kind is Kind.FILE:
            return Write(step.path, attributes=attributes.checked(step.attributes, attributes.FILE_MODE, where))
        if kind is Kind.DIRECTORY:
            return Write(step.path, directory=entries.EMPTY_DIR, attributes=_of_directory(step, where))
        found = entries.with_attributes(self._writes.other(step.path), step.attributes)
        return put(step.path, entries.check(found, where))

    def _check_removal(self, step: Remove) -> None:
        kind = self._writes.kind(step.path)
        if kind is Kind.NOTHING:
            raise NotFoundError(f"{join(step.path)} not found")
        if step.file and kind is Kind.DIRECTORY:
            raise IsADirectoryPfsError(f"{join(step.path)} is a directory")
        if step.empty_directory:
            if kind is not Kind.DIRECTORY:
                raise NotADirectoryPfsError(f"{join(step.path)} is not a directory")
            if not self._writes.is_empty(step.path):
                raise NotEmptyError(f"{join(step.path)} is not empty")

    def _renamed(self, top: DirEntry, step: Rename) -> list[Write]:
        moved = self._find(top, step.source)
        if moved is None or not step.source:
            raise NotFoundError(f"{join(step.source)} not found")
        if step.target[: len(step.source)] == step.source and step.target != step.source:
            raise InvalidError(f"{join(step.source)} can't be moved below itself")
        replaced = self._find(top, step.target)
        if replaced is not None and step.no_replace:
            raise AlreadyExistsError(f"{join(step.target)} already exists")
        if step.source == step.target:
            return []
        if isinstance(moved, DirEntry) and replaced is not None:
            self._need_empty(replaced, step.target)
        if not isinstance(moved, DirEntry) and isinstance(replaced, DirEntry):
            raise IsADirectoryPfsError(f"{join(step.target)} is a directory")
        return [Write(step.source, remove=True), Write(step.target, remove=True), put(step.target, moved)]

    def _need_empty(self, entry: Entry, path: Path) -> None:
        if not isinstance(entry, DirEntry):
            raise NotADirectoryPfsError(f"{join(path)} is not a directory")
        if next(dirs.children(self._root.nodes, entry), None) is not None:
            raise NotEmptyError(f"{join(path)} is not empty")

    def _need_parent(self, path: Path) -> None:
        if not path:
            raise AlreadyExistsError("the root of a commit is always there")
        parent = self._writes.kind(path[:-1])
        if parent is Kind.NOTHING:
            raise NotFoundError(f"{join(path[:-1])} not found")
        if parent is not Kind.DIRECTORY:
            raise NotADirectoryPfsError(f"{join(path[:-1])} is not a directory")

    def _find(self, top: DirEntry, path: Path) -> Entry | None:
        return dirs.lookup(self._root.nodes, top, path)


def _of_directory(step: SetAttributes, where: str) -> bytes:
    """The attributes that a step gives a directory; raises InvalidError."""
    return attributes.checked(step.attributes, attributes.DIRECTORY_MODE, where)
