"""The job view: what a worker mounts at /pfs, narrowed to the datum in hand.

The root holds a directory for each input name, and `out`, over which the worker binds its scratch directory. Below an
input's name stands only what the datum has of it, at its path in the repo. The files of inputs marked lazy are named
pipes (`pfsfuse.job.lazy`). Their names and attributes answer a mere look with one node, and each open with a node, and
so a pipe, of its own; the inode number is one.

Mount it with `MOUNT_OPTIONS`: what feeds the pipes relies on the kernel's checking of permissions.
"""

from __future__ import annotations

import errno
import itertools
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError

from pfsd.errors import UnavailableError
from pfsd.names import paths
from pfsd.names.bytenames import shown_name
from pfsd.names.paths import Path
from pfsd.trees import dirs, entries
from pfsd.trees.entries import DirEntry, Entry
from pfsd.trees.tree import Pair
from pfsfuse.content.content import Content
from pfsfuse.job.lazy import HIDDEN, Pipes
from pfsfuse.job.lazy_callers import Intent, intent_of
from pfsfuse.kernel.errnos import answers, answers_nothing
from pfsfuse.kernel.inodes import FOREVER, ROOT, SHOWN_NAME_BYTES, ChangingDir, Found, Inode, Snapshot
from pfsfuse.kernel.view import View

OUT = "out"
"""The name of the output directory in the root."""

MOUNT_OPTIONS = frozenset({"ro", "default_permissions"})

_FILE = 1
"""How the entry of a file begins."""
_PIPE_MODE = stat.S_IFIFO | 0o444
_PAGE = 1024
"""Entries of a directory that are read at a time."""
_LAZY_LISTINGS = 1 << 48
"""Where the numbers of open directories with pipes begin."""


@dataclass(frozen=True, slots=True)
class JobInput:
    """One entry of a datum: a file or directory of an input commit."""

    name: str
    """The input's name: its directory in the view."""
    repo: str
    commit: str
    """Commit id."""
    time_ns: int
    """The commit's time, in nanoseconds since 1970."""
    path: Path
    """Where `entry` stands in the repo; empty for the whole tree."""
    entry: Entry
    lazy: bool = False
    """Whether its files are shown as named pipes."""


@dataclass(slots=True)
class _Branching:
    """A directory that holds some of what the repo's has: names to such directories or to entries."""

    time_ns: int
    children: dict[str, _Branching | JobInput] = field(default_factory=dict)


class _LazySnapshot(Snapshot):
    """The files that have it are pipes."""


@dataclass(slots=True)
class _LazyListing:
    """An open directory whose files are pipes, read a page at a time; offsets count its entries."""

    inode: Inode
    root: bytes
    first: int = 0
    page: list[Pair] = field(default_factory=list)
    after: bytes = b""
    """The key that follows the page."""


