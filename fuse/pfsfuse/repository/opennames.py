"""FUSE requests that look up, list, make, move and remove what stands in the directories of open commits.

Everything else answers EROFS.
"""

from __future__ import annotations

import errno
import functools
import stat
from typing import NamedTuple

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from pfsd.names import paths
from pfsd.names.bytenames import shown_name, stored_name
from pfsd.trees import attributes, entries
from pfsd.trees.entries import SpecialEntry, SymlinkEntry
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import SHOWN_NAME_BYTES, ChangingDir, Inode
from pfsfuse.kernel.view import View
from pfsfuse.opencommits.opencommit import commit_of
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.opentree import Place
from pfsfuse.opencommits.unnamed import UnnamedFile
from pfsfuse.repository.openlisting import OpenListing, list_open

EMPTY_FILE = entries.encode(entries.EMPTY_FILE)
_KINDS = {entries.FILE: stat.S_IFREG, entries.DIRECTORY: stat.S_IFDIR, entries.SYMLINK: stat.S_IFLNK}
_PERMISSIONS = 0o7777


class Shown(NamedTuple):
    """What `stat` tells of a file or directory."""

    mode: int
    links: int
    owner: tuple[int, int]
    """User and group."""
    size: int
    time_ns: int
    read_ns: int
    changed_ns: int
    device: int


