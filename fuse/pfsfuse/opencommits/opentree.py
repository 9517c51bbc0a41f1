"""What an open commit shows: its tree as the daemon last told it, and how long that holds.

See `Attach` in `pfsd.proto` for the leases by which it holds.
"""

from __future__ import annotations

import functools
import logging
import secrets
from typing import NamedTuple, Protocol

import trio

from pfsd.errors import NotFoundError, PfsError
from pfsd.names.paths import Path
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import LINK_BYTES
from pfsd.trees.links import LinkWalk, link_of
from pfsfuse.client.commits import CommitRecord
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import FOREVER, Inode, InodeTable, Snapshot
from pfsfuse.opencommits import recalled
from pfsfuse.opencommits.links import Group, LinkTable
from pfsfuse.opencommits.nodeattributes import now_ns
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.recalled import TooManyError

log = logging.getLogger(__name__)

CONTENDED_SECONDS = 1.0
"""For which the kernel keeps nothing of a commit after another client has changed it."""


class Place(NamedTuple):
    """A name in a directory. Whoever waits notes which name of a file is meant: it may go by another one then."""

    directory: OpenDir
    name: bytes

    def path(self) -> Path:
        """Where it is in the commit."""
        return (*self.directory.path(), self.name.decode())

    def go_by(self, node: OpenFile | OpenDir) -> None:
        """Let a node that stands here go by this name, if it has several."""
        if isinstance(node, OpenFile) and node.group is not None:
            node.name_at(*self)

    def go_by_still(self, node: OpenFile | OpenDir) -> None:
        """The same for one that stood here some time ago; raises NotFoundError where it does not any more."""
        group = node.group if isinstance(node, OpenFile) else None
        is_here = (node.parent, node.key) == self if group is None else self.path() in group.paths
        if not node.is_linked or not is_here:
            raise NotFoundError(f"/{'/'.join(self.path())} is not there any more")
        self.go_by(node)


class CommitSource(Protocol):
    """What tells how an open commit is now (`pfsfuse.client.commits.Commits`)."""

    async def tree_of_open(self, repo: str, commit_id: str) -> CommitRecord:
        """The commit, which may be finished. Raises NotFoundError when it is deleted."""


