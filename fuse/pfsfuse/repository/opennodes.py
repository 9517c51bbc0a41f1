"""The files and directories of an open commit.

A directory shows what the commit's tree has, and over it what this mount has not sent yet: `children` with local
content, less `hidden` names. Nodes are kept while the kernel refers to them or they hold something of their own.
"""

from __future__ import annotations

import time
from typing import Protocol

from pfsd.errors import NotADirectoryPfsError
from pfsd.trees import entries, tree
from pfsd.trees.entries import DirEntry, FileEntry
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import ChangingDir, Found, Inode, InodeTable, Snapshot
from pfsfuse.repository.scratch import Scratch

_DIRECTORY = b"\x02"
_EMPTY_FILE = entries.encode(entries.EMPTY_FILE)


class Commit(Protocol):
    """What files and directories ask of the open commit that they are in, and tell it."""

    snapshot: Snapshot
    content: Content
    inodes: InodeTable
    directory: str
    """Where scratch files are."""
    root: bytes
    """Root hash of its tree, as it was last told."""

    @property
    def timeout(self) -> float:
        """Seconds for which the kernel may keep what it is told now."""

    async def freshen(self) -> None:
        """Ask for the commit's tree unless what was told holds."""

    def touch(self, directory: OpenDir, name: bytes) -> None:
        """A name, or what it stands for, is changed through this mount."""

    def time_of(self, changed_ns: int) -> int:
        """The time that a node shows which this mount has changed then, if it has (else 0)."""

    def ended(self) -> None:
        """Nothing refers to the commit's root directory any more."""


class OpenFile(Inode):
    """A file of an open commit."""

    __slots__ = (
        "_changed_ns",
        "changes",
        "commit",
        "handles",
        "is_linked",
        "is_new",
        "opened_value",
        "scratch",
        "sent",
    )

    def __init__(self, parent: OpenDir, name: bytes, value: bytes, *, is_new: bool = False) -> None:
        super().__init__(parent, name, parent.commit.snapshot, value)
        self.commit = parent.commit
        self.is_new = is_new
        """Whether the daemon has nothing under this name yet."""
        self.is_linked = True
        """Whether it has a name: not once it was removed or replaced."""
        self.handles = 0
        self.scratch: Scratch | None = Scratch(parent.commit.directory, entries.EMPTY_FILE) if is_new else None
        self.changes = 1 if is_new else 0
        self.sent = 0
        """How many of the changes the daemon has."""
        self.opened_value = b""
        """The content that the kernel's pages agree with, where it is known."""
        self._changed_ns = time.time_ns() if is_new else 0

    @property
    def is_dir(self) -> bool:
        return False

    @property
    def size(self) -> int:
        return self.scratch.size if self.scratch is not None else super().size

    @property
    def time_ns(self) -> int:
        return self.commit.time_of(self._changed_ns)

    @time_ns.setter
    def time_ns(self, value: int) -> None:
        self._changed_ns = value

    @property
    def is_dirty(self) -> bool:
        """Whether the daemon lacks something that was written."""
        return self.is_linked and self.changes != self.sent

    @property
    def is_local(self) -> bool:
        """Whether it shows something other than the commit's tree.

        It does not when all that was written to it was sent: then `scratch` is the same as `value`.
        """
        return self.scratch is not None and (self.is_new or self.changes != self.sent or not self.is_linked)

    @property
    def is_untouched(self) -> bool:
        """Whether it was made and nothing else: what another client has put there meanwhile is to stay."""
        return (
            self.is_new
            and self.changes == 1
            and isinstance(self.parent, OpenDir)
            and self.key not in self.parent.hidden
        )

    @property
    def held(self) -> bool:
        return self.handles > 0 or self.is_dirty

    def set_value(self, value: bytes) -> None:
        """The encoded entry, as the commit's tree has it now: where it is another, so is the content."""
        if value != self.value:
            self.value = value
            self._entry = None
            if self.scratch is not None:
                self.scratch.close()
                self.scratch = None

    def give_way(self, value: bytes | None) -> None:
        """Another client's content counts, not what was written here; the encoded entry, if there is one."""
        self.sent, self.is_new = self.changes, False
        if value is not None:
            self.set_value(value)

    def taken(self, changes: int, entry: FileEntry) -> None:
        """The daemon has so many of the changes; its content is `entry` with them."""
        self.sent, self.is_new = changes, False
        if self.scratch is not None:
            self.scratch.rebase(entry)
        self.value, self._entry = entries.encode(entry), entry
        if self.changes == changes:  # the kernel's pages hold what was written through it
            self.opened_value = self.value

    @property
    def file(self) -> FileEntry:
        """The content that the daemon has."""
        entry = self.entry
        assert isinstance(entry, FileEntry)
        return entry

    def to_scratch(self) -> Scratch:
        """The local content; from here on it counts."""
        if self.scratch is None:
            self.scratch = Scratch(self.commit.directory, self.file)
        return self.scratch

    def note_change(self) -> None:
        """Its content was changed."""
        self.changes += 1
        self.opened_value = b""
        self.opened = False
        self._changed_ns = time.time_ns()
        if isinstance(self.parent, OpenDir):
            self.commit.touch(self.parent, self.key)

    def path(self) -> tuple[str, ...]:
        """Where it stands in the commit."""
        return _path(self)

    def settle_in(self, inodes: InodeTable) -> Inode:
        return _settle(self, inodes)

    def dropped(self) -> None:
        _leave(self)


