"""The repository view: MOUNT/REPO/BRANCH-OR-COMMIT/PATH; open commits can be written.

A path walk through a branch asks for its present head and goes on in that commit's inodes, so whatever was
opened stays on its commit when the branch moves. `REPO/COMMIT-ID`, `REPO/BRANCH^` and `REPO/BRANCH~N` can be
named without being listed.
"""

from __future__ import annotations

import logging
import os
import re
import time

import trio

from fuse.commits import CommitRecord, Commits, nanoseconds, parse_ancestor
from fuse.content import Content
from fuse.daemon import IMPATIENCE, Daemon
from fuse.groups import ungrouped
from fuse.inodes import ChangingDir, Found, Inode, Snapshot
from fuse.kept import kept_directory
from fuse.mounts import FLUSH
from fuse.opencommit import OpenCommit, Services
from fuse.opennodes import OpenDir, OpenFile
from fuse.writable import WritableView
from fuse.writes import Writer
from pfsd import entries, tree
from pfsd.entries import DirEntry
from pfsd.errors import AlreadyExistsError, InvalidError, NotEmptyError, NotFoundError, PfsError, UnavailableError
from pfsd.paths import is_commit_id

log = logging.getLogger(__name__)

FINISH = b"user.pfs.finish"
START = b"user.pfs.start"
DELETE = b"user.pfs.delete"
"""Setting one of these attributes on a branch or commit finishes, starts or deletes its open commit."""

_REPO_TIMEOUT = 1.0
"""A repo's name leads to its directory, whose entries are asked for each time: it may be kept for a moment."""
_COMMIT_TIMEOUT = 60.0
"""A finished commit goes only with its repo."""
_PARALLEL = 8

_REPO_NAME = re.compile(r"[A-Za-z0-9_-]+")


class RepositoryView(WritableView):
    """All repos of a daemon; with `all_commits`, repos list every commit beside their branches.

    `scratch` is a directory for what is written and not sent yet.
    """

    def __init__(self, content: Content, daemon: Daemon, scratch: str, *, all_commits: bool = False) -> None:
        self._daemon = daemon
        self._commits = Commits(daemon)
        self._scratch = scratch
        self._state = _State(daemon, self._commits, content, all_commits)
        super().__init__(content, _MountRoot(self._state))
        self._state.services = Services(
            content, self.inodes, self._state.writer, self._commits, scratch, self._start, self._state.ended
        )
        self._nursery: trio.Nursery | None = None

    async def watch(self) -> None:
        """Run it beside the mount: it sends what is written, and makes walks through branches cheap."""
        with ungrouped():
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._commits.watch()
                finally:
                    self._nursery = None

    def _start(self, commit: OpenCommit) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(_write_behind, commit)

    async def close(self, seconds: float) -> None:
        """Send what still waits, for so long; keep on this machine what can't be sent (see `fuse.kept`)."""
        for commit in list(self._state.open_commits.values()):
            with trio.move_on_after(seconds):
                try:
                    await commit.flush_all()
                except PfsError as error:
                    log.error("%s: %s", commit, error)
            with trio.CancelScope(shield=True):
                await commit.salvage()

    async def totals(self) -> tuple[int, int]:
        """Bytes in all repos, as `list-repo` counts them; files are not counted."""
        return sum(info.size_bytes for info in await self._daemon.list_repos()), 0

    def kept_in(self) -> str:
        return str(kept_directory())

    def calls_made(self) -> int:
        return self._daemon.calls

    def free_bytes(self) -> int:
        """What can be written before it is sent."""
        found = os.statvfs(self._scratch)
        return found.f_bavail * found.f_frsize

    async def control(self, inode: Inode, name: bytes) -> bool:
        if name == FLUSH:
            await self._flush(inode)
        elif name == FINISH and isinstance(inode, OpenDir) and inode is inode.commit.top:
            inode.commit.check_open()
            await inode.commit.finish()
            self._commits.forget(inode.commit.snapshot.repo)
        elif name == DELETE and isinstance(inode, OpenDir) and inode is inode.commit.top:
            inode.commit.check_open()
            await inode.commit.delete()
            self._commits.forget(inode.commit.snapshot.repo)
        elif name == START and isinstance(inode, _CommitRoot) and inode.snapshot and inode.snapshot.branch:
            await self._state.writer.start_commit(inode.snapshot.repo, inode.snapshot.branch)
            self._commits.forget(inode.snapshot.repo)
        elif name == START and isinstance(inode, OpenDir) and inode is inode.commit.top:
            raise AlreadyExistsError(f"commit {inode.commit} is open already")
        else:
            return False
        return True

    async def _flush(self, inode: Inode) -> None:
        one = inode.commit if isinstance(inode, OpenDir | OpenFile) else None
        for commit in [one] if one else list(self._state.open_commits.values()):
            await commit.flush_all()
            commit.raise_error()


