"""The directories of the repository view that can change: the mount's root, repos, and the roots of commits."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import trio

from pfsd.errors import AlreadyExistsError, InvalidError, NotEmptyError, NotFoundError, UnavailableError
from pfsd.names.ancestry import parse_ancestor
from pfsd.names.paths import is_commit_id
from pfsd.runtime.groups import ungrouped
from pfsd.trees import attributes, entries, tree
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import DirEntry
from pfsfuse.client.attachment import Attachment
from pfsfuse.client.commits import CommitRecord, Commits, nanoseconds
from pfsfuse.client.daemon import IMPATIENCE, Daemon
from pfsfuse.client.writes import Writer
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import ChangingDir, Found, Inode, InodeTable, Snapshot
from pfsfuse.opencommits.opencommit import OpenCommit
from pfsfuse.opencommits.openservices import Services

_REPO_TIMEOUT = 1.0
"""A repo's name leads to its directory, whose entries are asked for each time: it may be kept for a moment."""
_COMMIT_TIMEOUT = 60.0
"""A finished commit goes only with its repo."""
_PARALLEL = 8
COMMIT_KEY = b"/commit/"
"""Before a commit's id: the key of its root directory."""
_KEPT_NAMES = 1024

_REPO_NAME = re.compile(r"[A-Za-z0-9_-]+")


class ViewState:
    """What the changing directories share."""

    def __init__(self, daemon: Daemon, content: Content, all_commits: bool) -> None:
        self.daemon = daemon
        self.writer = writer = Writer(daemon)
        self.attachment = Attachment(daemon, lambda: writer.progress)
        self.commits = Commits(daemon, self.attachment)
        self.content = content
        self.all_commits = all_commits
        self.open_commits: dict[str, OpenCommit] = {}
        self.services: Services
        self.led: OrderedDict[tuple[str, str], str] = OrderedDict()
        """The commits to which names in repos led last."""
        self.left: Callable[[Inode, str, str], None]

    def leads(self, repo: Inode, name: str, commit_id: str) -> None:
        """A name in a repo leads to this commit now."""
        key = (repo.name.decode(), name)
        before = self.led.pop(key, commit_id)
        self.led[key] = commit_id
        if len(self.led) > _KEPT_NAMES:
            self.led.popitem(last=False)
        if before != commit_id:
            self.left(repo, name, before)

    def open_commit(self, repo_dir: Inode, commit: CommitRecord) -> OpenCommit:
        """The open commit of a record that was just asked for."""
        known = self.open_commits.get(commit.id)
        if known is None:
            snapshot = Snapshot(commit.repo, commit.id, commit.time_ns, commit.provenance)
            known = OpenCommit(repo_dir, snapshot, commit.root or tree.EMPTY, self.services)
            known.top.kept.told(attributes.decode(commit.attributes))
            self.open_commits[commit.id] = known
        if commit.root is not None:
            known.install(commit.root, commit.asked, commit.until)
        return known

    def ended(self, commit_id: str) -> None:
        """An open commit is neither in use nor has it something to send."""
        self.open_commits.pop(commit_id, None)


class MountRoot(ChangingDir):
    """The mount's root: the repos."""

    __slots__ = ("_known", "_state")

    def __init__(self, state: ViewState) -> None:
        super().__init__(None, b"", time.time_ns())
        self._state = state
        self._known: dict[str, int] = {}
        """Repos that were seen, each with the time of its creation: they are walked through without the daemon too."""

    async def find(self, name: str) -> Found | None:
        if not _REPO_NAME.fullmatch(name):
            return None
        try:
            info = await self._state.daemon.inspect_repo(name, IMPATIENCE if name in self._known else None)
        except NotFoundError:
            self._known.pop(name, None)
            return None
        except UnavailableError:
            if name not in self._known:
                raise
        else:
            self._known[name] = nanoseconds(info.created)
        return Found(Repo(self, name, self._known[name], self._state), _REPO_TIMEOUT)

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
            Found(Repo(self, info.repo.name, nanoseconds(info.created), self._state), _REPO_TIMEOUT) for info in infos
        ]


class Repo(ChangingDir):
    """A repo: its branches, and its commits by id."""

    __slots__ = ("_repo", "_state")

    def __init__(self, parent: Inode, name: str, created_ns: int, state: ViewState) -> None:
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
        is_id = is_commit_id(name)
        branch = "" if is_id or parse_ancestor(name) else name
        if not is_id:
            self._state.leads(self, name, commit.id)
        known = self._state.open_commits.get(commit.id)
        if not commit.finished:
            known = self._state.open_commit(self, commit)
        elif is_id:
            timeout = _COMMIT_TIMEOUT
        if known is not None and (not commit.finished or known.conclude(commit)):
            known.branch = branch or known.branch
            return Found(known.top, timeout, name.encode())
        return Found(CommitRoot(self, commit, branch, self._state), timeout, name.encode())


class CommitRoot(Inode):
    """The root directory of a finished commit, whatever names lead to it: the kernel moves it between them."""

    __slots__ = ("_commit", "_is_known", "_state", "branch")

    def __init__(self, parent: Repo, commit: CommitRecord, branch: str, state: ViewState) -> None:
        snapshot = Snapshot(commit.repo, commit.id, commit.time_ns, commit.provenance)
        value = entries.encode(
            replace(entries.EMPTY_DIR, attributes=commit.attributes)
        )  # until its content is asked for
        super().__init__(parent, COMMIT_KEY + commit.id.encode(), snapshot, value)
        self._commit = commit
        self._state = state
        self._is_known = False
        """Whether `value` tells the content, and not the attributes alone."""
        self.branch = branch
        """The branch that led to it last, unless another name did."""

    def settle_in(self, inodes: InodeTable) -> Inode:
        settled = super().settle_in(inodes)
        if isinstance(settled, CommitRoot):
            settled.branch = self.branch
        return settled

    @property
    def kept_attributes(self) -> Attributes:
        return attributes.decode(self._commit.attributes)

    async def directory(self) -> DirEntry:
        if not self._is_known:
            root = self._commit.root
            if root is None:
                root = (await self._state.commits.get(self._commit.repo, self._commit.id)).root or b""
            content = self._state.content
            entry = await content.run(lambda: entries.dir_entry(content.nodes, root))
            self._entry = replace(entry, attributes=self._commit.attributes)
            self.value, self._is_known = entries.encode(self._entry), True
        assert isinstance(self._entry, DirEntry)
        return self._entry
