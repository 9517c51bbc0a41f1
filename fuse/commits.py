"""Commits as the mount sees them: branches, ids, `BRANCH^` and `BRANCH~N`, each with the tree that it shows."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass, replace

import trio
from google.protobuf.timestamp_pb2 import Timestamp

from fuse.daemon import IMPATIENCE, Daemon
from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import InvalidError, NotFoundError, PfsError, UnavailableError

log = logging.getLogger(__name__)

BURST_SECONDS = 0.0004
"""Less than any call to the daemon that changes something takes."""
FRESH_SECONDS = 0.02
"""How late an announcement may be."""
BULK_WALKS = 16
BULK_TIMEOUT = 0.001
"""Seconds; the kernel rounds it up to one or two of its ticks of 1 to 10 ms."""

BUSY_SECONDS = 0.05
"""While the last write of this mount to an open commit is younger than this, ..."""
BUSY_FRESH_SECONDS = 0.1
"""... what other clients put may be seen this much later."""

_WATCH_AGAIN_SECONDS = 0.5
_KEPT = 1 << 16
_KEPT_HEADS = 1024
_ANCESTOR = re.compile(r"(?P<base>.+?)(?P<steps>(?:\^+|~[0-9]{0,9})+)")
_STEP = re.compile(r"\^|~(?P<count>[0-9]*)")


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
    """When a call began that told the root of an open commit, by trio's clock."""


@dataclass(slots=True)
class _Head:
    """What a name stood for, and when that was asked for and last answered to the kernel."""

    commit: CommitRecord
    asked: float
    answered: float
    walks: int
    """How many walks followed one another within `BURST_SECONDS`."""


class Commits:
    """Resolves what stands in a path where a branch or a commit does.

    The daemon is asked for each, but for walks in quick succession: while `watch` runs, a commit is the answer again
    for a walk that follows the last within `BURST_SECONDS`, in which nobody can have moved the branch and come back,
    unless a change of the repo was announced or the answer is older than `FRESH_SECONDS`; and for walks to an open
    commit that this mount is writing to. After `BULK_WALKS` of them (an `ls -l` by path makes one for each file) the
    kernel may answer by itself for `BULK_TIMEOUT`, where the commit is finished.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._finished: OrderedDict[tuple[str, str], CommitRecord] = OrderedDict()
        self._heads: dict[str, dict[str, _Head]] = {}
        self._open: dict[str, dict[str, _Head]] = {}
        self._written: OrderedDict[str, float] = OrderedDict()
        self._watching = False
        self._changes = 0

    async def watch(self) -> None:
        """Follow the daemon's announcements, also when it comes back, until cancelled."""
        while True:
            try:
                await self._daemon.watch_changes(self._changed)
            except PfsError as error:
                log.info("changes are not announced: %s", error)
            finally:
                self._watching = False
                self._heads.clear()
                self._open.clear()
            await trio.sleep(_WATCH_AGAIN_SECONDS)

    def _changed(self, repos: list[str]) -> None:
        self._watching = True
        for repo in repos:
            self.forget(repo)

    def forget(self, repo: str) -> None:
        """Something changed in a repo."""
        self._changes += 1
        self._heads.pop(repo, None)
        self._open.pop(repo, None)

    def note_write(self, commit_id: str) -> None:
        """This mount writes to an open commit: while it goes on, walks to it need not ask each time."""
        self._written[commit_id] = trio.current_time()
        self._written.move_to_end(commit_id)
        if len(self._written) > _KEPT_HEADS:
            self._written.popitem(last=False)

    async def root_of_open(self, repo: str, commit_id: str) -> tuple[bytes, bool]:
        """The root hash of an open commit's tree now, and whether it is finished. Raises NotFoundError."""
        tree = await self._daemon.commit_tree(repo, commit_id)
        return tree.root, tree.info.HasField("finished")

    async def resolve(self, repo: str, name: str) -> tuple[CommitRecord, float]:
        """The commit that `name` stands for now, with its root, and for how many seconds the kernel may keep it.

        `name` is a branch, a commit id, or either followed by any of `^` and `~N`. Raises NotFoundError.
        """
        asked = trio.current_time()
        known = self._heads.get(repo, {}).get(name)
        if known and asked - known.answered <= BURST_SECONDS and asked - known.asked <= FRESH_SECONDS:
            known.answered = asked
            known.walks += 1
            return known.commit, BULK_TIMEOUT if known.walks >= BULK_WALKS else 0.0
        open_head = self._open.get(repo, {}).get(name)
        if open_head is not None and self._is_fresh(open_head, asked):
            open_head.answered = asked
            return open_head.commit, 0.0
        changes = self._changes
        commit = await self._ask(repo, name)
        if not commit.finished:
            commit = replace(commit, asked=asked)
            if self._watching and changes == self._changes:
                self._open.setdefault(repo, {})[name] = _Head(commit, asked, trio.current_time(), 0)
        if not self._watching or not commit.finished or changes != self._changes:
            return commit, 0.0
        head = _Head(commit, asked, trio.current_time(), 0)
        if known and known.commit.id == commit.id and asked - known.answered <= FRESH_SECONDS:
            head.walks = known.walks if known.walks >= BULK_WALKS else 0
        heads = self._heads.setdefault(repo, {})
        heads[name] = head
        if len(heads) > _KEPT_HEADS:
            del heads[next(iter(heads))]
        return commit, BULK_TIMEOUT if head.walks else 0.0

    def _is_fresh(self, head: _Head, now: float) -> bool:
        """Whether an open commit's tree, as it was told, will do for a walk that begins now."""
        if now - self._written.get(head.commit.id, -1e9) <= BUSY_SECONDS:
            return now - head.asked <= BUSY_FRESH_SECONDS
        return now - head.answered <= BURST_SECONDS and now - head.asked <= FRESH_SECONDS

    async def _ask(self, repo: str, name: str) -> CommitRecord:
        known = self._finished.get((repo, name))
        try:
            return self._remember(_from_tree(await self._daemon.commit_tree(repo, name, IMPATIENCE if known else None)))
        except UnavailableError:
            if known is None:
                raise
            return known
        except (NotFoundError, InvalidError) as error:
            ancestor = parse_ancestor(name)
            if ancestor is None:
                raise NotFoundError(str(error)) from error
        base, count = ancestor
        commit = self._remember(_from_tree(await self._daemon.commit_tree(repo, base)))
        for _ in range(count):
            if commit.parent is None:
                raise NotFoundError(f"{repo}/{name} is before the first commit of {base}")
            commit = await self.get(repo, commit.parent)
        return commit

    async def get(self, repo: str, commit_id: str) -> CommitRecord:
        """The commit of that id, with its root."""
        known = self._finished.get((repo, commit_id))
        if known is not None and known.root is not None:
            return known
        return self._remember(_from_tree(await self._daemon.commit_tree(repo, commit_id)))

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


def parse_ancestor(name: str) -> tuple[str, int] | None:
    """`master^^` and `master~2` as ('master', 2); None for a name that does not end so."""
    match = _ANCESTOR.fullmatch(name)
    if match is None:
        return None
    counts = (step["count"] for step in _STEP.finditer(match["steps"]))
    return match["base"], sum(int(count) if count else 1 for count in counts)


def nanoseconds(time: Timestamp) -> int:
    """Nanoseconds since 1970."""
    return time.seconds * 1_000_000_000 + time.nanos


def _from_tree(tree: pfsd_pb2.CommitTree) -> CommitRecord:
    return _record(tree.info, tree.root)


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