class JobView(View):
    """A file system that shows one datum at a time; `show` switches."""

    def __init__(self, content: Content) -> None:
        self._datum = _Datum(_Branching(time.time_ns()))
        self._kept = self._datum.top
        """What the kernel may have names of: it keeps them until they lead elsewhere."""
        super().__init__(content, _Shown(None, b"", (), self._datum))
        self.pipes = Pipes(content)
        """The feeders of lazy inputs; without `Pipes.running`, opening one of their files fails."""
        self._hidden = _Hidden(self.inodes[ROOT], HIDDEN + b"/", 0)
        self._numbers = itertools.count(1)
        self._lazy_listings: dict[int, _LazyListing] = {}

    async def show(self, inputs: Sequence[JobInput]) -> None:
        """Show this datum from now on. Entries of the same input name are merged.

        What an entry holds keeps its inodes, and so what the kernel has of it, while the datum after it
        has the same entry at the same path. Raises UnavailableError when the kernel can't be told what changed.
        """
        self._datum.top = top = _merge(inputs)
        if not inputs:  # nobody looks now: the next datum may have the same again
            return
        stale = list(self._stale(self.inodes[ROOT], self._kept, top))
        self._kept = top
        if stale:
            # In a thread, because it waits for lookups in these directories, which the loop answers.
            await trio.to_thread.run_sync(_forget_names, stale)

    def _stale(self, parent: Inode, before: _Branching, after: _Branching | None) -> Iterator[tuple[int, bytes]]:
        """The names below `parent` that the kernel may have and that lead elsewhere now."""
        assert isinstance(parent, _Shown)
        for name, child in before.children.items():
            present = None if after is None else after.children.get(name)
            if present == child:
                continue
            inode = self.inodes.settle(parent.found(name, child).inode)
            if not self._is_known(inode.ino):
                continue
            same = None
            if isinstance(child, _Branching):
                same = present if isinstance(present, _Branching) else None
                yield from self._stale(inode, child, same)
            if same is None or same.time_ns != child.time_ns:
                yield parent.ino, shown_name(name.encode())

    async def lookup_path(self, path: str) -> Entry | None:
        """The entry that /pfs/NAME/... stands for in the present datum.

        None where there is nothing, and for directories of which the datum has only a part. Raises
        InvalidError for a path that leads out of /pfs.
        """
        parts = paths.parse(path)
        if parts[:1] != ("pfs",):
            return None
        shown: _Branching | JobInput | None = self._datum.top
        for at, name in enumerate(parts[1:], 1):
            if isinstance(shown, JobInput):
                return await self._below(shown.entry, parts[at:])
            shown = None if shown is None else shown.children.get(name)
        return shown.entry if isinstance(shown, JobInput) else None

    async def _below(self, entry: Entry, path: Path) -> Entry | None:
        if not isinstance(entry, DirEntry):
            return None
        return await self.content.run(lambda: dirs.lookup(self.content.nodes, entry, path))

    async def totals(self) -> tuple[int, int]:
        """Bytes and files of the datum in hand."""
        size = files = 0
        for item in _items(self._datum.top):
            size += item.entry.size
            files += item.entry.files if isinstance(item.entry, DirEntry) else 1
        return size, files

    def eager_bytes(self) -> int:
        """Bytes of the inputs in hand that are not lazy."""
        return sum(item.entry.size for item in _items(self._datum.top) if not item.lazy)

    # --- pipes -------------------------------------------------------------------------------------------

    @answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        if ctx.pid in self.pipes.threads:
            return await self._lookup_hidden(parent_inode, name)
        attributes = await super().lookup(parent_inode, name, ctx)
        looked_at = self.inodes.find(attributes.st_ino)
        if looked_at is None or not _is_pipe(looked_at) or intent_of(ctx.pid) is Intent.LOOK:
            return attributes
        # The key's end tells this node from all others of the name.
        key = looked_at.key + b"/%d" % next(self._numbers)
        own = self.inodes.settle(_OwnNode(looked_at, key))
        self.inodes.remember(own)
        self.inodes.forget(looked_at.ino, 1)
        return self._attributes(own, 0)

    async def _lookup_hidden(self, parent_inode: int, name: bytes) -> EntryAttributes:
        """What a feeder asks for: the hidden directory, and in it nodes by number."""
        try:
            if parent_inode == ROOT and name == HIDDEN:
                inode = self.inodes.settle(self._hidden)
            elif parent_inode == self._hidden.ino:
                inode = self.inodes[int(name)]
            else:
                raise FUSEError(errno.ENOENT)
        except KeyError:
            raise FUSEError(errno.ENOENT) from None
        self.inodes.remember(inode)
        return self._attributes(inode, 0)

    @answers
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        found = self.inodes[inode]
        if _is_pipe(found) and ctx.pid not in self.pipes.threads:
            intent = intent_of(ctx.pid)
            if intent is Intent.WRITE:
                raise FUSEError(errno.EROFS)
            if intent is Intent.READ:
                await self.pipes.opening(found)
        return self._attributes(found, 0)

    @answers_nothing
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        await super().forget(inode_list)
        self.pipes.forget(ino for ino, _ in inode_list if not self._is_known(ino))

    def _is_known(self, ino: int) -> bool:
        try:
            return self.inodes[ino].ino == ino
        except KeyError:
            return False

    async def _node(self, parent: Inode, key: bytes, value: bytes) -> Inode:
        if isinstance(parent.snapshot, _LazySnapshot):  # each name is a pipe of its own
            return Inode(parent, key, parent.snapshot, value)
        return await super()._node(parent, key, value)

    def _attributes(self, inode: Inode, timeout: float) -> EntryAttributes:
        attributes = super()._attributes(inode, timeout)
        if _is_pipe(inode):
            attributes.st_mode = _PIPE_MODE
            attributes.entry_timeout = 0  # each open looks the name up, and so gets its own node,
            if isinstance(inode, _OwnNode):
                attributes.attr_timeout = 0  # and asks for its attributes
                attributes.st_rdev = inode.shown  # see csrc/answers/module.c
        return attributes

    # --- directories of lazy inputs ----------------------------------------------------------------------

    @answers
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        directory = self.inodes[inode]
        if not isinstance(directory.snapshot, _LazySnapshot):
            return await super().opendir(inode, ctx)
        handle = _LAZY_LISTINGS + next(self._numbers)
        self._lazy_listings[handle] = _LazyListing(directory, (await directory.directory()).root)
        return handle

    @answers_nothing
    async def releasedir(self, fh: int) -> None:
        if self._lazy_listings.pop(fh, None) is None:
            await super().releasedir(fh)

    @answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._lazy_listings.get(fh)
        if listing is None:
            await super().readdir(fh, start_id, token)
            return
        parent, at = listing.inode, start_id
        while await self._turn_lazy(listing, at):
            for key, value in listing.page[at - listing.first :]:
                inode = self.inodes.settle(Inode(parent, key, parent.snapshot, value))
                at += 1
                name = shown_name(key)
                if len(name) > SHOWN_NAME_BYTES:
                    continue
                if not pyfuse3.readdir_reply(token, name, self._attributes(inode, FOREVER), at):
                    return
                self.inodes.remember(inode)
            await trio.lowlevel.checkpoint()

    async def _turn_lazy(self, listing: _LazyListing, at: int) -> bool:
        """Bring in the page that holds entry `at`; False when there is no such entry."""
        if at < listing.first:
            listing.first, listing.page, listing.after = 0, [], b""
        while at >= listing.first + len(listing.page):
            listing.first += len(listing.page)
            listing.page = await self.content.page(listing.root, listing.after, _PAGE)
            if not listing.page:
                return False
            listing.after = listing.page[-1][0] + b"\0"
        return True


