"""What a mount tells of its files as extended attributes: those that are kept, and where a file comes from."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import FUSEError

from pfsd.trees import entries
from pfsfuse.kernel import requests
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import ROOT, Inode, InodeTable, Snapshot
from pfsfuse.kernel.mounts import CALLS, KEPT, REQUESTS

OWN_XATTRS = b"user.pfs."
"""How the extended attributes begin that say what is shown, not what was kept."""
_HASH = b"user.pfs.hash"
_COMMIT = b"user.pfs.commit"
_PROVENANCE = b"user.pfs.provenance"
_STATE = b"user.pfs.state"
_BRANCH = b"user.pfs.branch"


class DescribedView(pyfuse3.Operations):
    """A file system whose files have extended attributes."""

    inodes: InodeTable

    def kept_in(self) -> str:
        """Where is kept what could not be written."""
        raise FUSEError(pyfuse3.ENOATTR)

    def calls_made(self) -> int:
        """How many calls to the daemon the mount has made."""
        raise FUSEError(pyfuse3.ENOATTR)

    @answers
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """Those that are kept. The mount's own are not listed, so what copies attributes leaves them alone."""
        kept = self.inodes[inode].kept_attributes.xattrs
        return [name for name, _ in kept if not name.startswith(OWN_XATTRS)]

    def branch_of(self, inode: Inode) -> str:
        """The branch under which the inode's commit was found, or nothing."""
        return inode.snapshot.branch if inode.snapshot is not None else ""

    def state_of(self, inode: Inode) -> str:
        """`open` or `finished`, of the inode's commit."""
        return "finished"

    async def hash_of(self, inode: Inode) -> bytes:
        """The hash of the inode's content."""
        return entries.content_hash(await inode.directory() if inode.is_dir else inode.entry)

    @answers
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if not name.startswith(b"user."):
            # "Not supported" rather than "not there": ls then asks once a file system, not once a file.
            raise FUSEError(errno.EOPNOTSUPP)
        found = self.inodes[inode]
        snapshot = found.snapshot
        if name == KEPT and inode == ROOT:
            return os.fsencode(self.kept_in())
        if name == CALLS and inode == ROOT:
            return b"%d" % self.calls_made()
        if name == REQUESTS and inode == ROOT:
            return requests.counted()
        if snapshot is None:
            raise FUSEError(pyfuse3.ENOATTR)
        if not name.startswith(OWN_XATTRS):
            value = dict(found.kept_attributes.xattrs).get(name)
        elif name == _HASH:
            value = (await self.hash_of(found)).hex().encode()
        else:
            value = self._described(found, snapshot).get(name)
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return value

    def _described(self, inode: Inode, snapshot: Snapshot) -> dict[bytes, bytes]:
        """The extended attributes that say where something comes from."""
        values = {
            _COMMIT: f"{snapshot.repo}/{snapshot.commit}",
            _PROVENANCE: " ".join(snapshot.provenance),
            _STATE: self.state_of(inode),
            _BRANCH: self.branch_of(inode),
        }
        return {name: text.encode() for name, text in values.items() if text}
