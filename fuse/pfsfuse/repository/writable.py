"""FUSE requests that read and change files of open commits, and the attributes of all that is in them."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from pfsfuse.content.beside import SMALL_BYTES, Place
from pfsfuse.kernel import kernelcache
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import ChangingDir, Inode
from pfsfuse.opencommits.nodeattributes import now_ns
from pfsfuse.opencommits.opencommit import OpenCommit, commit_of
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.unnamed import UnnamedFile
from pfsfuse.repository.openlisting import OpenListing
from pfsfuse.repository.opennames import NamesView, key_of

_PERMISSIONS = 0o7777
_USER = b"user."
_OWN = b"user.pfs."


class Change(NamedTuple):
    """What is set of a file's attributes; None for what stays."""

    mode: int | None
    user: int | None
    group: int | None
    time_ns: int | None
    read_ns: int | None


class WritableView(NamesView):
    """A view in which open commits can be written."""

    # --- attributes --------------------------------------------------------------------------------------

    @answers
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        node = self._writable(self.inodes[inode])
        await commit_of(node).begin()
        if fields.update_size:
            if not isinstance(node, OpenFile):
                raise FUSEError(errno.EISDIR)
            self._truncate(node, attr.st_size)
            if not node.handles:
                await commit_of(node).send_file(node)
        change = Change(
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_mtime_ns if fields.update_mtime else None,
            attr.st_atime_ns if fields.update_atime else None,
        )
        self.change_attributes(node, change)
        return self._attributes(node, 0)

    def change_attributes(self, node: OpenFile | OpenDir, change: Change) -> None:
        """Change what is kept of a node, and when it was read."""
        kept, is_kept = node.kept, change.mode is not None or change.time_ns is not None
        if change.mode is not None:
            kept.mode = change.mode & _PERMISSIONS
        if change.user is not None or change.group is not None:
            user, group = kept.owner or self.owner_shown(None)
            owner = (user if change.user is None else change.user, group if change.group is None else change.group)
            kept.owner, is_kept = self.owner_kept(owner), True
        if change.time_ns is not None:
            kept.time_ns = change.time_ns
        if change.read_ns is not None:
            kept.read_ns = change.read_ns
        if is_kept:
            node.change_attributes()
        elif change.read_ns is not None:
            kept.changed_ns = now_ns()

    @answers
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        node = self.inodes[inode]
        if mode & os.W_OK and not isinstance(node, ChangingDir):
            self._writable(node)
        return True

    # --- files -------------------------------------------------------------------------------------------

    @answers
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, EntryAttributes]:
        name = key_of(name)
        directory = self._writable_dir(parent_inode)
        found = await directory.node(name)
        if found is None:
            node = await self._make_file(parent_inode, name, mode, ctx)
            node.handles += 1
            return pyfuse3.FileInfo(fh=node.ino), self._attributes(node, node.commit.timeout)
        if flags & os.O_EXCL:
            raise FUSEError(errno.EEXIST)
        if isinstance(found, OpenDir):
            raise FUSEError(errno.EISDIR)
        self.inodes.remember(self.inodes.settle(found))
        opened = await self._open_file(found, flags)
        return opened, self._attributes(found, found.commit.timeout)

    async def make_unnamed(self, ino: int, mode: int, user: int, group: int) -> UnnamedFile:
        """Make and open a file that has no name yet."""
        directory = self._writable_dir(ino)
        await commit_of(directory).begin()
        node = UnnamedFile(directory, self.inodes)
        self._own(node, mode, user, group)
        node.handles += 1
        self.inodes.remember(node)
        return node

    @answers
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self.inodes[inode]
        if isinstance(node, OpenFile):
            return await self._open_file(node, flags)
        return await super().open(inode, flags, ctx)

    async def _open_file(self, node: OpenFile, flags: int) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            await commit_of(node).begin()
        keep = self.open_now(node, flags)
        return pyfuse3.FileInfo(fh=node.ino, keep_cache=keep)

    def open_now(self, node: OpenFile, flags: int) -> bool:
        """Open a file, which can be written where that is wanted; whether what the kernel has of it holds."""
        # Local content came through the kernel, whose pages agree with it.
        keep = self._hand_over_whole(node) or node.is_local or node.opened_content == node.content_value
        node.handles += 1
        if flags & os.O_TRUNC:
            self._truncate(node, 0)
        if not node.is_local:
            node.opened_content = node.content_value
        return keep

    def _hand_over_whole(self, node: OpenFile) -> bool:
        """Give the kernel all of a small file that no program has open; whether that was done, now or before."""
        if node.opened and node.opened_content == node.content_value:
            return True
        if node.handles or not 0 < node.size <= SMALL_BYTES:
            return False
        data = node.scratch.whole() if node.scratch is not None else self.content.read_now(node.file, 0, node.size)
        if not isinstance(data, bytes):
            return False
        kernelcache.hand_over(node.ino, data)
        node.opened = True
        return True

    def _truncate(self, node: OpenFile, size: int) -> None:
        if size != node.size:
            node.to_scratch().truncate(size)
            node.note_change()
        else:
            node.kept.touch()
            node.change_attributes()

    @answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        node = self.inodes[fh]
        if not isinstance(node, OpenFile):
            return await super().read(fh, off, size)
        if node.scratch is not None:
            return await node.scratch.read(self.content, off, size)
        data = self.content.read_now(node.file, off, size)
        if data is None:
            data = await self.content.read(node.file, off, size, await self._open_place(node))
        return data  # type: ignore[return-value]  # pyfuse3 takes any buffer

    async def _open_place(self, node: OpenFile) -> Place | None:
        parent = node.parent
        if node.size > SMALL_BYTES or not isinstance(parent, OpenDir):
            return None
        return Place(await parent.tree_root(), node.key)

    @answers
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        node = self.inodes[fh]
        assert isinstance(node, OpenFile)
        self.write_to(node, off, buf)
        return len(buf)

    def write_to(self, node: OpenFile, offset: int, data: bytes | memoryview) -> None:
        """Write to a file that is open for writing."""
        if node.is_linked:
            commit_of(node).check_open()
        node.to_scratch().write(offset, data)
        node.note_change()

    @answers
    async def flush(self, fh: int) -> None:
        node = self.inodes[fh]
        if isinstance(node, OpenFile) and node.changes:
            commit = commit_of(node)
            try:
                commit.raise_error()
                await commit.send_file(node)
            finally:
                commit.raise_given_up(node)

    @answers
    async def release(self, fh: int) -> None:
        node = self.inodes[fh]
        if isinstance(node, OpenFile):
            await commit_of(node).release(node)

    @answers
    async def fsync(self, fh: int, datasync: bool) -> None:
        node = self.inodes[fh]
        if isinstance(node, OpenFile):
            await self._sync(commit_of(node), node)

    @answers
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        listing = self._listings.get(fh)
        if isinstance(listing, OpenListing) and isinstance(listing.inode, OpenDir):
            await self._sync(commit_of(listing.inode), None)

    async def _sync(self, commit: OpenCommit, node: OpenFile | None) -> None:
        try:
            if node is not None:
                await commit.send_file(node)
            await commit.flush()
            commit.raise_error()
        finally:
            commit.raise_given_up(node)

    # --- extended attributes -----------------------------------------------------------------------------

    def state_of(self, inode: Inode) -> str:
        is_open = isinstance(inode, OpenFile | OpenDir) and not commit_of(inode).is_closed
        return "open" if is_open else super().state_of(inode)

    def branch_of(self, inode: Inode) -> str:
        return commit_of(inode).branch if isinstance(inode, OpenFile | OpenDir) else super().branch_of(inode)

    async def hash_of(self, inode: Inode) -> bytes:
        if isinstance(inode, OpenFile | OpenDir):
            commit = commit_of(inode)
            if isinstance(inode, OpenFile) and inode.is_dirty:
                await commit.send_file(inode)
            await commit.flush()
        return await super().hash_of(inode)

    @answers
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        if await self.control(self.inodes[inode], name):
            return
        await self._set_xattr(inode, name, value)

    @answers
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        node = self._writable(self.inodes[inode])
        if _is_free(name) and node.kept.xattr(name) is None:
            raise FUSEError(pyfuse3.ENOATTR)
        await self._set_xattr(inode, name, None)

    async def _set_xattr(self, inode: int, name: bytes, value: bytes | None) -> None:
        node = self._writable(self.inodes[inode])
        if not _is_free(name):
            raise FUSEError(errno.EOPNOTSUPP)
        await commit_of(node).begin()
        if not node.kept.set_xattr(name, value):
            raise FUSEError(errno.ENOSPC)
        node.change_attributes()

    async def control(self, inode: Inode, name: bytes) -> bool:
        """Do what setting an attribute of that name asks for; False where it asks for nothing."""
        return False


def _is_free(name: bytes) -> bool:
    """Whether an extended attribute of that name is anybody's."""
    return name.startswith(_USER) and not name.startswith(_OWN)
