"""What waits to be sent of an open commit: closed files, new directories, removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import trio

from pfsd.names.paths import Path, join
from pfsfuse.client import writes
from pfsfuse.client.writes import EditStep
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.outdated import Closed

BEHIND_COUNT = 1000
BEHIND_BYTES = 8 << 20
"""How many files, removals and directories may wait, and bytes in them, before they are sent without delay."""

Removal = tuple[OpenDir, bytes]
"""Parent and name of what the daemon still has."""


@dataclass(slots=True)
class Batch:
    """What is sent together."""

    files: dict[OpenFile, Closed] = field(default_factory=dict)
    directories: dict[OpenDir, None] = field(default_factory=dict)
    removals: dict[Removal, bool] = field(default_factory=dict)
    """And whether each is of a directory."""
    attributes: dict[OpenFile | OpenDir, None] = field(default_factory=dict)
    """Nodes of which the daemon lacks attributes, or names beside others; links and special files that it lacks."""

    def steps(self) -> tuple[list[EditStep], list[Changed]]:
        """What is to be done before the files are sent: removals, new directories, attributes; and those."""
        replaced = {(node.parent, node.key) for node in self.files if node.is_linked and node.is_new}
        steps = [
            writes.remove(join((*parent.path(), name.decode())), is_dir)
            for (parent, name), is_dir in self.removals.items()
            if is_dir or (parent, name) not in replaced
        ]
        steps += [writes.make_directory(join(node.path())) for node in self.directories if node.is_linked]
        changed: list[Changed] = []
        for node in self.attributes:
            if node.is_linked and not (isinstance(node, OpenFile) and self._comes(node)):
                steps += _attribute_steps(node, changed)
        return steps, changed

    def _comes(self, node: OpenFile) -> bool:
        """Whether a file's attributes are sent with its content, now or later."""
        return node.is_regular and (node.is_new or node in self.files)


@dataclass(frozen=True, slots=True)
class Changed:
    """Attributes of a node, as they are sent."""

    node: OpenFile | OpenDir
    changes: int
    value: bytes
    """Of a file, the encoded entry with them."""
    names: frozenset[Path]

    def taken(self) -> None:
        """The daemon has them."""
        if isinstance(self.node, OpenFile):
            self.node.attributes_taken(self.value, self.changes, self.names)
        else:
            self.node.kept.taken(self.changes)


def _attribute_steps(node: OpenFile | OpenDir, changed: list[Changed]) -> list[EditStep]:
    """Steps that give a node, under all its names, the attributes that it has now; adds these to `changed`."""
    encoded = node.kept.encode(node.default_mode)
    if isinstance(node, OpenDir):
        changed.append(Changed(node, node.kept.changes, b"", frozenset()))
        return [writes.set_attributes(join(node.path()), encoded)]
    value, group = node.entry_now(), node.group
    unsent = frozenset() if group is None else frozenset(group.unsent)
    changed.append(Changed(node, node.kept.changes, value, unsent))
    return [
        writes.replace(join(path), value)
        if path in unsent or not node.is_regular
        else writes.set_attributes(join(path), encoded)
        for path in (node.path(), *node.other_paths())
    ]


class Waiting:
    """The queue of one open commit."""

    def __init__(self) -> None:
        self.next = Batch()
        self.full = trio.Event()
        """Set when so much waits that it is to be sent without delay."""
        self._bytes = 0
        self._taken: list[OpenDir | Removal | Changed] = []
        """What the daemon has taken before the files, but of which the commit's tree may not tell yet."""

    @property
    def count(self) -> int:
        """How much waits: files, directories, removals, attributes."""
        waiting = self.next
        files, directories = len(waiting.files), len(waiting.directories)
        return files + directories + len(waiting.removals) + len(waiting.attributes) + len(self._taken)

    def add_bytes(self, size: int) -> None:
        """So many bytes more wait."""
        self._bytes += size

    def exceeds(self, times: int) -> bool:
        """Whether so many times as much waits as may without being sent at once."""
        return self.count >= times * BEHIND_COUNT or self._bytes >= times * BEHIND_BYTES

    def take(self) -> Batch:
        """All that waits, which is in the caller's hands from here on."""
        batch = replace(self.next)
        self.next = Batch()
        self._bytes = 0
        self.full = trio.Event()
        return batch

    def put_back(self, batch: Batch) -> None:
        """A batch could not be sent: it waits again, before what has come since."""
        later = self.next
        self.next = Batch(
            batch.files | later.files,
            batch.directories | later.directories,
            {**batch.removals, **later.removals},
            batch.attributes | later.attributes,
        )

    def note_taken(self, batch: Batch, changed: Sequence[Changed]) -> None:
        """The daemon has taken the steps of a batch, of which only the files are left."""
        self._taken += [*batch.directories, *batch.removals, *changed]
        batch.directories, batch.removals, batch.attributes = {}, {}, {}

    def settle_taken(self) -> list[OpenFile | OpenDir]:
        """The commit's tree tells by now of what the daemon had taken; the nodes that may not be needed any more."""
        taken, self._taken = self._taken, []
        return [self._settled(item) for item in taken]

    def _settled(self, item: OpenDir | Removal | Changed) -> OpenFile | OpenDir:
        if isinstance(item, OpenDir):
            item.is_new = False
            return item
        if isinstance(item, Changed):
            item.taken()
            return item.node
        parent, name = item
        if item not in self.next.removals:
            parent.hidden.discard(name)
        return parent

    def clear(self) -> None:
        """Nothing of it is to be sent."""
        self.next.files.clear()
        self.next.directories.clear()
        self.next.removals.clear()
        self.next.attributes.clear()
