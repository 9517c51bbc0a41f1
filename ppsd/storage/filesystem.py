"""The file system as the pipeline service sees it: a narrow interface, and the values that pass through it.

Commits, trees and records live in the daemon: `ppsd.storage.grpcfilesystem` reaches it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import RawIOBase
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CommitRef:
    """A commit of a repo."""

    repo: str
    id: str
    """32 hex digits, or in a request the name of a branch."""

    def __str__(self) -> str:
        return f"{self.repo}/{self.id}"


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern over the paths of a commit."""

    pattern: str
    recursive: bool = False
    """Whether `**` stands for any number of components."""


@dataclass(frozen=True, slots=True)
class CommitState:
    """What is known of a commit."""

    ref: CommitRef
    parent: str
    """Id of the parent commit, or empty."""
    finished_ns: int
    """Nanoseconds since the epoch; 0 while it is open."""
    provenance: tuple[CommitRef, ...]

    @property
    def finished(self) -> bool:
        return self.finished_ns != 0


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a commit."""

    path: str
    """Without a slash at its beginning."""
    size: int
    """Bytes."""
    content: bytes | None = None
    """All of it, where it is small."""


class FileSystem(Protocol):
    """What the pipeline service needs. Every method raises the classes of `pfsd.errors`."""

    async def repo_exists(self, name: str) -> bool:
        """Whether there is such a repo."""

    async def create_repo(self, name: str, provenance: Sequence[str], description: str, update: bool) -> None:
        """Make a repo; with `update`, also replace the provenance of the one that is there."""

    async def delete_repo(self, name: str) -> None:
        """Delete a repo that is no other's provenance."""

    async def repos_below(self, name: str) -> list[str]:
        """The repos that have this one in their provenance."""

    async def inspect_commit(self, commit: CommitRef) -> CommitState:
        """A commit, by id or branch."""

    async def list_commits(self, repo: str, since: str, to: str, number: int) -> list[CommitState]:
        """Commits newest first: `to` (id or branch) and its ancestors, as far as `since`, which is left out.

        An empty `since` goes to the first commit, an empty `to` gives all commits, a `number` of 0 sets no limit.
        """

    async def start_commit(self, repo: str, branch: str, parent: str, provenance: Sequence[CommitRef]) -> str:
        """Start a commit on a branch below `parent` (empty: the branch's head) and give its id."""

    async def finish_commit(self, commit: CommitRef) -> None:
        """Finish an open commit."""

    async def delete_commit(self, commit: CommitRef) -> None:
        """Delete an open commit."""

    async def fail_commit(self, commit: CommitRef, reason: str) -> None:
        """Say that an open commit will never finish."""

    async def set_branch(self, repo: str, branch: str, commit: str) -> None:
        """Point a branch at a commit."""

    async def delete_branch(self, repo: str, branch: str) -> None:
        """Remove a branch."""

    async def read_file(self, commit: CommitRef, path: str) -> bytes:
        """The content of a small file."""

    def all_files(self, commit: CommitRef) -> AbstractAsyncContextManager[AsyncIterator[list[ListedFile]]]:
        """All files of a commit, some at a time; those that are small with their content."""

    def reader(self, commit: CommitRef, path: str) -> RawIOBase:
        """A file's content, to be read in a thread; reading raises the classes of `pfsd.errors`."""

    async def put_file(self, commit: CommitRef, path: str, data: bytes) -> None:
        """Make a small file's content `data`, in an open commit."""

    async def glob_entries(self, commit: CommitRef, glob: Glob) -> list[tuple[str, bytes]]:
        """The paths that match in a commit, each with its tree entry."""

    async def glob_changes(self, old: CommitRef, new: CommitRef, glob: Glob) -> list[tuple[str, bytes, bytes]]:
        """The paths at which a pattern matches something else in a new commit than in an old one.

        Each with its old and its new tree entry; empty where nothing matches.
        """

    async def has_tags(self, tags: Sequence[str]) -> list[bool]:
        """Which tags there are."""

    async def delete_tag_prefix(self, prefix: str) -> None:
        """Remove all tags that begin with `prefix`."""

    async def merge_trees(self, commit: CommitRef, changes: Mapping[str, str], base: str, result: str) -> None:
        """Set an open commit's content to a merge of tagged trees: to that kept under the tag `base`, with changes.

        `changes` gives for an order (the trees are merged in that of these texts) the tag of its tree, or an empty text
        where it has none any more. An empty `base` has no trees. The merge is kept under the tag `result`.
        """

    async def collect_garbage(self) -> None:
        """Have what nothing can reach any more removed; returns when that is done."""

    def watch_changes(self) -> AbstractAsyncContextManager[AsyncIterator[frozenset[str]]]:
        """The repos in which something moved, as it does; an empty set comes first, when the watch is in place."""

    async def write_records(
        self,
        put: Mapping[str, bytes],
        delete: Sequence[str] = (),
        delete_prefix: Sequence[str] = (),
        sync: bool = True,
    ) -> None:
        """Write and delete records in one step, which with `sync` is on disk when the call returns."""

    async def scan_records(
        self, prefix: str, after: str = "", limit: int = 0, reverse: bool = False
    ) -> list[tuple[str, bytes]]:
        """Records by key prefix, in key order."""

    def hold_lease(self, name: str, holder: str) -> AbstractAsyncContextManager[None]:
        """Wait for a lease and hold it for as long as the body runs, which is cancelled when the lease is lost."""
