"""The inode table: what the kernel refers to, by number.

A number follows from the parent's number and the inode's key, so the same file keeps its number when the
kernel has forgotten it, and from one mount to the next: tools that compare inode numbers (backups, `find`)
see no change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice

from pfsd import _core
from pfsd.errors import CorruptError, NotADirectoryPfsError, StateError
from pfsd.names.bytenames import shown_name
from pfsd.trees import entries, varint
from pfsd.trees.attributes import NONE, Attributes
from pfsd.trees.entries import DirEntry, Entry

ROOT = 1
"""The kernel's number for the root of a mount."""

FOREVER = 1e6
"""Seconds for which the kernel may keep what never changes."""

SHOWN_NAME_BYTES = 1024
"""Longest name that the kernel takes. Files with longer ones are there for other clients alone: lists leave them out,
because the kernel would refuse a whole list that holds one."""

_SEPARATOR = b"/"

_CHANGING = b"\x02"
"""Stands for the entry of a directory that can change."""

EntryStat = tuple[int, int, int | None, int | None, int | None, int | None, bytes | None]
"""Kind, size, mode, user, group, time in nanoseconds and link of an entry; None for what it does not keep."""

_CHANGING_STAT: EntryStat = (2, 0, None, None, None, None, None)


def stat_of(value: bytes) -> EntryStat:
    """What an encoded entry keeps of itself; raises CorruptError."""
    try:
        return _core.stat_entry(value)
    except ValueError as error:
        if value == _CHANGING:
            return _CHANGING_STAT
        raise CorruptError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all files of one commit's tree share."""

    repo: str
    commit: str
    time_ns: int
    """The files' times, in nanoseconds since 1970."""
    provenance: tuple[str, ...] = ()
    """REPO/ID of every commit that it was made from."""
    branch: str = ""
    """The branch under which the commit was found, if any."""


class Inode:
    """A file or directory of an immutable tree.

    Its key is its name, followed below directories that can change by '/' and whatever tells apart
    the contents that the name can stand for.
    """

    __slots__ = ("_entry", "ino", "key", "lookups", "opened", "parent", "snapshot", "value")

    def __init__(self, parent: Inode | None, key: bytes, snapshot: Snapshot | None, value: bytes, ino: int = 0) -> None:
        self.ino = ino
        """Set by `InodeTable.settle`."""
        self.parent = parent
        self.key = key
        self.snapshot = snapshot
        self.value = value
        """The encoded entry."""
        self.lookups = 0
        """How many references the kernel holds."""
        self.opened = False
        """Whether the kernel was ever told that a program may read it."""
        self._entry: Entry | None = None

    @property
    def name(self) -> bytes:
        """The name in the parent directory."""
        return self.key.partition(_SEPARATOR)[0]

    @property
    def entry(self) -> Entry:
        """The decoded entry."""
        if self._entry is None:
            self._entry = entries.decode(self.value)
        return self._entry

    @property
    def is_dir(self) -> bool:
        return self.value[0] == 2

    @property
    def kept_attributes(self) -> Attributes:
        """What the entry keeps beside its content."""
        return NONE if self.value == _CHANGING else entries.attributes_of(self.entry)

    @property
    def links(self) -> int:
        """How many names it has; 1 for a directory."""
        return 1

    @property
    def size(self) -> int:
        """Bytes of a file, or of the target of a symbolic link; of others, 0."""
        return varint.decode(self.value, 1)[0] if self.value[0] in (entries.FILE, entries.SYMLINK) else 0

    @property
    def time_ns(self) -> int:
        return self.snapshot.time_ns if self.snapshot is not None else 0

    def settle_in(self, inodes: InodeTable) -> Inode:
        """Itself with its number, or the one like it that the table has."""
        if self.parent is None:
            return inodes[ROOT]
        self.ino, found = inodes.number(self.parent.ino, self.key)
        return found or self

    @property
    def held(self) -> bool:
        """Whether the table has to keep it also when the kernel has forgotten it."""
        return False

    def dropped(self) -> list[Inode]:
        """The table does not have it any more. Gives the inodes that it held and nothing else may need now."""
        return []

    async def directory(self) -> DirEntry:
        """The directory's content. Raises NotADirectoryPfsError for a file."""
        entry = self.entry
        if not isinstance(entry, DirEntry):
            raise NotADirectoryPfsError(f"{self.name.decode(errors='replace')} is not a directory")
        return entry