class OpenTree:
    """The tree of one open commit, or of one that was open when a program began to use it."""

    def __init__(
        self, snapshot: Snapshot, root: bytes, content: Content, inodes: InodeTable, commits: CommitSource
    ) -> None:
        self.snapshot = snapshot
        self.root = root
        """Root hash of its tree, as it was last told."""
        self.is_closed = False
        """Whether it is finished or deleted: nothing can be written any more."""
        self.content = content
        self.inodes = inodes
        self.top: OpenDir
        self.recalls = 0
        """How often another client has changed it."""
        self.lease = 0
        """The number of the lease by which `root` was told last; 0 for none."""
        self.epoch = 0
        """Becomes another whenever another client may have changed it."""
        self._commits = commits
        self._asked = -1.0
        self._until = -1.0
        """Until when `root` is the commit's tree, by trio's clock."""
        self._contended = -1.0
        """Until when the kernel may keep nothing."""
        self._shown = -1.0
        """Until when the kernel may keep something ..."""
        self._shown_root = root
        """... of this tree, or ..."""
        self._touched: set[tuple[int, bytes]] = set()
        """... under these names in directories, which were changed through this mount meanwhile."""
        self._is_final = False
        """Whether it is finished and lacks nothing that was written here."""
        self.time_ns = snapshot.time_ns
        """The time of what has none of its own."""
        self.links: LinkTable[OpenFile, OpenDir] = LinkTable()
        self._error: PfsError | None = None
        self._given_up: dict[OpenFile, PfsError] = {}
        """Why files that programs have open are not in the commit, until that is told."""

    def __str__(self) -> str:
        return f"{self.snapshot.repo}/{self.snapshot.commit}"

    @property
    def timeout(self) -> float:
        """Seconds for which the kernel may keep names, also those of nothing, and attributes, if it is told now."""
        if self._is_final:
            return FOREVER
        now = trio.current_time()
        if self.is_closed or now < self._contended or self._until <= now:
            return 0.0
        if now >= self._shown:
            self._shown_root = self.root
            self._touched.clear()
        self._shown = max(self._shown, self._until)
        return self._until - now

    def install(self, root: bytes, asked: float, until: float = -1.0, lease: int = 0) -> None:
        """The commit's tree as it was told to a call that began at `asked`, and until when and by which lease it is
        that.
        """
        if asked >= self._asked and not self.is_closed:
            self.epoch += asked > self._until
            self.root, self._asked = root, asked
            self._until = max(self._until, until)
            self.lease = lease or self.lease

    def touch(self, directory: Inode, name: bytes) -> None:
        """A name, or what it stands for, is changed through this mount."""
        if len(self._touched) <= recalled.MOST_NAMES:
            self._touched.add((directory.ino, name))

    @property
    def is_certain(self) -> bool:
        """Whether `root` is the commit's tree now."""
        return trio.current_time() < self._until

    def dirty_files(self) -> list[OpenFile]:
        """The files of which the daemon lacks something."""
        found = {file: None for file in self.links.files() if file.is_dirty}  # its names may not be known here
        directories = [self.top]
        while directories:  # not recursion, as in `InodeTable.recheck`
            for child in directories.pop().children.values():
                if isinstance(child, OpenDir):
                    directories.append(child)
                elif child.is_dirty:
                    found[child] = None
        return list(found)

    async def freshen(self) -> None:
        """Ask for the commit's tree unless what was told holds."""
        if not self.is_closed and not self.is_certain:
            await self.refresh()

    async def refresh(self) -> None:
        """Ask for the commit's tree."""
        try:
            commit = await self._commits.tree_of_open(self.snapshot.repo, self.snapshot.commit)
        except NotFoundError:
            self.close()
            return
        if not self.top.kept.is_dirty:
            self.top.kept.told(attributes.decode(commit.attributes))
        if commit.finished:
            self.install(commit.root or self.root, trio.current_time())
            self.close()
        else:
            self.install(commit.root or self.root, commit.asked, commit.until, commit.lease)

    def lapse(self) -> None:
        """What was told of it holds no longer."""
        self._until = -1.0
        self.lease = 0

    async def recall(self) -> None:
        """Another client has changed it: have the kernel forget what it keeps of that."""
        now = trio.current_time()
        self.lapse()
        self.recalls += 1
        self._contended = now + CONTENDED_SECONDS
        if now >= self._shown:
            return
        before, touched = self._shown_root, list(self._touched)
        try:
            await self.refresh()
            changed = await recalled.changes(self.content, self.top, before, self.root, touched)
        except (PfsError, TooManyError) as error:
            log.info("%s: what the kernel keeps runs out: %s", self, error)
            await trio.sleep_until(self._shown + recalled.LATE_SECONDS)
        else:
            await recalled.forget(changed, self.inodes)

    def _finalize(self, commit: CommitRecord) -> None:
        """What it shows is exactly this commit, which is finished."""
        self.root, self.time_ns, self._is_final = commit.root or self.root, commit.time_ns, True
        self.epoch += 1
        self.close()

    @property
    def is_sending(self) -> bool:
        """Whether something is on its way."""
        return False

    async def flush(self) -> None:
        """Send everything that waits."""

    @property
    def has_links(self) -> bool:
        """Whether `links` is as the commit's tree is, with all that was done here."""
        return self.links.is_current(self.epoch)

    async def read_links(self) -> None:
        """Have `links` be as the commit's tree is, with all that was done here."""
        while not self.has_links:
            await self.flush()
            epoch, root, changes = self.epoch, self.root, self.links.changes
            nodes = self.content.nodes
            top = await self.content.run(functools.partial(entries.dir_entry, nodes, root))
            found = [
                (tuple(key.decode() for key in path), value)
                for path, value in await self.content.run(LinkWalk(nodes, top).run)
            ]
            if (epoch, root, changes) == (self.epoch, self.root, self.links.changes):
                self.links.read(epoch, found)

    def raise_error(self) -> None:
        """Raise what went wrong in the background since this was last asked."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def raise_given_up(self, node: OpenFile | None) -> None:
        """Raise why an open file is not in the commit, whoever else was told that something could not be sent."""
        error = self._given_up.pop(node, None) if node is not None else None
        if error is not None:
            raise error

    def note_error(self, error: PfsError) -> None:
        """Something went wrong that the next `raise_error` is to raise."""
        self._error = error

    def close(self) -> None:
        """It is finished or deleted."""
        self.is_closed = True

    def move(self, node: OpenFile | OpenDir, parent: OpenDir, name: bytes) -> None:
        """The node stands elsewhere from now on."""
        before, path = node.parent, node.path()
        assert isinstance(before, OpenDir)
        if before.children.get(node.key) is node:
            del before.children[node.key]
        group = node.group if isinstance(node, OpenFile) else None
        if group is not None:
            group.places.discard((before, node.key))
            group.places.add((parent, name))
            self.links.remove(group, (*before.path(), node.key.decode()))
            self.links.add(group, (*parent.path(), name.decode()))
        node.parent, node.key = parent, name
        parent.children[name] = node
        if isinstance(node, OpenDir):
            node.moved()
            self.links.move(path, node.path())
        node.kept.changed_ns = now_ns()
        self.inodes.recheck(before)

    async def link(self, node: OpenFile, parent: OpenDir, name: bytes) -> None:
        """Give a file, which is no directory, one more name."""
        await self.read_links()
        if self.is_sending:  # it may be on its way
            await self.flush()
        group = node.group
        if group is None:
            group = node.group = Group(node)
            assert isinstance(node.parent, OpenDir)
            group.places.add((node.parent, node.key))
            self.links.add(group, node.path())
        if not node.kept.link:
            node.kept.link = secrets.token_bytes(LINK_BYTES)
        path = (*parent.path(), name.decode())
        self.links.add(group, path)
        group.places.add((parent, name))
        group.unsent.add(path)
        parent.children[name] = node
        node.change_attributes()
        parent.note_change(name)

    def is_still(self, node: OpenFile | OpenDir, directory: OpenDir, name: bytes, value: bytes) -> bool:
        """Whether an entry that the tree has under a name is that of the node that stood there."""
        if isinstance(node, OpenDir) or node.value[0] != value[0]:
            return node.value[0] == value[0]
        group = self.links.at((*directory.path(), name.decode())) if link_of(value) else None
        if node.group is not None:
            return group is node.group
        return group is None or group.node in (None, node)

    def lose(self, directory: OpenDir, name: bytes) -> None:
        """Another client has removed or replaced what stood under a name; a file may have others."""
        node = directory.children.pop(name)
        node.is_linked = False
        if isinstance(node, OpenFile) and node.group is not None:
            node.name_at(directory, name)
            node.is_linked = self.drop_name(node, node.group, directory)

    def drop_name(self, node: OpenFile, group: Group[OpenFile, OpenDir], parent: OpenDir) -> bool:
        """A file loses the name by which it goes; whether it has another."""
        self.links.remove(group, (*parent.path(), node.key.decode()))
        group.places.discard((parent, node.key))
        if group.places:
            node.name_at(*next(iter(group.places)))
        return bool(group.paths)


def unsent_names(node: OpenFile | OpenDir) -> set[Path]:
    """The names of a file that the daemon lacks, of one with several."""
    return node.group.unsent if isinstance(node, OpenFile) and node.group is not None else set()
