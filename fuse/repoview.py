"""The repository view: MOUNT/REPO/BRANCH-OR-COMMIT/PATH, read-only.

A path walk through a branch asks for its present head and goes on in that commit's inodes, so whatever was
opened stays on its commit when the branch moves. `REPO/COMMIT-ID`, `REPO/BRANCH^` and `REPO/BRANCH~N` can be
named without being listed.
"""

from __future__ import annotations

import re
import time

import trio

from fuse.commits import CommitRecord, Commits, nanoseconds
from fuse.content import Content
from fuse.daemon import Daemon
from fuse.groups import ungrouped
from fuse.inodes import ChangingDir, Found, Inode, Snapshot
from fuse.view import View
from pfsd import entries
from pfsd.entries import DirEntry
from pfsd.errors import NotFoundError
from pfsd.paths import is_commit_id

_REPO_TIMEOUT = 1.0
"""A repo's name leads to its directory, whose entries are asked for each time: it may be kept for a moment."""
_COMMIT_TIMEOUT = 60.0
"""A finished commit goes only with its repo."""
_PARALLEL = 8

_REPO_NAME = re.compile(r"[A-Za-z0-9_-]+")


class RepositoryView(View):
    """All repos of a daemon; with `all_commits`, repos list every commit beside their branches."""

    def __init__(self, content: Content, daemon: Daemon, *, all_commits: bool = False) -> None:
        self._daemon = daemon
        self._commits = Commits(daemon)
        state = _State(daemon, self._commits, content, all_commits)
        super().__init__(content, _MountRoot(state))

    async def watch(self) -> None:
        """Run it beside the mount: it makes walks through branches cheap (see `fuse.commits.Commits`)."""
        await self._commits.watch()

    async def totals(self) -> tuple[int, int]:
        """Bytes in all repos, as `list-repo` counts them; files are not counted."""
        return sum(info.size_bytes for info in await self._daemon.list_repos()), 0


class _State:
    """What the changing directories share."""

    def __init__(self, daemon: Daemon, commits: Commits, content: Content, all_commits: bool) -> None:
        self.daemon = daemon
        self.commits = commits
        self.content = content
        self.all_commits = all_commits


class _MountRoot(ChangingDir):
    """The mount's root: the repos."""

    __slots__ = ("_state",)

    def __init__(self, state: _State) -> None:
        super().__init__(None, b"", time.time_ns())
        self._state = state

    async def find(self, name: str) -> Found | None:
        if not _REPO_NAME.fullmatch(name):
            return None
        try:
            info = await self._state.daemon.inspect_repo(name)
        except NotFoundError:
            return None
        return Found(_Repo(self, name, nanoseconds(info.created), self._state), _REPO_TIMEOUT)

    async def listing(self) -> list[Found]:
        infos = sorted(await self._state.daemon.list_repos(), key=lambda info: info.repo.name)
        return [
            Found(_Repo(self, info.repo.name, nanoseconds(info.created), self._state), _REPO_TIMEOUT) for info in infos
        ]


class _Repo(ChangingDir):
    """A repo: its branches, and its commits by id."""

    __slots__ = ("_repo", "_state")

    def __init__(self, parent: Inode, name: str, created_ns: int, state: _State) -> None:
        super().__init__(parent, name.encode(), created_ns)
        self._repo = name
        self._state = state

    async def find(self, name: str) -> Found | None:
        try:
            commit, timeout = await self._state.commits.resolve(self._repo, name)
        except NotFoundError:
            return None
        return self._found(name, commit, timeout)

    async def listing(self) -> list[Found]:
        commits = self._state.commits
        branches = await commits.branches(self._repo)
        found: dict[str, CommitRecord] = {}
        if self._state.all_commits:
            for commit in await commits.all(self._repo):
                found[commit.id] = commit
                if not commit.finished:  # its tree is part of its identity
                    branches.append((commit.id, commit.id))
        limiter = trio.CapacityLimiter(_PARALLEL)

        async def add(name: str, commit_id: str) -> None:
            async with limiter:
                try:
                    found[name] = await commits.get(self._repo, commit_id)
                except NotFoundError:
                    found.pop(name, None)  # deleted since it was listed

        with ungrouped():
            async with trio.open_nursery() as nursery:
                for name, commit_id in branches:
                    nursery.start_soon(add, name, commit_id)
        return [self._found(name, found[name]) for name in sorted(found, key=str.encode)]

    def _found(self, name: str, commit: CommitRecord, timeout: float = 0.0) -> Found:
        if commit.finished and is_commit_id(name):
            timeout = _COMMIT_TIMEOUT
        return Found(_CommitRoot(self, name, commit, self._state), timeout)


class _CommitRoot(Inode):
    """The root directory of a commit under one of its names.

    Each name has an inode of its own, because the kernel knows a directory under one name only. An
    open commit that is written to gets a new inode with each new tree.
    """

    __slots__ = ("_commit", "_state")

    def __init__(self, parent: Inode, name: str, commit: CommitRecord, state: _State) -> None:
        identity = commit.id.encode() if commit.finished else commit.id.encode() + (commit.root or b"")
        snapshot = Snapshot(commit.repo, commit.id, commit.time_ns, commit.provenance)
        super().__init__(parent, name.encode() + b"/" + identity, snapshot, b"\x02")
        self._commit = commit
        self._state = state

    async def directory(self) -> DirEntry:
        if self._entry is None:
            root = self._commit.root
            if root is None:
                root = (await self._state.commits.get(self._commit.repo, self._commit.id)).root or b""
            content = self._state.content
            self._entry = await content.run(lambda: entries.dir_entry(content.nodes, root))
            self.value = entries.encode(self._entry)
        assert isinstance(self._entry, DirEntry)
        return self._entry