async def _write_behind(commit: OpenCommit) -> None:
    try:
        await commit.write_behind()
    except Exception:
        log.exception("writing to %s failed", commit)


class _State:
    """What the changing directories share."""

    def __init__(self, daemon: Daemon, commits: Commits, content: Content, all_commits: bool) -> None:
        self.daemon = daemon
        self.writer = Writer(daemon)
        self.commits = commits
        self.content = content
        self.all_commits = all_commits
        self.open_commits: dict[str, OpenCommit] = {}
        self.services: Services

    def open_commit(self, repo_dir: Inode, commit: CommitRecord) -> OpenCommit:
        """The open commit of a record that was just asked for."""
        known = self.open_commits.get(commit.id)
        if known is None:
            snapshot = Snapshot(commit.repo, commit.id, commit.time_ns, commit.provenance)
            known = OpenCommit(repo_dir, snapshot, commit.root or tree.EMPTY, self.services)
            self.open_commits[commit.id] = known
        elif commit.root is not None:
            known.install(commit.root, commit.asked)
        return known

    def ended(self, commit: OpenCommit) -> None:
        if self.open_commits.get(commit.snapshot.commit) is commit and not commit.pending:
            del self.open_commits[commit.snapshot.commit]


class _MountRoot(ChangingDir):
    """The mount's root: the repos."""

    __slots__ = ("_known", "_state")

    def __init__(self, state: _State) -> None:
        super().__init__(None, b"", time.time_ns())
        self._state = state
        self._known: dict[str, int] = {}
        """Repos that were seen, each with the time of its creation: they are walked through without the daemon too."""

    async def find(self, name: str) -> Found | None:
        if not _REPO_NAME.fullmatch(name):
            return None
        try:
            patience = IMPATIENCE if name in self._known else None
            info = await self._state.daemon.inspect_repo(name, patience)
        except NotFoundError:
            self._known.pop(name, None)
            return None
        except UnavailableError:
            if name not in self._known:
                raise
        else:
            self._known[name] = nanoseconds(info.created)
        return Found(_Repo(self, name, self._known[name], self._state), _REPO_TIMEOUT)

    async def make(self, name: str) -> Found:
        """Create a repo."""
        await self._state.writer.create_repo(name)
        made = await self.find(name)
        if made is None:
            raise NotFoundError(f"repo {name} was deleted")
        return made

    async def remove(self, name: str) -> None:
        """Delete a repo without commits."""
        if await self._state.daemon.list_commits(name):
            raise NotEmptyError(f"repo {name} has commits: use pachctl delete-repo")
        await self._state.writer.delete_repo(name)
        self._state.commits.forget(name)

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

    async def make(self, name: str) -> Found:
        """Start a commit on a new branch, or on one without a head."""
        if is_commit_id(name) or parse_ancestor(name):
            raise InvalidError(f"{name} can't be the name of a branch")
        if await self.find(name) is not None:
            raise AlreadyExistsError(f"branch {self._repo}/{name} is there already")
        await self._state.writer.start_commit(self._repo, name)
        self._state.commits.forget(self._repo)
        made = await self.find(name)
        if made is None:
            raise NotFoundError(f"branch {self._repo}/{name} was deleted")
        return made

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
        if not commit.finished:
            found = self._state.open_commit(self, commit)
            if not is_commit_id(name):
                found.branch = name
            return Found(found.top, 0.0, name.encode())
        if is_commit_id(name):
            timeout = _COMMIT_TIMEOUT
        return Found(_CommitRoot(self, name, commit, self._state), timeout)


class _CommitRoot(Inode):
    """The root directory of a commit under one of its names.

    Each name has an inode of its own, because the kernel knows a directory under one name only.
    """

    __slots__ = ("_commit", "_state")

    def __init__(self, parent: Inode, name: str, commit: CommitRecord, state: _State) -> None:
        branch = "" if is_commit_id(name) or parse_ancestor(name) else name
        snapshot = Snapshot(commit.repo, commit.id, commit.time_ns, commit.provenance, branch)
        super().__init__(parent, name.encode() + b"/" + commit.id.encode(), snapshot, b"\x02")
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
