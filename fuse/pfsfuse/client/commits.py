"""Commits as the mount sees them: branches, ids, `BRANCH^` and `BRANCH~N`, each with the tree that it shows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio
from google.protobuf.timestamp_pb2 import Timestamp

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import InvalidError, NotFoundError, UnavailableError
from pfsfuse.client.daemon import IMPATIENCE, Daemon

_KEPT = 1 << 16
_KEPT_HEADS = 1024


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit."""

    repo: str
    id: str
    time_ns: int
    """When it was finished, or else started, in nanoseconds since 1970."""
    finished: bool
    parent: str | None
    provenance: tuple[str, ...]
    """REPO/ID of every commit that it was made from."""
    root: bytes | None
    """Hash of its tree's root; None where only `Commits.get` would tell."""
    asked: float = 0.0
    """When the call began that told what an open commit holds, by trio's clock."""
    until: float = -1.0
    """Until when, by trio's clock, it can be relied on that this is what an open commit holds."""
    lease: int = 0
    """The number of the lease by which it can."""
    attributes: bytes = b""
    """Of its root directory, encoded."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What a name stands for."""

    commit: CommitRecord
    until: float
    """Until when, by trio's clock."""


@dataclass(slots=True)
class _Names:
    """What is known of the names in a repo."""

    heads: dict[str, _Head] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)
    """Those that the kernel may answer by itself, and until when; not the ids of finished commits, which stay."""
    changes: int = 0
    """How often it was all forgotten."""


class Leases(Protocol):
    """Tells how long an answer can be relied on (`pfsfuse.client.attachment.Attachment`)."""

    def lease(self, repo: str, commit: str, number: int, asked: float) -> float:
        """Until when holds what a call told that began at `asked` and was answered with a lease of that number."""


class Commits:
    """Resolves what stands in a path where a branch or a commit does.

    The daemon is asked, and its answer holds for as long as its lease: see `Attach` in `pfsd.proto`.
    """

    def __init__(self, daemon: Daemon, leases: Leases) -> None:
        self._daemon = daemon
        self._leases = leases
        self._finished: OrderedDict[tuple[str, str], CommitRecord] = OrderedDict()
        self._names: OrderedDict[str, _Names] = OrderedDict()

    def forget(self, repo: str) -> dict[str, float]:
        """Something changed in a repo. Returns the names that the kernel may still answer by itself, and until when."""
        names = self._names.get(repo)
        if names is None:
            return {}
        now = trio.current_time()
        shown = {name: until for name, until in names.shown.items() if until > now}
        names.heads.clear()
        names.shown.clear()
        names.changes += 1
        return shown

    def forget_all(self) -> dict[str, dict[str, float]]:
        """The same for every repo."""
        return {repo: self.forget(repo) for repo in self._names}

    async def tree_of_open(self, repo: str, commit_id: str) -> CommitRecord:
        """An open commit as it is now, which may be finished. Raises NotFoundError."""
        return await self._ask(repo, commit_id)

    async def resolve(self, repo: str, name: str) -> tuple[CommitRecord, float]:
        """The commit that `name` stands for now, with its root, and for how many seconds the kernel may keep it.

        `name` is a branch, a commit id, or either followed by any of `^` and `~N`. Raises NotFoundError.
        """
        names = self._names_in(repo)
        asked = trio.current_time()
        head = names.heads.get(name)
        if head is None or asked >= head.until:
            changes = names.changes
            head = _Head(*await self._resolve(repo, name, asked))
            if changes != names.changes:
                return head.commit, 0.0
            names.heads[name] = head
            if len(names.heads) > _KEPT_HEADS:
                del names.heads[next(iter(names.heads))]
        timeout = head.until - trio.current_time()
        if timeout <= 0:
            return head.commit, 0.0
        if name != head.commit.id or not head.commit.finished:
            names.shown[name] = head.until
        return head.commit, timeout

    def _names_in(self, repo: str) -> _Names:
        names = self._names.get(repo)
        if names is None:
            names = self._names[repo] = _Names()
            if len(self._names) > _KEPT_HEADS:
                self._names.popitem(last=False)
        else:
            self._names.move_to_end(repo)
        return names

    async def _resolve(self, repo: str, name: str, asked: float) -> tuple[CommitRecord, float]:
        """The commit that a name stands for, and until when."""
        known = self._finished.get((repo, name))
        try:
            tree = await self._daemon.commit_tree(repo, name, IMPATIENCE if known else None)
        except UnavailableError:
            if known is None or known.root is None:
                raise
            return known, asked
        except InvalidError as error:
            raise NotFoundError(str(error)) from error
        return self._told(tree, asked), self._leases.lease(repo, "", tree.lease, asked)

    async def _ask(self, repo: str, commit_id: str) -> CommitRecord:
        asked = trio.current_time()
        return self._told(await self._daemon.commit_tree(repo, commit_id), asked)

    def _told(self, tree: pfsd_pb2.CommitTree, asked: float) -> CommitRecord:
        commit = replace(_record(tree.info, tree.root), attributes=tree.attributes)
        if commit.finished:
            return self._remember(commit)
        until = self._leases.lease(commit.repo, commit.id, tree.lease, asked)
        return replace(commit, asked=asked, until=until, lease=tree.lease if until >= 0 else 0)

    async def get(self, repo: str, commit_id: str) -> CommitRecord:
        """The commit of that id, with its root."""
        known = self._finished.get((repo, commit_id))
        if known is not None and known.root is not None:
            return known
        return await self._ask(repo, commit_id)

    async def branches(self, repo: str) -> list[tuple[str, str]]:
        """Each branch of the repo with the id of its head."""
        return [(info.name, info.head.id) for info in await self._daemon.list_branches(repo) if info.head.id]

    async def all(self, repo: str) -> list[CommitRecord]:
        """Every commit of the repo, newest first; roots only where they are known."""
        found = []
        for info in await self._daemon.list_commits(repo):
            known = self._finished.get((repo, info.commit.id))
            found.append(known or self._remember(_record(info, None)))
        return found

    def _remember(self, commit: CommitRecord) -> CommitRecord:
        if commit.finished:
            self._finished[commit.repo, commit.id] = commit
            if len(self._finished) > _KEPT:
                self._finished.popitem(last=False)
        return commit


def nanoseconds(time: Timestamp) -> int:
    """Nanoseconds since 1970."""
    return time.seconds * 1_000_000_000 + time.nanos


def _record(info: pfs_pb2.CommitInfo, root: bytes | None) -> CommitRecord:
    finished = info.HasField("finished")
    return CommitRecord(
        info.commit.repo.name,
        info.commit.id,
        nanoseconds(info.finished if finished else info.started),
        finished,
        info.parent_commit.id or None,
        tuple(f"{made_from.repo.name}/{made_from.id}" for made_from in info.provenance),
        root,
    )
