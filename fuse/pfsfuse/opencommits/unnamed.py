"""Files of an open commit that are made without a name, as programs ask for with O_TMPFILE."""

from __future__ import annotations

import secrets

from pfsd.trees import entries
from pfsfuse.kernel.inodes import Inode, InodeTable
from pfsfuse.opencommits.nodeattributes import now_ns
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile

_EMPTY_FILE = entries.encode(entries.EMPTY_FILE)
_KEY = b"/unnamed/"


class UnnamedFile(OpenFile):
    """A file that has no name at first, and may get one. Without one it ends with its last handle."""

    __slots__ = ("may_be_named",)

    def __init__(self, directory: OpenDir, inodes: InodeTable) -> None:
        super().__init__(directory, _KEY + secrets.token_hex(8).encode(), _EMPTY_FILE, is_new=True)
        self.is_linked = False
        self.may_be_named = True
        """Whether it has had no name yet: then what was written stays as long as the kernel knows it."""
        self.ino = inodes.free_number(directory.ino, self.key)

    def name_first(self, directory: OpenDir, name: bytes) -> None:
        """It gets its first name, and is a new file like others from here on."""
        self.name_at(directory, name)
        self.is_linked, self.may_be_named = True, False
        self.kept.changed_ns = now_ns()

    def _touch(self) -> None:
        if not self.may_be_named:
            super()._touch()

    def dropped(self) -> list[Inode]:
        if self.may_be_named and self.scratch is not None:
            self.scratch.close()
        return super().dropped()


def may_be_named(node: OpenFile) -> bool:
    """Whether a file was made without a name, and has had none yet."""
    return isinstance(node, UnnamedFile) and node.may_be_named
