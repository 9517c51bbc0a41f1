"""FUSE requests over immutable trees that hang below directories which can change.

What the kernel learns of an immutable tree it may keep for ever: names, attributes, pages. Names in a
directory that can change are kept as long as the directory says.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from itertools import islice

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError

from pfsd.names.bytenames import shown_name, stored_name
from pfsd.trees import entries
from pfsd.trees.attributes import DIRECTORY_MODE, FILE_MODE, SYMLINK_MODE
from pfsd.trees.entries import KIND_SHIFT, DirEntry, FileEntry, SpecialEntry, SymlinkEntry
from pfsd.trees.tree import Pair
from pfsfuse.content.beside import SMALL_BYTES, Place
from pfsfuse.content.content import Content
from pfsfuse.kernel import kernelcache
from pfsfuse.kernel.describing import DescribedView
from pfsfuse.kernel.errnos import answers, answers_nothing
from pfsfuse.kernel.hardlinks import HardLinks, linked_file
from pfsfuse.kernel.inodes import (
    FOREVER,
    ROOT,
    SHOWN_NAME_BYTES,
    ChangingDir,
    EntryStat,
    Inode,
    InodeTable,
    LinkedFile,
    stat_of,
)
from pfsfuse.kernel.listings import ChangingListing, TreeListing
from pfsfuse.kernel.ready import TREE_LISTING, Ready

log = logging.getLogger(__name__)

_PAGE = 1024
"""Entries of a directory that are read at a time."""
_LISTED_BYTES = 152
"""What an entry takes in a list with attributes, beside its name (`struct fuse_direntplus`)."""
_FILE, _DIRECTORY, _SYMLINK = 1, 2, 3
_FILE_MODE = stat.S_IFREG | FILE_MODE
_DIRECTORY_MODE = stat.S_IFDIR | DIRECTORY_MODE
_SYMLINK_MODE = stat.S_IFLNK | SYMLINK_MODE
_DEVICES = (2, 6)
_BLOCK = 4096
MOST_INODES = 500_000
"""About 300 bytes each here, and more in the kernel."""
_FORGETTING_SECONDS = 0.1
"""After which the kernel has said what it has forgotten."""


class View(DescribedView):
    """A read-only file system below `root`.

    All of it shows as owned by the user of this process; with `stored_owners`, what has an owner shows it.
    """

    supports_dot_lookup = False  # a forgotten number can't be looked up again, as NFS exports would

    def __init__(self, content: Content, root: Inode, *, stored_owners: bool = False) -> None:
        super().__init__()
        self.shows_stored_owners = stored_owners
        """Whether files show the owners that are kept, where there are some, and not all the mount's user."""
        self.content = content
        self._hard_links = HardLinks(content)
        self.inodes = InodeTable(root)
        self.most_inodes = MOST_INODES
        """How many the kernel may refer to before it is asked to forget files; it may refer to more in use."""
        self._trim_at = 0
        self._trimming = False
        self._ready = Ready()
        self._listings: dict[int, TreeListing | ChangingListing] = {}
        self._next_listing = 1
        self._uid = os.getuid()
        self._gid = os.getgid()

    def show_as(self, uid: int, gid: int) -> None:
        """Show what has no owner as this user's; to be called before it is mounted."""
        self._uid, self._gid = uid, gid

    # --- names and attributes ----------------------------------------------------------------------------

    @answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        parent = self.inodes[parent_inode]
        if len(name) > SHOWN_NAME_BYTES:
            raise FUSEError(errno.ENAMETOOLONG)
        if isinstance(parent, ChangingDir):
            found = await parent.find(_text(name))
            if found is None:
                raise FUSEError(errno.ENOENT)
            inode, timeout = self.inodes.settle(found.inode), found.timeout
        else:
            key, value = await self._child(await parent.directory(), name)
            if value is None:
                absent = EntryAttributes()
                absent.entry_timeout = FOREVER
                return absent
            inode, timeout = self.inodes.settle(await self._node(parent, key, value)), FOREVER
        self.inodes.remember(inode)
        self._limit_inodes()
        return self._attributes(inode, timeout)

    async def _child(self, directory: DirEntry, name: bytes) -> tuple[bytes, bytes | None]:
        """The key and the entry of what is shown under a name, if there is something."""
        if name.isascii():
            return name, await self.content.child(directory, name)
        key = stored_name(name).encode()
        value = await self.content.child(directory, key)
        if value is None and key != name:  # it may be one that no file's name leads to
            return name, await self.content.child(directory, name)
        return key, value

    async def _node(self, parent: Inode, key: bytes, value: bytes) -> Inode:
        """The inode, not settled yet, of an entry in a directory of a tree."""
        table = await self._hard_links.table(parent)
        linked = linked_file(table, parent, value) if table is not None and stat_of(value)[6] else None
        return linked or Inode(parent, key, parent.snapshot, value)

    @answers_nothing
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            inode = self.inodes.find(ino)
            self.inodes.forget(ino, count)
            if inode is not None and self.inodes.find(ino) is None:
                self._ready.drop(ino, inode.parent.ino if inode.parent is not None else ROOT)
                self._listings.pop(TREE_LISTING | ino, None)

    @answers
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return self._attributes(self.inodes[inode], 0)

    @answers
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        found = self.inodes[inode]
        if found.value[0] != _SYMLINK:
            raise FUSEError(errno.EINVAL)
        assert isinstance(found.entry, SymlinkEntry)
        return found.entry.target

    def _attributes(self, inode: Inode, timeout: float) -> EntryAttributes:
        return self.entry_attributes(inode.ino, inode.value, inode.time_ns, timeout, inode.links)

    def entry_attributes(self, ino: int, value: bytes, time_ns: int, timeout: float, links: int = 1) -> EntryAttributes:
        """What the kernel is told of an encoded entry: what it keeps, and where it does not, the time `time_ns`, the
        usual mode, and the user of this process.
        """
        return self._attributes_from(stat_of(value), ino, value, time_ns, timeout, links)

    def _attributes_from(
        self, kept: EntryStat, ino: int, value: bytes, time_ns: int, timeout: float, links: int
    ) -> EntryAttributes:
        kind, size, mode, uid, gid, changed_ns, _ = kept
        attributes = EntryAttributes()
        attributes.st_ino = ino
        if kind == _FILE:
            attributes.st_mode = _FILE_MODE if mode is None else stat.S_IFREG | mode
        elif kind == _DIRECTORY:
            attributes.st_mode = _DIRECTORY_MODE if mode is None else stat.S_IFDIR | mode
        elif kind == _SYMLINK:
            attributes.st_mode = _SYMLINK_MODE
        else:
            _show_special(attributes, value)
        attributes.st_uid = self._uid
        attributes.st_gid = self._gid
        if self.shows_stored_owners and uid is not None and gid is not None:
            attributes.st_uid, attributes.st_gid = uid, gid
        attributes.st_size = size
        attributes.st_blocks = (size + 511) // 512
        if changed_ns is not None:
            time_ns = changed_ns
        attributes.st_atime_ns = attributes.st_mtime_ns = attributes.st_ctime_ns = time_ns
        # One link for a directory says "not counted": find then looks at every entry.
        if links != 1:
            attributes.st_nlink = links
        attributes.entry_timeout = timeout
        attributes.attr_timeout = FOREVER
        return attributes

    def owner_shown(self, owner: tuple[int, int] | None) -> tuple[int, int]:
        """The user and group that are shown for those that are kept."""
        return (self._uid, self._gid) if owner is None or not self.shows_stored_owners else owner

    def owner_kept(self, owner: tuple[int, int]) -> tuple[int, int] | None:
        """What is kept of a user and group: nothing where they are the mount's."""
        return None if owner == (self._uid, self._gid) else owner

    # --- directories -------------------------------------------------------------------------------------

    @answers
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        directory = self.inodes[inode]
        if isinstance(directory, ChangingDir):
            return self.add_listing(ChangingListing(directory))
        await directory.directory()
        return TREE_LISTING | inode

    async def _listing(self, fh: int) -> TreeListing | ChangingListing:
        """What was opened. All who read a directory of a tree share one, also those whose opening was not told here."""
        found = self._listings.get(fh)
        if found is None:
            ino = fh & ~TREE_LISTING
            directory = self.inodes[ino]
            self._ready.lists_no_more(ino)
            found = self._listings[fh] = TreeListing(directory, (await directory.directory()).root)
        return found

    def add_listing(self, listing: TreeListing | ChangingListing) -> int:
        """The handle of a directory that was opened."""
        handle = self._next_listing
        self._next_listing += 1
        self._listings[handle] = listing
        return handle

    @answers_nothing
    async def releasedir(self, fh: int) -> None:
        self._listings.pop(fh, None)

    @answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = await self._listing(fh)
        if isinstance(listing, ChangingListing):
            await self._list_changing(listing, start_id, token)
        else:
            await self._list_tree(listing, start_id, token)

    async def _list_changing(self, listing: ChangingListing, start: int, token: pyfuse3.ReaddirToken) -> None:
        if start == 0:
            listing.found = await listing.inode.listing()
        for at in range(start, len(listing.found)):
            found = listing.found[at]
            inode = self.inodes.settle(found.inode)
            if not pyfuse3.readdir_reply(
                token, shown_name(found.name or inode.name), self._attributes(inode, found.timeout), at + 1
            ):
                return
            self.inodes.remember(inode)

    async def _list_tree(self, listing: TreeListing, start: int, token: pyfuse3.ReaddirToken) -> None:
        inodes, parent, snapshot = self.inodes, listing.inode, listing.inode.snapshot
        at = start
        time_ns = parent.time_ns
        at_hand = self.content.chunks.held > 0
        table = await self._hard_links.table(parent)
        while await self.turn_to(listing, at):
            for key, value in listing.page[at - listing.first :]:
                kept = stat_of(value)
                linked = linked_file(table, parent, value) if kept[6] and table else None
                if linked is None:
                    ino, inode = inodes.number(parent.ino, key)
                    attributes = self._attributes_from(kept, ino, value, time_ns, FOREVER, 1)
                else:
                    inode = inodes.settle(linked)
                    attributes = self._attributes_from(kept, inode.ino, value, time_ns, FOREVER, inode.links)
                at += 1
                name = shown_name(key) if b"\xef" in key else key
                if len(name) > SHOWN_NAME_BYTES:
                    continue
                if not pyfuse3.readdir_reply(token, name, attributes, at):
                    return
                inode = inode or Inode(parent, key, snapshot, value, ino)
                inodes.remember(inode)
                if at_hand:
                    self._offer(inode)
            self._limit_inodes()
            await trio.lowlevel.checkpoint()
        if start == at:  # nothing is left
            self._end_listing(parent)

    def _end_listing(self, directory: Inode) -> None:
        """The kernel has all entries of a directory of a tree."""
        self._listings.pop(TREE_LISTING | directory.ino, None)
        self._ready.lists(directory.ino)

    def _limit_inodes(self) -> None:
        """Have the kernel forget files that it was told of long ago where it knows too many."""
        if len(self.inodes) > self.most_inodes and len(self.inodes) > self._trim_at and not self._trimming:
            self._trimming = True
            self.content.start(self._trim)

    async def _trim(self) -> None:
        names: list[tuple[int, bytes]] = []
        while len(self.inodes) > self.most_inodes:
            before, names = names, self.inodes.oldest_files(len(self.inodes) - self.most_inodes // 2)
            if names == before:  # what is left is in use, or is directories: without their names getcwd fails
                break
            try:
                await kernelcache.drop(names)
            except OSError as error:
                log.warning("the kernel does not forget names: %s", error)
            await trio.sleep(_FORGETTING_SECONDS)
        self._trim_at = len(self.inodes) + self.most_inodes // 4
        self._trimming = False

    def list_now(self, fh: int, start: int, room: int) -> bytes | None:
        """What the kernel is answered that lists an open directory of a tree from an offset on, with attributes, in at
        most `room` bytes; None where `readdir` is to do that. Raises NodesMissing where it has to wait.
        """
        listing = self._listing_now(fh)
        if listing is None:
            return None
        parent, inodes = listing.inode, self.inodes
        if not self._turn_now(listing, start):
            self._end_listing(parent)
            return b""
        first, parent_ino, snapshot, number = start - listing.first, parent.ino, parent.snapshot, inodes.number
        found: list[Inode] = []
        for key, value in islice(listing.page, first, None):
            room -= _LISTED_BYTES + (len(key) + 7 & ~7)
            if room < 0:
                break
            if b"\xef" in key or len(key) > SHOWN_NAME_BYTES:
                return None
            ino, inode = number(parent_ino, key)
            found.append(inode or Inode(parent, key, snapshot, value, ino))
        numbers = [inode.ino for inode in found]
        if not numbers or len(set(numbers)) < len(numbers):
            return None
        owners = self._uid, self._gid, self.shows_stored_owners
        answer = self._ready.list(listing.page, first, numbers, start, parent.time_ns, owners)
        if answer is not None:
            at_hand = self.content.chunks.held > 0
            for inode in found:
                inodes.remember(inode)
                if at_hand:
                    self._offer(inode)
            self._limit_inodes()
        return answer

    def _listing_now(self, fh: int) -> TreeListing | None:
        """An open directory of a tree in which nothing is linked."""
        found = self._listings.get(fh)
        if found is None and fh & TREE_LISTING:
            directory = self.inodes.find(fh & ~TREE_LISTING)
            if type(directory) is Inode and isinstance(directory.entry, DirEntry) and not directory.entry.links:
                self._ready.lists_no_more(directory.ino)
                found = self._listings[fh] = TreeListing(directory, directory.entry.root)
        if type(found) is not TreeListing or type(found.inode) is not Inode:
            return None
        entry = found.inode.entry
        return found if isinstance(entry, DirEntry) and not entry.links else None

    async def turn_to(self, listing: TreeListing, at: int) -> bool:
        """Bring in the page that holds entry `at`; False when there is no such entry."""
        for index in listing.pages_to(at):
            start = listing.starts[index][1]
            page = await self.content.page(listing.root, start, _PAGE, self._beside(listing.inode))
            self._take_page(listing, index, page)
        return listing.holds(at)

    def _turn_now(self, listing: TreeListing, at: int) -> bool:
        """The same without waiting; raises NodesMissing."""
        for index in listing.pages_to(at):
            self._take_page(listing, index, self.content.page_now(listing.root, listing.starts[index][1], _PAGE))
        return listing.holds(at)

    def _take_page(self, listing: TreeListing, index: int, page: list[Pair]) -> None:
        listing.take(index, page)
        self.content.prefetch_nodes(value[1:33] for _, value in page if value[0] == _DIRECTORY)

    def _beside(self, inode: Inode) -> Iterable[bytes]:
        """The roots of the directories that a walk comes to after this one."""
        place = _place(inode)
        return () if place is None else self.content.following(place)

    # --- files -------------------------------------------------------------------------------------------

    @answers
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise FUSEError(errno.EROFS)
        found = self.inodes[inode]
        if not found.opened:
            found.opened = True
            if self._ready.claims(inode):
                self._hand_over(found)
        if type(found) is Inode:
            self._ready.opens(inode)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    def _hand_over(self, inode: Inode) -> None:
        """Give the kernel the bytes of a small file that is at hand, before its first open is answered."""
        entry = inode.entry
        if not isinstance(entry, FileEntry) or not 0 < entry.size <= SMALL_BYTES:
            return
        data = self.content.read_now(entry, 0, entry.size)
        if isinstance(data, bytes):
            kernelcache.hand_over(inode.ino, data)

    def _offer(self, inode: Inode) -> None:
        """Have the kernel get a small file that is at hand when it is opened first."""
        if type(inode) is Inode and not inode.opened:
            data = self.content.small_now(inode.value)
            if data is not None:
                self._ready.offers(inode.ino, data)

    def _offer_beside(self, read: Inode, place: Place, data: bytes) -> None:
        """The same for a file of the directory in which another was read, if the kernel knows it already."""
        parent = read.parent
        if parent is None or not isinstance(parent.entry, DirEntry) or parent.entry.root != place.root:
            return
        found = self.inodes.number(parent.ino, place.name)[1]
        if type(found) is Inode and not found.opened and found.value[0] == 1:
            self._ready.offers(found.ino, data)

    @answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        inode = self.inodes[fh]
        entry = inode.entry
        if not isinstance(entry, FileEntry):
            raise FUSEError(errno.EISDIR)
        data = self.content.read_now(entry, off, size)
        if data is None:
            place = _place(inode) if entry.size <= SMALL_BYTES else None
            data = await self.content.read(entry, off, size, place, functools.partial(self._offer_beside, inode))
        if type(inode) is Inode and (held := self.content.in_place(entry, off)) is not None:
            self._ready.holds(fh, entry.size, *held)
        return data  # type: ignore[return-value]  # pyfuse3 takes any buffer

    # --- the rest ----------------------------------------------------------------------------------------

    @answers
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        size, files = await self.totals()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = _BLOCK
        answer.f_blocks = (size + _BLOCK - 1) // _BLOCK
        free = self.free_bytes() // _BLOCK
        answer.f_blocks += free
        answer.f_bfree = answer.f_bavail = free
        answer.f_files = files
        answer.f_namemax = SHOWN_NAME_BYTES
        return answer

    def free_bytes(self) -> int:
        """How much can be written."""
        return 0

    async def totals(self) -> tuple[int, int]:
        """Bytes and files that the file system shows, as `df` prints them; none where that is not known."""
        return 0, 0


def _show_special(attributes: EntryAttributes, value: bytes) -> None:
    """Add the kind and the mode of a special file."""
    entry = entries.decode(value)
    assert isinstance(entry, SpecialEntry)
    mode = entries.attributes_of(entry).mode
    attributes.st_mode = entry.kind << KIND_SHIFT | (FILE_MODE if mode is None else mode)
    if entry.kind in _DEVICES:
        attributes.st_rdev = entry.device


def _place(inode: Inode) -> Place | None:
    """Where a file or directory of a tree stands, so that what follows it can be fetched along."""
    steps: list[tuple[bytes, bytes]] = []
    here, parent = inode, inode.parent
    while parent is not None and not isinstance(parent, ChangingDir) and not isinstance(here, ChangingDir | LinkedFile):
        directory = parent.entry
        if not isinstance(directory, DirEntry):
            break
        steps.append((directory.root, here.name))
        here, parent = parent, parent.parent
    place = None
    for root, name in reversed(steps):
        place = Place(root, name, place)
    return place


def _text(name: bytes) -> str:
    """A name as the API spells it."""
    return name.decode() if name.isascii() else stored_name(name)