class NamesView(View):
    """A view in which the directories of open commits can be changed."""

    @answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        parent = self.inodes[parent_inode]
        if not isinstance(parent, OpenDir):
            return await super().lookup(parent_inode, name, ctx)
        node = await parent.node(key_of(name))
        timeout = parent.commit.timeout
        if node is None:
            if not timeout:
                raise FUSEError(errno.ENOENT)
            absent = EntryAttributes()
            absent.entry_timeout = timeout
            return absent
        self.inodes.remember(self.inodes.settle(node))
        return self._attributes(node, timeout)

    @answers
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        node = self.inodes[inode]
        if isinstance(node, OpenFile) and node.group is not None:
            await node.commit.read_links()
        return self._attributes(node, 0)

    def _attributes(self, inode: Inode, timeout: float) -> EntryAttributes:
        if not isinstance(inode, OpenFile | OpenDir):
            return super()._attributes(inode, timeout)
        told, shown = self.shown(inode), EntryAttributes()
        shown.st_ino = inode.ino
        shown.st_mode = told.mode
        shown.st_uid, shown.st_gid = told.owner
        shown.st_nlink = told.links
        shown.st_size = told.size
        shown.st_blocks = (told.size + 511) // 512
        shown.st_mtime_ns, shown.st_atime_ns, shown.st_ctime_ns = told.time_ns, told.read_ns, told.changed_ns
        shown.st_rdev = told.device
        shown.entry_timeout = timeout
        shown.attr_timeout = inode.commit.timeout
        return shown

    def shown(self, node: OpenFile | OpenDir) -> Shown:
        """What a file or directory of an open commit shows of itself."""
        kept, time_ns = node.kept, node.time_ns
        device = 0
        if node.value[0] == entries.SPECIAL and isinstance(node.entry, SpecialEntry):
            device = node.entry.device
        return Shown(
            self._kind(node) | (node.default_mode if kept.mode is None else kept.mode),
            node.link_count,
            self.owner_shown(kept.owner),
            node.size,
            time_ns,
            time_ns if kept.read_ns is None else kept.read_ns,
            kept.changed_ns or time_ns,
            device,
        )

    @staticmethod
    def _kind(inode: OpenFile | OpenDir) -> int:
        """The part of the mode that says what it is."""
        if inode.value[0] == entries.SPECIAL:
            assert isinstance(inode.entry, SpecialEntry)
            return inode.entry.kind << entries.KIND_SHIFT
        return _KINDS[inode.value[0]]

    def _own(self, node: OpenFile | OpenDir, mode: int, user: int, group: int) -> None:
        """Give a new node its mode and its owner, as its directory and who makes it say."""
        parent = node.parent
        assert isinstance(parent, OpenDir)
        kept, inherits = node.kept, (parent.kept.mode or 0) & stat.S_ISGID
        kept.mode = mode & _PERMISSIONS | (inherits if node.is_dir else 0)
        if self.shows_stored_owners:
            group = self.owner_shown(parent.kept.owner)[1] if inherits else group
            kept.owner = self.owner_kept((user, group))
        kept.touch()

    def _writable(self, inode: Inode) -> OpenFile | OpenDir:
        """The inode as one of an open commit; EROFS for what is not, EPERM for repos and the root."""
        if isinstance(inode, OpenFile | OpenDir):
            commit_of(inode).check_open()
            return inode
        raise FUSEError(errno.EPERM if isinstance(inode, ChangingDir) else errno.EROFS)

    def _writable_dir(self, ino: int) -> OpenDir:
        found = self._writable(self.inodes[ino])
        if not isinstance(found, OpenDir):
            raise FUSEError(errno.ENOTDIR)
        if not found.is_linked:
            raise FUSEError(errno.ENOENT)
        return found

    # --- directories -------------------------------------------------------------------------------------

    @answers
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        directory = self.inodes[inode]
        if not isinstance(directory, OpenDir):
            return await super().opendir(inode, ctx)
        return self.add_listing(OpenListing(directory, b""))

    @answers
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings.get(fh)
        if isinstance(listing, OpenListing):
            await list_open(self, listing, start_id, functools.partial(self._show, token))
        else:
            await super().readdir(fh, start_id, token)

    def _show(
        self, token: pyfuse3.ReaddirToken, name: bytes, node: OpenFile | OpenDir, offset: int, timeout: float
    ) -> bool:
        """Add a node to what readdir answers; False where there is no more room."""
        shown_as = shown_name(name)
        if len(shown_as) > SHOWN_NAME_BYTES:
            return True
        settled = self.inodes.settle(node)
        shown = self._attributes(node, timeout)
        shown.attr_timeout = timeout
        if not pyfuse3.readdir_reply(token, shown_as, shown, offset):
            self.inodes.keep(settled)
            self.inodes.recheck(settled)
            return False
        self.inodes.remember(settled)
        return True

    @answers
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        parent = self.inodes[parent_inode]
        name = key_of(name)
        if isinstance(parent, ChangingDir) and not isinstance(parent, OpenDir):
            made = self.inodes.settle((await parent.make(name.decode())).inode)
            self.inodes.remember(made)
            return self._attributes(made, 0)
        directory = await self._new_in(parent_inode, name)
        node = self.add_directory(directory, name, mode, ctx.uid, ctx.gid)
        await commit_of(directory).make_directory(node)
        return self._attributes(node, directory.commit.timeout)

    def add_directory(self, directory: OpenDir, name: bytes, mode: int, user: int, group: int) -> OpenDir:
        """Make a directory where nothing is."""
        node = OpenDir(directory, name, commit_of(directory), is_new=True, snapshot=directory.commit.snapshot)
        self._own(node, mode, user, group)
        self._add(directory, node)
        commit_of(directory).note_attributes(node)
        return node

    async def _new_in(self, ino: int, name: bytes) -> OpenDir:
        """The directory in which something of that name, which is not there, can be made."""
        directory = self._writable_dir(ino)
        await commit_of(directory).begin()
        if len(directory.path()) >= paths.MAX_DEPTH:
            raise FUSEError(errno.ENAMETOOLONG)
        if await directory.node(name) is not None:
            raise FUSEError(errno.EEXIST)
        return directory

    def _add(self, directory: OpenDir, node: OpenFile | OpenDir) -> None:
        self.inodes.settle(node)
        self.inodes.remember(node)
        directory.note_change(node.key)

    @answers
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        parent = self.inodes[parent_inode]
        if isinstance(parent, ChangingDir) and not isinstance(parent, OpenDir):
            await parent.remove(key_of(name).decode())
            return
        name = key_of(name)
        directory, node = await self._entry(parent_inode, name)
        if not isinstance(node, OpenDir):
            raise FUSEError(errno.ENOTDIR)
        if not await node.is_empty():
            raise FUSEError(errno.ENOTEMPTY)
        await commit_of(directory).take_off(node, Place(directory, name))
        directory.note_change(name)

    @answers
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        name = key_of(name)
        directory, node = await self._entry(parent_inode, name)
        if isinstance(node, OpenDir):
            raise FUSEError(errno.EISDIR)
        await commit_of(directory).take_off(node, Place(directory, name))
        directory.note_change(name)

    async def _entry(self, ino: int, name: bytes) -> tuple[OpenDir, OpenFile | OpenDir]:
        """A writable directory, and what stands in it under a name."""
        directory = self._writable_dir(ino)
        await commit_of(directory).begin()
        node = await directory.node(name)
        if node is None:
            raise FUSEError(errno.ENOENT)
        Place(directory, name).go_by(node)
        if not node.ino or directory.children.get(name) is not node:
            self.inodes.keep(self.inodes.settle(node))
        return directory, node

    @answers
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        name_old, name_new = key_of(name_old), key_of(name_new)
        old, node = await self._entry(parent_inode_old, name_old)
        new = self._writable_dir(parent_inode_new)
        if old.commit is not new.commit:
            raise FUSEError(errno.EXDEV)
        if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
            raise FUSEError(errno.EINVAL)
        target = await new.node(name_new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            _, target = await self._entry(parent_inode_new, name_new)
        if target is node:  # two names of one file
            return
        if flags & pyfuse3.RENAME_EXCHANGE and target is not None:
            await commit_of(old).exchange(node, Place(old, name_old), target, Place(new, name_new))
        else:
            self.check_rename(node, target, new, flags)
            if isinstance(target, OpenDir) and not await target.is_empty():
                raise FUSEError(errno.ENOTEMPTY)
            await commit_of(old).rename(node, Place(old, name_old), target, Place(new, name_new))
        old.note_change(name_old)
        new.note_change(name_new)

    @staticmethod
    def check_rename(node: OpenFile | OpenDir, target: OpenFile | OpenDir | None, parent: OpenDir, flags: int) -> None:
        """Raise what hinders that a node comes to a place, but for what stands in a directory that is there."""
        here: Inode | None = parent
        while isinstance(here, OpenDir):
            if here is node:
                raise FUSEError(errno.EINVAL)
            here = here.parent
        if target is None:
            return
        if flags & pyfuse3.RENAME_NOREPLACE:
            raise FUSEError(errno.EEXIST)
        if isinstance(target, OpenDir) != isinstance(node, OpenDir):
            raise FUSEError(errno.EISDIR if isinstance(target, OpenDir) else errno.ENOTDIR)

    @answers
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        name = key_of(name)
        self._writable_dir(parent_inode)
        if stat.S_ISREG(mode):
            node = await self._make_file(parent_inode, name, mode, ctx)
            await commit_of(node).send_file(node)
        else:
            kind = stat.S_IFMT(mode) >> entries.KIND_SHIFT
            node = await self._make_other(parent_inode, name, SpecialEntry(kind, rdev), mode, ctx)
        return self._attributes(node, node.commit.timeout)

    async def _make_other(
        self,
        parent_inode: int,
        name: bytes,
        entry: SymlinkEntry | SpecialEntry,
        mode: int,
        ctx: pyfuse3.RequestContext,
    ) -> OpenFile:
        """Make a symbolic link or a special file."""
        directory = await self._new_in(parent_inode, name)
        node = OpenFile(directory, name, entries.encode(entry), is_new=True)
        self._own(node, mode, ctx.uid, ctx.gid)
        self._add(directory, node)
        commit_of(node).note_attributes(node)
        return node

    async def _make_file(self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> OpenFile:
        return self.add_file(await self._new_in(parent_inode, name), name, mode, ctx.uid, ctx.gid)

    def add_file(self, directory: OpenDir, name: bytes, mode: int, user: int, group: int) -> OpenFile:
        """Make a file where nothing is."""
        node = OpenFile(directory, name, EMPTY_FILE, is_new=True)
        self._own(node, mode, user, group)
        self._add(directory, node)
        return node

    @answers
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        name = key_of(name)
        if len(target) > entries.MOST_TARGET_BYTES:
            raise FUSEError(errno.ENAMETOOLONG)
        node = await self._make_other(parent_inode, name, SymlinkEntry(target), attributes.SYMLINK_MODE, ctx)
        return self._attributes(node, node.commit.timeout)

    @answers
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        new_name = key_of(new_name)
        node, directory = self.inodes[inode], await self._new_in(new_parent_inode, new_name)
        if not isinstance(node, OpenFile) or node.commit is not directory.commit:
            raise FUSEError(errno.EXDEV)
        if isinstance(node, UnnamedFile) and node.may_be_named:
            node.name_first(directory, new_name)
            self._add(directory, node)
            commit_of(node).send_file_soon(node)
            return self._attributes(node, node.commit.timeout)
        if not node.is_linked:
            raise FUSEError(errno.ENOENT)
        await commit_of(node).link(node, directory, new_name)
        self.inodes.remember(node)
        return self._attributes(node, node.commit.timeout)

    @answers
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        node = self.inodes[inode]
        if not isinstance(node, OpenFile):
            return await super().readlink(inode, ctx)
        if not isinstance(node.entry, SymlinkEntry):
            raise FUSEError(errno.EINVAL)
        return node.entry.target


def key_of(name: bytes) -> bytes:
    """The key of a name for something new, as the commit's tree has it; ENAMETOOLONG for one that is too long."""
    if len(name) > SHOWN_NAME_BYTES:
        raise FUSEError(errno.ENAMETOOLONG)
    return stored_name(name).encode()