@dataclass(slots=True)
class _Datum:
    """What is shown now."""

    top: _Branching


class _Shown(ChangingDir):
    """A directory of the root, or one of which the datum has a part, by its path in the view."""

    __slots__ = ("_datum", "_path")

    def __init__(self, parent: Inode | None, key: bytes, path: Path, datum: _Datum) -> None:
        super().__init__(parent, key, 0)
        self._path = path
        self._datum = datum

    @property
    def time_ns(self) -> int:
        here = self._here()
        return here.time_ns if here is not None else 0

    async def find(self, name: str) -> Found | None:
        here = self._here()
        child = None if here is None else here.children.get(name)
        if child is not None:
            return self.found(name, child)
        return self._out() if self._holds_out() and name == OUT else None

    async def listing(self) -> list[Found]:
        here = self._here()
        children = {} if here is None else here.children
        found = [self.found(name, child) for name, child in children.items()]
        if self._holds_out():
            found.append(self._out())
        return sorted(found, key=lambda item: item.inode.name)

    def _here(self) -> _Branching | None:
        here: _Branching | JobInput | None = self._datum.top
        for name in self._path:
            here = here.children.get(name) if isinstance(here, _Branching) else None
        return here if isinstance(here, _Branching) else None

    def _holds_out(self) -> bool:
        return not self._path

    def _out(self) -> Found:
        return Found(_Shown(self, OUT.encode(), (OUT,), self._datum), FOREVER)

    def found(self, name: str, child: _Branching | JobInput) -> Found:
        """The entry of this name when it leads to `child`; `JobView.show` sees to it that the kernel asks again when it
        does not any more.
        """
        if isinstance(child, _Branching):
            return Found(_Shown(self, name.encode(), (*self._path, name), self._datum), FOREVER)
        value = entries.encode(child.entry)
        kind = _LazySnapshot if child.lazy else Snapshot
        snapshot = kind(child.repo, child.commit, child.time_ns)
        identity = f"{child.repo}/{child.time_ns}/{child.lazy}/".encode() + value
        return Found(Inode(self, name.encode() + b"/" + identity, snapshot, value), FOREVER)


class _OwnNode(Inode):
    """A pipe that was looked up to be opened: for programs the same file as the one that they looked at."""

    __slots__ = ("shown",)

    def __init__(self, looked_at: Inode, key: bytes) -> None:
        super().__init__(looked_at.parent, key, looked_at.snapshot, looked_at.value)
        self.shown = looked_at.ino
        """The inode number that programs see."""


class _Hidden(ChangingDir):
    """The directory through which feeders open pipes: for others there is nothing in it."""

    __slots__ = ()

    async def find(self, name: str) -> Found | None:
        return None

    async def listing(self) -> list[Found]:
        return []


def _forget_names(names: Sequence[tuple[int, bytes]]) -> None:
    """Have the kernel ask again for names, each in the directory of that number."""
    for parent, name in names:
        try:
            pyfuse3.invalidate_entry(parent, name)
        except OSError as error:
            if error.errno != errno.ENOENT:  # it has forgotten the name already
                raise UnavailableError(f"the kernel still shows /pfs as it was: {error}") from error


def _merge(inputs: Sequence[JobInput]) -> _Branching:
    top = _Branching(max((item.time_ns for item in inputs), default=time.time_ns()))
    for item in inputs:
        here = top
        *above, last = (item.name, *item.path)
        for name in above:
            below = here.children.get(name)
            if isinstance(below, JobInput):  # a directory that holds this entry is shown as a whole
                break
            if below is None:
                below = here.children[name] = _Branching(item.time_ns)
            here = below
        else:
            here.children[last] = item
    return top


def _items(here: _Branching) -> list[JobInput]:
    found: list[JobInput] = []
    for child in here.children.values():
        found += [child] if isinstance(child, JobInput) else _items(child)
    return found


def _is_pipe(inode: Inode) -> bool:
    return isinstance(inode.snapshot, _LazySnapshot) and inode.value[0] == _FILE