class OpenDir(ChangingDir):
    """A directory of an open commit."""

    __slots__ = ("_changed_ns", "_root", "_within", "children", "commit", "hidden", "is_linked", "is_new", "snapshot")

    def __init__(
        self, parent: Inode | None, name: bytes, commit: Commit, *, is_new: bool = False, snapshot: Snapshot
    ) -> None:
        super().__init__(parent, name, 0)
        self.snapshot = snapshot
        self.commit = commit
        self.is_new = is_new
        self.is_linked = True
        self.children: dict[bytes, OpenFile | OpenDir] = {}
        self.hidden: set[bytes] = set()
        """Names that the commit's tree may still have although they were removed."""
        self._within: bytes | None = None
        """The root of the parent's tree for which `_root` holds."""
        self._root = tree.EMPTY
        self._changed_ns = time.time_ns() if is_new else 0

    @property
    def time_ns(self) -> int:
        return self.commit.time_of(self._changed_ns)

    @time_ns.setter
    def time_ns(self, value: int) -> None:
        self._changed_ns = value

    @property
    def is_local(self) -> bool:
        return self.is_new

    @property
    def held(self) -> bool:
        return self.is_new or bool(self.children) or bool(self.hidden)

    def settle_in(self, inodes: InodeTable) -> Inode:
        return _settle(self, inodes)

    def dropped(self) -> None:
        _leave(self)

    def path(self) -> tuple[str, ...]:
        """Where it stands in the commit."""
        return _path(self)

    async def directory(self) -> DirEntry:
        root, content = await self.tree_root(), self.commit.content
        return await content.run(lambda: entries.dir_entry(content.nodes, root))

    async def tree_root(self) -> bytes:
        """Root hash of what the commit's tree has of this directory."""
        parent = self.parent
        if not isinstance(parent, OpenDir):
            return self.commit.root
        if self.is_new:  # the tree may still have one of this name that was removed
            return tree.EMPTY
        within = await parent.tree_root()
        if within != self._within:
            value = await self.commit.content.child(DirEntry(within), self.key)
            found = entries.decode(value) if value is not None else None
            self._root = found.root if isinstance(found, DirEntry) else tree.EMPTY
            self._within = within
        return self._root

    def moved(self) -> None:
        """It stands elsewhere: forget what was looked up."""
        self._within = None

    def dirty_files(self) -> list[OpenFile]:
        """The files in it, and below it, of which the daemon lacks something."""
        found: list[OpenFile] = []
        for child in self.children.values():
            if isinstance(child, OpenDir):
                found += child.dirty_files()
            elif child.is_dirty:
                found.append(child)
        return found

    async def is_empty(self) -> bool:
        """Whether nothing stands in it."""
        await self.commit.freshen()
        while not any(child.is_local for child in self.children.values()):
            root = self.commit.root
            has_in_tree = await self._has_in_tree()
            if root == self.commit.root:  # what is sent meanwhile is hidden no longer, though the tree read has it
                return not has_in_tree and not any(child.is_local for child in self.children.values())
        return False

    async def _has_in_tree(self) -> bool:
        """Whether the commit's tree has something in it that is not hidden."""
        root, start = await self.tree_root(), b""
        while page := await self.commit.content.page(root, start, 1000):
            if any(name not in self.hidden for name, _ in page):
                return True
            start = page[-1][0] + b"\0"
        return False

    async def find(self, name: str) -> Found | None:
        node = await self.node(name.encode())
        return None if node is None else Found(node, self.commit.timeout)

    async def listing(self) -> list[Found]:
        raise NotADirectoryPfsError("an open commit's directories are listed by pages")

    async def node(self, name: bytes) -> OpenFile | OpenDir | None:
        """What stands here under a name now."""
        await self.commit.freshen()
        while True:
            node = self.children.get(name)
            if node is not None and node.is_local and not (isinstance(node, OpenFile) and node.is_untouched):
                return node
            if name in self.hidden or not self.is_linked:
                return None
            root = self.commit.root
            value = await self.commit.content.child(DirEntry(await self.tree_root()), name)
            if root == self.commit.root and node is self.children.get(name) and name not in self.hidden:
                if isinstance(node, OpenFile) and node.is_untouched:
                    if value is not None and value[:1] != _DIRECTORY:
                        node.give_way(value)
                    return node
                if not (node and node.is_local):
                    return self.node_for(name, value)

    def node_for(self, name: bytes, value: bytes | None) -> OpenFile | OpenDir | None:
        """The node of an entry of the commit's tree; a new one is not among the children before `attach`."""
        node = self.children.get(name)
        if node is not None and (node.is_local or (value is not None and node.is_dir == (value[:1] == _DIRECTORY))):
            if isinstance(node, OpenFile) and value is not None and not node.is_local:
                node.set_value(value)
            return node
        if node is not None:  # removed or replaced by another client
            node.is_linked = False
            del self.children[name]
        if value is None:
            return None
        if value[:1] == _DIRECTORY:
            return OpenDir(self, name, self.commit, snapshot=self.commit.snapshot)
        return OpenFile(self, name, value)

    def attach(self, node: OpenFile | OpenDir, inodes: InodeTable) -> None:
        """`node` is the one of its name from here on."""
        if self.children.get(node.key) is not node:
            if not node.ino:
                node.ino = inodes.free_number(self.ino, node.key)
            self.children[node.key] = node

    def note_change(self, name: bytes) -> None:
        """What stands under a name came, went or moved."""
        self._changed_ns = time.time_ns()
        self.commit.touch(self, name)


def _path(node: OpenFile | OpenDir) -> tuple[str, ...]:
    names: list[str] = []
    here: Inode | None = node
    while isinstance(here, (OpenFile, OpenDir)) and isinstance(here.parent, OpenDir):
        names.append(here.key.decode())
        here = here.parent
    return tuple(reversed(names))


def _settle(node: OpenFile | OpenDir, inodes: InodeTable) -> Inode:
    parent = node.parent
    if isinstance(parent, OpenDir):
        parent.attach(node, inodes)
    elif not node.ino:
        assert parent is not None
        node.ino = inodes.free_number(parent.ino, node.key)
    return node


def _leave(node: OpenFile | OpenDir) -> None:
    parent = node.parent
    if isinstance(parent, OpenDir):
        if parent.children.get(node.key) is node:
            del parent.children[node.key]
        parent.commit.inodes.recheck(parent)
    else:
        node.commit.ended()
