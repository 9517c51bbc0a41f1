"""FUSE requests that change something: files and directories of open commits.

Everything else answers EROFS. Modes and owners are not kept: all that the mount shows belongs to its user.
"""

from __future__ import annotations

import errno
import functools
import os
import stat

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from pfsd.names import paths
from pfsd.trees import entries
from pfsfuse.content.content import SMALL_BYTES, Place
from pfsfuse.kernel import kernelcache
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import SHOWN_NAME_BYTES, ChangingDir, Inode
from pfsfuse.kernel.view import View
from pfsfuse.repository.opencommit import OpenCommit, commit_of
from pfsfuse.repository.openlisting import OpenListing, list_open
from pfsfuse.repository.opennodes import OpenDir, OpenFile

_DIR_MODE = stat.S_IFDIR | 0o755
_FILE_MODE = stat.S_IFREG | 0o644
_EMPTY_FILE = entries.encode(entries.EMPTY_FILE)


class WritableView(View):
    """A view in which open commits can be written."""

    # --- names and attributes ----------------------------------------------------------------------------

    @answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        parent = self.inodes[parent_inode]
        if not isinstance(parent, OpenDir):
            return await super().lookup(parent_inode, name, ctx)
        if len(name) > SHOWN_NAME_BYTES:
            raise FUSEError(errno.ENAMETOOLONG)
        node = await parent.node(name)
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
        return self._attributes(node, 0)

    def _attributes(self, inode: Inode, timeout: float) -> EntryAttributes:
        if not isinstance(inode, OpenFile | OpenDir):
            return super()._attributes(inode, timeout)
        attributes = self.entry_attributes(inode.ino, inode.value, inode.time_ns, timeout)
        attributes.st_mode = _DIR_MODE if inode.is_dir else _FILE_MODE
        attributes.st_size = inode.size
        attributes.st_blocks = (inode.size + 511) // 512
        attributes.attr_timeout = inode.commit.timeout
        if not inode.is_linked:
            attributes.st_nlink = 0
        return attributes

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
        if (fields.update_uid and attr.st_uid != self._uid) or (fields.update_gid and attr.st_gid != self._gid):
            raise FUSEError(errno.EPERM)
        if fields.update_size:
            if not isinstance(node, OpenFile):
                raise FUSEError(errno.EISDIR)
            await commit_of(node).begin()
            self._truncate(node, attr.st_size)
            if not node.handles:
                await commit_of(node).send_file(node)
        if fields.update_mtime:
            node.time_ns = attr.st_mtime_ns
        return self._attributes(node, 0)

    @answers
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        node = self.inodes[inode]
        if mode & os.W_OK and not isinstance(node, ChangingDir):
            self._writable(node)
        return True

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
        listing = self._listings[fh]
        if isinstance(listing, OpenListing):
            await list_open(self, listing, start_id, functools.partial(self._show, token))
        else:
            await super().readdir(fh, start_id, token)

    def _show(self, token: pyfuse3.ReaddirToken, node: OpenFile | OpenDir, offset: int, timeout: float) -> bool:
        """Add a node to what readdir answers; False where there is no more room."""
        if len(node.key) > SHOWN_NAME_BYTES:
            return True
        settled = self.inodes.settle(node)
        attributes = self._attributes(node, timeout)
        attributes.attr_timeout = timeout
        if not pyfuse3.readdir_reply(token, node.key, attributes, offset):
            self.inodes.keep(settled)
            self.inodes.recheck(settled)
            return False
        self.inodes.remember(settled)
        return True

    @answers
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        parent = self.inodes[parent_inode]
        text = _new_name(name)
        if isinstance(parent, ChangingDir) and not isinstance(parent, OpenDir):
            made = self.inodes.settle((await parent.make(text)).inode)
            self.inodes.remember(made)
            return self._attributes(made, 0)
        directory = await self._new_in(parent_inode, name)
        node = OpenDir(directory, name, commit_of(directory), is_new=True, snapshot=directory.commit.snapshot)
        self._add(directory, node)
        await commit_of(directory).make_directory(node)
        return self._attributes(node, directory.commit.timeout)

    async def _new_in(self, ino: int, name: bytes) -> OpenDir:
        """The directory in which something of that name, which is not there, can be made."""
        directory = self._writable_dir(ino)
        await commit_of(directory).begin()
        if len(directory.path()) + 1 >= paths.MAX_DEPTH:
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
            await parent.remove(_new_name(name))
            return
        directory, node = await self._entry(parent_inode, name)
        if not isinstance(node, OpenDir):
            raise FUSEError(errno.ENOTDIR)
        if not await node.is_empty():
            raise FUSEError(errno.ENOTEMPTY)
        directory.note_change(name)
        await commit_of(directory).take_off(node)

    @answers
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        directory, node = await self._entry(parent_inode, name)
        if isinstance(node, OpenDir):
            raise FUSEError(errno.EISDIR)
        directory.note_change(name)
        await commit_of(directory).take_off(node)

    async def _entry(self, ino: int, name: bytes) -> tuple[OpenDir, OpenFile | OpenDir]:
        """A writable directory, and what stands in it under a name."""
        directory = self._writable_dir(ino)
        await commit_of(directory).begin()
        node = await directory.node(name)
        if node is None:
            raise FUSEError(errno.ENOENT)
        if not node.ino:
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
        old, node = await self._entry(parent_inode_old, name_old)
        new = self._writable_dir(parent_inode_new)
        if old.commit is not new.commit:
            raise FUSEError(errno.EXDEV)
        if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
            raise FUSEError(errno.EINVAL)
        _new_name(name_new)
        target = await new.node(name_new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            _, target = await self._entry(parent_inode_new, name_new)
            await commit_of(old).exchange(node, target)
        elif target is not node:
            await self._check_rename(node, target, new, flags)
            await commit_of(old).rename(node, target, new, name_new)
        old.note_change(name_old)
        new.note_change(name_new)

    async def _check_rename(
        self, node: OpenFile | OpenDir, target: OpenFile | OpenDir | None, parent: OpenDir, flags: int
    ) -> None:
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
        if isinstance(target, OpenDir) and not await target.is_empty():
            raise FUSEError(errno.ENOTEMPTY)

    # --- files -------------------------------------------------------------------------------------------

    @answers
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, EntryAttributes]:
        _new_name(name)
        directory = self._writable_dir(parent_inode)
        found = await directory.node(name)
        if found is None:
            node = await self._make_file(parent_inode, name)
            node.handles += 1
            return pyfuse3.FileInfo(fh=node.ino), self._attributes(node, node.commit.timeout)
        if flags & os.O_EXCL:
            raise FUSEError(errno.EEXIST)
        if isinstance(found, OpenDir):
            raise FUSEError(errno.EISDIR)
        self.inodes.remember(self.inodes.settle(found))
        opened = await self._open_file(found, flags)
        return opened, self._attributes(found, found.commit.timeout)

    @answers
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        _new_name(name)
        self._writable_dir(parent_inode)
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)
        node = await self._make_file(parent_inode, name)
        await commit_of(node).send_file(node)
        return self._attributes(node, node.commit.timeout)

    async def _make_file(self, parent_inode: int, name: bytes) -> OpenFile:
        directory = await self._new_in(parent_inode, name)
        node = OpenFile(directory, name, _EMPTY_FILE, is_new=True)
        self._add(directory, node)
        return node

    @answers
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._writable_dir(parent_inode)
        raise FUSEError(errno.EPERM)

    @answers
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._writable_dir(new_parent_inode)
        raise FUSEError(errno.EPERM)

    @answers
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self.inodes[inode]
        if isinstance(node, OpenFile):
            return await self._open_file(node, flags)
        return await super().open(inode, flags, ctx)

    async def _open_file(self, node: OpenFile, flags: int) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            await commit_of(node).begin()
        # Local content came through the kernel, whose pages agree with it.
        keep = self._hand_over_whole(node) or node.is_local or node.opened_value == node.value
        node.handles += 1
        if flags & os.O_TRUNC:
            self._truncate(node, 0)
        if not node.is_local:
            node.opened_value = node.value
        return pyfuse3.FileInfo(fh=node.ino, keep_cache=keep)

    def _hand_over_whole(self, node: OpenFile) -> bool:
        """Give the kernel all of a small file that no program has open; whether that was done, now or before."""
        if node.opened and node.opened_value == node.value:
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
        if node.is_linked:
            commit_of(node).check_open()
        node.to_scratch().write(off, buf)
        node.note_change()
        return len(buf)

    @answers
    async def flush(self, fh: int) -> None:
        node = self.inodes[fh]
        if isinstance(node, OpenFile) and node.changes:
            commit_of(node).raise_error()
            await commit_of(node).send_file(node)

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
        listing = self._listings[fh]
        if isinstance(listing, OpenListing) and isinstance(listing.inode, OpenDir):
            await self._sync(commit_of(listing.inode), None)

    async def _sync(self, commit: OpenCommit, node: OpenFile | None) -> None:
        if node is not None:
            await commit.send_file(node)
        await commit.flush()
        commit.raise_error()

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
        if not await self.control(self.inodes[inode], name):
            self._writable(self.inodes[inode])
            raise FUSEError(errno.EOPNOTSUPP)

    async def control(self, inode: Inode, name: bytes) -> bool:
        """Do what setting an attribute of that name asks for; False where it asks for nothing."""
        return False

    @answers
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._writable(self.inodes[inode])
        raise FUSEError(errno.EOPNOTSUPP)


def _new_name(name: bytes) -> str:
    """A name for something new, as the API spells it; EILSEQ for what is not UTF-8."""
    if len(name) > SHOWN_NAME_BYTES:
        raise FUSEError(errno.ENAMETOOLONG)
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise FUSEError(errno.EILSEQ) from None
