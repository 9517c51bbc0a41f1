"""The files and directories of an open commit.

A directory shows the commit's tree, and over it what was not sent yet: `children` with local content, less `hidden`
names. Nodes are kept while the kernel refers to them or they hold something of their own.
"""

from __future__ import annotations

from pfsd import _core
from pfsd.errors import NotADirectoryPfsError
from pfsd.names.paths import Path
from pfsd.trees import attributes, entries, links, tree
from pfsd.trees.attributes import NONE, Attributes
from pfsd.trees.entries import DirEntry, FileEntry
from pfsd.trees.tree import NodesMissing
from pfsfuse.kernel.inodes import ChangingDir, Found, Inode, InodeTable, Snapshot
from pfsfuse.opencommits.commitprotocol import Commit, LinksMissingError
from pfsfuse.opencommits.links import Group
from pfsfuse.opencommits.nodeattributes import NodeAttributes
from pfsfuse.opencommits.scratch import Scratch

_DIRECTORY = bytes((entries.DIRECTORY,))
_LINK_KEY = b"/link/"


class OpenFile(Inode):
    """A file of an open commit, or a symbolic link or special file. With several names, it has them in `group`."""

    __slots__ = (
        "_kept",
        "changes",
        "commit",
        "group",
        "handles",
        "is_linked",
        "is_new",
        "opened_content",
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
        made = is_new and self.is_regular
        self.scratch: Scratch | None = Scratch(parent.commit.directory, entries.EMPTY_FILE) if made else None
        self.changes = 1 if made else 0
        self.sent = 0
        """How many of the changes of its content the daemon has."""
        self.opened_content = b""
        """The content that the kernel's pages agree with, where it is known."""
        self.group: Group[OpenFile, OpenDir] | None = None
        self._kept = NodeAttributes() if is_new else None

    @property
    def is_dir(self) -> bool:
        return False

    @property
    def is_regular(self) -> bool:
        """Whether it has content: no symbolic link, no special file."""
        return self.value[0] == entries.FILE

    @property
    def size(self) -> int:
        return self.scratch.size if self.scratch is not None else super().size

    @property
    def kept(self) -> NodeAttributes:
        """Its attributes."""
        if self._kept is None:
            self._kept = NodeAttributes(attributes.decode(self.value[_core.entry_end(self.value) :]))
        return self._kept

    @property
    def kept_attributes(self) -> Attributes:
        return self.kept.now()

    @property
    def default_mode(self) -> int:
        """The permission bits that are not kept."""
        return attributes.SYMLINK_MODE if self.value[0] == entries.SYMLINK else attributes.FILE_MODE

    def entry_now(self) -> bytes:
        """The encoded entry with the attributes that it has now."""
        return self.content_value + self.kept.encode(self.default_mode)

    @property
    def content_value(self) -> bytes:
        """The encoded entry that the daemon has, without attributes."""
        return self.value[: _core.entry_end(self.value)]

    @property
    def time_ns(self) -> int:
        time_ns = self.kept.time_ns
        return self.commit.time_ns if time_ns is None else time_ns

    @property
    def link_count(self) -> int:
        """How many names it has."""
        if not self.is_linked:
            return 0
        return 1 if self.group is None else len(self.group.paths)

    @property
    def is_dirty(self) -> bool:
        """Whether the daemon lacks something that was written."""
        return self.is_linked and self.changes != self.sent

    @property
    def is_local(self) -> bool:
        """Whether it shows something other than the commit's tree.

        It does not when all that was written to it was sent: then `scratch` is the same as `value`.
        """
        if self.group is not None and self.group.unsent:
            return True
        if self.scratch is None:
            return self.is_new
        return self.is_new or self.changes != self.sent or not self.is_linked

    @property
    def is_untouched(self) -> bool:
        """Whether it was made and nothing else: what another client has put there meanwhile is to stay."""
        return (
            self.is_new
            and self.changes == 1
            and self.group is None
            and isinstance(self.parent, OpenDir)
            and self.key not in self.parent.hidden
        )

    @property
    def held(self) -> bool:
        return self.handles > 0 or self.is_dirty or (self._kept is not None and self.is_linked and self._kept.is_dirty)

    def set_value(self, value: bytes) -> None:
        """The encoded entry, as the commit's tree has it now: where it is another, so is the content."""
        if value == self.value:
            return
        before, self.value = self.content_value, value
        self._entry = None
        if self._kept is not None and not self._kept.is_dirty:
            self._kept.told(entries.attributes_of(self.entry))
        if self.scratch is not None and self.content_value != before:
            self.scratch.close()
            self.scratch = None

    def give_way(self, value: bytes | None) -> None:
        """Another client's content counts, not what was written here; the encoded entry, if there is one."""
        self.sent, self.is_new = self.changes, False
        self.kept.taken(self.kept.changes)
        if value is not None:
            self.set_value(value)

    def taken(self, changes: int, kept_changes: int, value: bytes) -> None:
        """The daemon has so many of the changes; the encoded entry with them is `value`."""
        self.sent, self.is_new = changes, False
        self.value, self._entry = value, None
        if self.scratch is not None:
            self.scratch.rebase(self.file.content)
        self.kept.taken(kept_changes)
        if self.group is not None:
            self.group.unsent.clear()
        if self.changes == changes:  # the kernel's pages hold what was written through it
            self.opened_content = self.content_value

    def attributes_taken(self, value: bytes, kept_changes: int, names: frozenset[Path]) -> None:
        """The daemon has so many of the changes of attributes, with which the entry is `value`, and these names."""
        self.is_new = self.is_new and self.is_regular
        self.value, self._entry = value, None
        self.kept.taken(kept_changes)
        if self.group is not None:
            self.group.unsent -= names

    @property
    def file(self) -> FileEntry:
        """The content that the daemon has."""
        entry = self.entry
        assert isinstance(entry, FileEntry)
        return entry

    def to_scratch(self) -> Scratch:
        """The local content; from here on it counts."""
        if self.scratch is None:
            self.scratch = Scratch(self.commit.directory, self.file.content)
        return self.scratch

    def note_change(self, time_ns: int = 0) -> None:
        """Its content was changed, by default now."""
        self.changes += 1
        self.opened_content = b""
        self.opened = False
        self.kept.touch(time_ns)
        self._touch()

    def change_attributes(self) -> None:
        """Its attributes were changed."""
        self.kept.changed()
        self._touch()
        if self.is_linked:
            self.commit.note_attributes(self)

    def _touch(self) -> None:
        if isinstance(self.parent, OpenDir):
            self.commit.touch(self.parent, self.key)

    def path(self) -> Path:
        """Where it stands in the commit: under the name by which it was found last, if it has that still."""
        path = _path(self)
        if self.group is not None and path not in self.group.paths and self.group.paths:
            return min(self.group.paths)
        return path

    def other_paths(self) -> list[Path]:
        """Where else it stands."""
        return [] if self.group is None else sorted(self.group.paths - {self.path()})

    def name_at(self, directory: OpenDir, name: bytes) -> None:
        """It goes by this one of its names from here on."""
        self.parent, self.key = directory, name

    def settle_in(self, inodes: InodeTable) -> Inode:
        return _settle(self, inodes)

    def dropped(self) -> list[Inode]:
        left = _leave(self)
        if self.scratch is not None:
            self.scratch.close()
        if self.group is not None:
            for directory, name in self.group.places:
                if directory.children.get(name) is self:
                    del directory.children[name]
                    left.append(directory)
            self.group.places.clear()
            self.group.node = None
        return left


class OpenDir(ChangingDir):
    """A directory of an open commit."""

    default_mode = attributes.DIRECTORY_MODE
    """The permission bits that are not kept."""

    __slots__ = ("_root", "_within", "children", "commit", "hidden", "is_linked", "is_new", "kept", "snapshot")

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
        self.kept = NodeAttributes()

    @property
    def kept_attributes(self) -> Attributes:
        return self.kept.now()

    @property
    def time_ns(self) -> int:
        return self.commit.time_ns if self.kept.time_ns is None else self.kept.time_ns

    @property
    def link_count(self) -> int:
        """One says "not counted": find then looks at every entry."""
        return 1 if self.is_linked else 0

    def told(self, value: bytes) -> None:
        """The encoded entry, as the commit's tree has it now."""
        if not self.kept.is_dirty:
            found = attributes.decode(entries.decode(value).attributes) if len(value) > _PLAIN_BYTES else NONE
            self.kept.told(found)

    def change_attributes(self) -> None:
        """Its attributes were changed."""
        self.kept.changed()
        self._tell()

    def _tell(self) -> None:
        if isinstance(self.parent, OpenDir):
            self.commit.touch(self.parent, self.key)
        if self.is_linked:
            self.commit.note_attributes(self)

    @property
    def is_local(self) -> bool:
        return self.is_new

    @property
    def held(self) -> bool:
        return self.is_new or bool(self.children) or bool(self.hidden) or (self.is_linked and self.kept.is_dirty)

    def settle_in(self, inodes: InodeTable) -> Inode:
        return _settle(self, inodes)

    def dropped(self) -> list[Inode]:
        return _leave(self)

    def path(self) -> Path:
        """Where it stands in the commit."""
        return _path(self)

    async def directory(self) -> DirEntry:
        root, content = await self.tree_root(), self.commit.content
        return await content.run(lambda: entries.dir_entry(content.nodes, root))

    async def tree_root(self) -> bytes:
        """Root hash of what the commit's tree has of this directory."""
        return await self.commit.content.run(self.tree_root_now)

    def tree_root_now(self) -> bytes:
        """The same; raises NodesMissing where the nodes that tell it are not at hand."""
        above: list[OpenDir] = []  # not recursion, as in `InodeTable.recheck`
        here, root = self, self.commit.root
        while isinstance(here.parent, OpenDir):
            if here.is_new:  # the tree may still have one of this name that was removed
                root = tree.EMPTY
                break
            above.append(here)
            here = here.parent
        for directory in reversed(above):
            root = directory._root_within(root)
        return root

    def _root_within(self, within: bytes) -> bytes:
        """Root hash of what a tree, that of its parent, has of this directory."""
        if within != self._within:
            value = tree.get(self.commit.content.nodes, within, self.key)
            found = entries.decode(value) if value is not None else None
            self._root = found.root if isinstance(found, DirEntry) else tree.EMPTY
            self._within = within
        return self._root

    def moved(self) -> None:
        """It stands elsewhere: forget what was looked up."""
        self._within = None

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
        raise NotADirectoryPfsError("names in an open commit's directories are looked up by `node`")

    async def listing(self) -> list[Found]:
        raise NotADirectoryPfsError("an open commit's directories are listed by pages")

    async def node(self, name: bytes) -> OpenFile | OpenDir | None:
        """What stands here under a name now."""
        while True:
            await self.commit.freshen()
            try:
                return self.node_now(name)
            except NodesMissing as missing:
                wanted = missing.hashes
            except LinksMissingError:
                await self.commit.read_links()
                continue
            await self.commit.content.fetch_nodes(wanted)

    def node_now(self, name: bytes) -> OpenFile | OpenDir | None:
        """What stands here under a name, as the commit's tree was told last.

        Raises NodesMissing and LinksMissingError where something has to be fetched for that.
        """
        node = self.children.get(name)
        is_untouched = isinstance(node, OpenFile) and node.is_untouched
        if node is not None and node.is_local and not is_untouched:
            return node
        if name in self.hidden or not self.is_linked:
            return None
        value = tree.get(self.commit.content.nodes, self.tree_root_now(), name)
        if value is not None and links.link_of(value) and not self.commit.has_links:
            raise LinksMissingError
        if isinstance(node, OpenFile) and is_untouched:
            if value is not None and value[:1] != _DIRECTORY:
                node.give_way(value)
            return node
        return self.node_for(name, value)

    def node_for(self, name: bytes, value: bytes | None) -> OpenFile | OpenDir | None:
        """The node of an entry of the commit's tree; a new one is not among the children before `attach`."""
        node = self.children.get(name)
        if node is not None and not node.is_local and not (value and self.commit.is_still(node, self, name, value)):
            self.commit.lose(self, name)
            node = None
        if value is None:
            return node
        if node is not None:
            if isinstance(node, OpenDir):
                node.told(value)
            elif not node.is_local:
                node.set_value(value)
                self._group(node, name)
            return node
        if value[:1] == _DIRECTORY:
            directory = OpenDir(self, name, self.commit, snapshot=self.commit.snapshot)
            directory.told(value)
            return directory
        made = OpenFile(self, name, value)
        self._group(made, name)
        known = None if made.group is None else made.group.node
        if known is None:
            return made
        known.name_at(self, name)
        return known

    def _group(self, node: OpenFile, name: bytes) -> None:
        """Let a file that the tree has under a name be in its group, where it has several names."""
        if node.group is None and links.link_of(node.value):
            node.group = self.commit.links.at((*self.path(), name.decode()))

    def attach(self, node: OpenFile | OpenDir, inodes: InodeTable) -> None:
        """`node` is the one of its name from here on."""
        if self.children.get(node.key) is not node:
            if not node.ino:
                node.ino = _free_number(node, inodes)
            self.children[node.key] = node
        if isinstance(node, OpenFile) and node.group is not None:
            node.group.node = node
            node.group.places.add((self, node.key))

    def note_change(self, name: bytes) -> None:
        """What stands under a name came, went or moved."""
        self.commit.touch(self, name)
        self.kept.touch()
        self._tell()


_PLAIN_BYTES = 1 + tree.HASH_BYTES + 3
"""Length of the shortest entry of a directory; one that is as short has no attributes."""


def _free_number(node: OpenFile | OpenDir, inodes: InodeTable) -> int:
    """A number for a node: of a file with several names, one that follows from none of them."""
    assert node.parent is not None
    if isinstance(node, OpenFile) and node.kept.link:
        return inodes.free_number(node.commit.top.ino, _LINK_KEY + node.kept.link)
    return inodes.free_number(node.parent.ino, node.key)


def _path(node: OpenFile | OpenDir) -> Path:
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


def _leave(node: OpenFile | OpenDir) -> list[Inode]:
    """Take a node from its directory, which may not be needed any more then."""
    parent = node.parent
    if not isinstance(parent, OpenDir):
        node.commit.ended()
        return []
    if parent.children.get(node.key) is node:
        del parent.children[node.key]
    return [parent]
