"""A file that overwrites what a split has made: a directory of numbered files, which it replaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from pfsd.errors import IsADirectoryPfsError
from pfsd.model.commits import Commits
from pfsd.model.records import Commit
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write
from pfsd.trees import dirs
from pfsd.trees.entries import DirEntry

SPLIT_NAME = re.compile(rb"[0-9a-f]{16}")
"""The name of a file that a split has made."""


def apply(
    root: Root, commits: Commits, commit: Commit, staging: Staging, writes: Callable[[], Iterable[Write]]
) -> None:
    """Stage what `writes` gives, each time anew, all or none.

    A file that overwrites what a split has made replaces it.
    """
    try:
        staging.apply(writes())
    except IsADirectoryPfsError:
        if not any(write.overwrite for write in writes()):
            raise
        staging.apply(list(replacing(root, commits.tree(commit), writes())))


def replacing(root: Root, top: DirEntry, writes: Iterable[Write]) -> Iterator[Write]:
    """`writes` into a tree, with the removal of what a split has made before a file that overwrites it.

    Other directories stay in the way of a file.
    """
    for write in writes:
        if write.overwrite:
            entry = dirs.lookup(root.nodes, top, write.path)
            if isinstance(entry, DirEntry) and _is_split(root, entry):
                yield Write(write.path, remove=True)
        yield write


def _is_split(root: Root, directory: DirEntry) -> bool:
    """Whether a directory is what a split makes: files with numbers for names, at least one, and nothing else."""
    is_empty = True
    for name, entry in dirs.children(root.nodes, directory):
        if entry.is_dir or not SPLIT_NAME.fullmatch(name.encode()):
            return False
        is_empty = False
    return not is_empty