class LinkedFile(Inode):
    """A file of several names in a tree. Its parent is the tree's root, and no name is its own."""

    __slots__ = ("_links",)

    def __init__(self, top: Inode, key: bytes, value: bytes, links: int) -> None:
        super().__init__(top, key, top.snapshot, value)
        self._links = links

    @property
    def links(self) -> int:
        return self._links


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a directory that can change."""

    inode: Inode
    """Not settled yet."""
    timeout: float
    """Seconds for which the kernel may answer the name without asking again."""
    name: bytes = b""
    """The name, where it is not the inode's."""


class ChangingDir(Inode, ABC):
    """A directory whose entries follow from a state outside: repos, branches, the datum in hand."""

    __slots__ = ("_time_ns",)

    def __init__(self, parent: Inode | None, key: bytes, time_ns: int, ino: int = 0) -> None:
        super().__init__(parent, key, None, _CHANGING, ino)
        self._time_ns = time_ns

    @property
    def time_ns(self) -> int:
        return self._time_ns

    @abstractmethod
    async def find(self, name: str) -> Found | None:
        """The entry called `name` now."""

    async def make(self, name: str) -> Found:
        """Make a directory of that name. Raises AlreadyExistsError, InvalidError, StateError."""
        raise StateError(f"{name} can't be made here")

    async def remove(self, name: str) -> None:
        """Remove the directory of that name. Raises NotFoundError, NotEmptyError, StateError."""
        raise StateError(f"{name} can't be removed")

    @abstractmethod
    async def listing(self) -> list[Found]:
        """The entries now, in the order of their names. Raises NotFoundError when the directory is gone."""


class InodeTable:
    """The inodes that the kernel refers to, and the root."""

    def __init__(self, root: Inode) -> None:
        root.ino, root.lookups = ROOT, 1
        self._inodes: dict[int, Inode] = {ROOT: root}
        self._parent, self._hasher = ROOT, _hasher_of(ROOT)
        """The directory for which a number was asked last."""

    def __len__(self) -> int:
        return len(self._inodes)

    def __getitem__(self, ino: int) -> Inode:
        return self._inodes[ino]

    def find(self, ino: int) -> Inode | None:
        """The inode of a number, if it is here."""
        return self._inodes.get(ino)

    def number(self, parent: int, key: bytes) -> tuple[int, Inode | None]:
        """The number of the inode with this key below `parent`, and the inode if it is here."""
        if parent != self._parent:
            self._parent, self._hasher = parent, _hasher_of(parent)
        hasher = self._hasher.copy()
        hasher.update(key)
        ino = int.from_bytes(hasher.digest(), "little") >> 1
        while True:
            found = self._inodes.get(ino)
            if found is None and ino > ROOT:
                return ino, None
            if found is not None and found.key == key and found.parent and found.parent.ino == parent:
                return ino, found
            ino = (ino + 1) & (1 << 63) - 1

    def settle(self, inode: Inode) -> Inode:
        """`inode` with its number, or the one like it that is here."""
        return inode.settle_in(self)

    def remember(self, inode: Inode) -> None:
        """The kernel got one more reference to `inode`, which is settled."""
        inode.lookups += 1
        self._inodes[inode.ino] = inode

    def forget(self, ino: int, count: int) -> None:
        """The kernel gave back `count` references."""
        inode = self._inodes.get(ino)
        if inode is None:
            return
        inode.lookups -= count
        self.recheck(inode)

    def recheck(self, inode: Inode) -> None:
        """Drop an inode that neither the kernel nor anything else needs any more, and those that it alone held."""
        doubtful = [inode]  # not recursion: directories may lie deeper than Python's stack
        while doubtful:
            here = doubtful.pop()
            if here.lookups <= 0 and here.ino != ROOT and not here.held and self._inodes.get(here.ino) is here:
                del self._inodes[here.ino]
                doubtful += here.dropped()

    def keep(self, inode: Inode) -> None:
        """`inode`, which has its number, is in the table although the kernel may not refer to it."""
        self._inodes[inode.ino] = inode

    def oldest_files(self, count: int) -> list[tuple[int, bytes]]:
        """Names of files in immutable trees, as the kernel has them, each with the number of its directory, among the
        `count` inodes that the kernel has known for longest.
        """
        return [
            (inode.parent.ino, shown_name(inode.key))
            for inode in islice(self._inodes.values(), count)
            if type(inode) is Inode and not inode.is_dir and inode.parent and not isinstance(inode.parent, ChangingDir)
        ]

    def free_number(self, parent: int, key: bytes) -> int:
        """A number for a new inode with this key below `parent`, whatever is here already."""
        ino, found = self.number(parent, key)
        while found is not None:
            ino = (ino + 1) & (1 << 63) - 1
            found = self._inodes.get(ino)
        return ino


def _hasher_of(parent: int) -> blake2b:
    return blake2b(digest_size=8, salt=parent.to_bytes(8, "little"))
