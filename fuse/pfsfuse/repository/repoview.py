"""The repository view: MOUNT/REPO/BRANCH-OR-COMMIT/PATH; open commits can be written.

A path walk through a branch asks for its present head and goes on in that commit's inodes, so whatever was
opened stays on its commit when the branch moves. `REPO/COMMIT-ID`, `REPO/BRANCH^` and `REPO/BRANCH~N` can be
named without being listed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable

import trio

from pfsd.errors import AlreadyExistsError, PfsError
from pfsd.runtime.apart import apart
from pfsd.runtime.groups import ungrouped
from pfsfuse.client.daemon import Daemon
from pfsfuse.content.content import Content
from pfsfuse.kernel import kernelcache
from pfsfuse.kernel.inodes import ROOT, Inode
from pfsfuse.kernel.mounts import FLUSH
from pfsfuse.kernel.walker import Walker
from pfsfuse.opencommits import recalled
from pfsfuse.opencommits.kept import kept_directory
from pfsfuse.opencommits.opencommit import OpenCommit, commit_of
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.openservices import Services
from pfsfuse.repository.atonce import AtOnce
from pfsfuse.repository.otherrequests import OtherRequests
from pfsfuse.repository.repodirs import COMMIT_KEY, CommitRoot, MountRoot, ViewState
from pfsfuse.repository.writable import WritableView

log = logging.getLogger(__name__)

FINISH = b"user.pfs.finish"
START = b"user.pfs.start"
DELETE = b"user.pfs.delete"
"""Setting one of these attributes on a branch or commit finishes, starts or deletes its open commit."""

_MOVE_SECONDS = 1.0
"""How long a recall may take over moving directories in the kernel; it then goes on without."""
_MOVE_AGAIN_SECONDS = (0.0, 0.05, 0.5)


class RepositoryView(WritableView):
    """All repos of a daemon; with `all_commits`, repos list every commit beside their branches.

    It is mounted at `mountpoint`; `scratch` is a directory for what is written and not sent yet.
    """

    def __init__(
        self,
        content: Content,
        daemon: Daemon,
        mountpoint: str,
        scratch: str,
        *,
        all_commits: bool = False,
        stored_owners: bool = False,
    ) -> None:
        self._daemon = daemon
        self._mountpoint = os.path.abspath(mountpoint)
        self._walker = Walker()
        self._state = ViewState(daemon, content, all_commits)
        self._commits = self._state.commits
        self._scratch = scratch
        super().__init__(content, MountRoot(self._state), stored_owners=stored_owners)
        self._quick = AtOnce(self)
        self._state.services = Services(
            content,
            self.inodes,
            self._state.writer,
            self._commits,
            self._state.attachment,
            scratch,
            self._start,
            self._state.ended,
            self._quick.let_go,
        )
        self._state.left = self._left
        self._nursery: trio.Nursery | None = None
        self._others = OtherRequests(self)

    def init(self) -> None:
        """Called before the first request: what the kernel is told once that nobody answers it does not ask again."""
        self._others.begin()

    async def watch(self, *, at_once: bool = True) -> None:
        """Run it beside the mount: it sends what is written, and keeps the mount attached to the daemon.

        Without `at_once`, libfuse gets every request, and can print it.
        """
        with ungrouped(), self._walker:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if at_once:
                    nursery.start_soon(self._quick.run)
                try:
                    await self._state.attachment.run(self)
                finally:
                    self._others.end()
                    self._nursery = None

    async def recall(self, repo: str, commit: str) -> None:
        self._quick.let_go()
        if commit:
            known = self._state.open_commits.get(commit)
            if known is not None:
                await known.recall()
            return
        await self._forget_names(repo, self._commits.forget(repo))
        for known in self._of_repo(repo):
            known.lapse()
            if self._nursery is not None:
                self._nursery.start_soon(apart, f"looking at {known}", None, self._look, known)

    async def _forget_names(self, repo: str, names: dict[str, float]) -> None:
        """Return when the kernel asks again for names in a repo, each with the time until which it need not."""
        left = dict(names)
        with trio.move_on_after(_MOVE_SECONDS):
            for name in names:
                commit = self._state.led.get((repo, name))
                if commit is not None and await self._move_to_id(repo, commit):
                    del left[name]
        if left:
            directory = self.inodes.number(ROOT, repo.encode())[0]
            # Not without end: what has the directory locked may be waiting for this very recall.
            with trio.move_on_at(max(left.values()) + recalled.LATE_SECONDS):
                await kernelcache.expire([(directory, os.fsencode(name)) for name in left])

    async def _move_to_id(self, repo: str, commit: str) -> bool:
        """Have the kernel know a commit's root directory by the commit's id alone; whether that could be done.

        The kernel drops the name of a directory when it leads elsewhere: `getcwd` would fail there from then on. A
        directory that it finds under another name it moves to that.
        """
        return await self._walker.look_up(os.path.join(self._mountpoint, repo, commit))

    def _left(self, repo: Inode, name: str, commit: str) -> None:
        """A name leads elsewhere now than to this commit, whose directory someone may be in."""
        known = self._state.open_commits.get(commit)
        used = known.top if known else self.inodes.number(repo.ino, COMMIT_KEY + commit.encode())[1]
        if used is not None and used.lookups > 0 and self._nursery is not None:
            what = f"moving the directory of {commit}"
            self._nursery.start_soon(apart, what, None, self._move_when_left, repo.name.decode(), commit)

    async def _move_when_left(self, repo: str, commit: str) -> None:
        for seconds in _MOVE_AGAIN_SECONDS:  # the kernel may be slow to take in where the name leads now
            await trio.sleep(seconds)
            await self._move_to_id(repo, commit)

    def _of_repo(self, repo: str) -> list[OpenCommit]:
        return [commit for commit in self._state.open_commits.values() if commit.snapshot.repo == repo]

    async def _look(self, commit: OpenCommit) -> None:
        """It may be finished or deleted: what is written to it is then refused at once."""
        try:
            await commit.freshen()
        except PfsError as error:
            log.info("%s: %s", commit, error)

    async def send(self, commit: str) -> None:
        self._quick.let_go()
        known = self._state.open_commits.get(commit)
        if known is not None:
            try:
                await known.flush_all()
            except PfsError as error:
                known.note_error(error)
                log.error("%s: not all that was written is in the commit: %s", known, error)

    def lapse(self) -> None:
        self._quick.let_go()
        for commit in self._state.open_commits.values():
            commit.lapse()
        for repo, names in self._commits.forget_all().items():
            if self._nursery is not None:
                self._nursery.start_soon(apart, f"forgetting names in {repo}", None, self._forget_names, repo, names)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task)

    async def close(self, seconds: float) -> None:
        """Send what still waits, for so long; keep on this machine what can't be sent (see `kept`)."""
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
        elif name == FINISH and isinstance(inode, OpenDir) and inode is commit_of(inode).top:
            commit_of(inode).check_open()
            await commit_of(inode).finish()
            await self.recall(inode.commit.snapshot.repo, "")
        elif name == DELETE and isinstance(inode, OpenDir) and inode is commit_of(inode).top:
            commit_of(inode).check_open()
            await commit_of(inode).delete()
            await self.recall(inode.commit.snapshot.repo, "")
        elif (
            name == START
            and isinstance(inode, OpenDir)
            and inode is commit_of(inode).top
            and not commit_of(inode).is_closed
        ):
            raise AlreadyExistsError(f"commit {commit_of(inode)} is open already")
        elif name == START and inode.snapshot and _is_top(inode) and (branch := self.branch_of(inode)):
            await self._state.writer.start_commit(inode.snapshot.repo, branch)
            await self.recall(inode.snapshot.repo, "")
        else:
            return False
        return True

    def branch_of(self, inode: Inode) -> str:
        here: Inode | None = inode
        while here is not None and not isinstance(here, CommitRoot):
            here = here.parent
        return here.branch if here is not None else super().branch_of(inode)

    async def _flush(self, inode: Inode) -> None:
        one = commit_of(inode) if isinstance(inode, OpenDir | OpenFile) else None
        for commit in [one] if one else list(self._state.open_commits.values()):
            await commit.flush_all()
            commit.raise_error()


def _is_top(inode: Inode) -> bool:
    return isinstance(inode, CommitRoot) or (isinstance(inode, OpenDir) and inode is commit_of(inode).top)
