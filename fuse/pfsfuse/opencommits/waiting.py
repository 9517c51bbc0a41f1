"""What waits to be sent of an open commit: closed files, new directories, removals."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from pfsd.names.paths import join
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

    def steps(self) -> list[EditStep]:
        """What is to be done before the files are sent: removals, then new directories."""
        replaced = {(node.parent, node.key) for node in self.files if node.is_linked and node.is_new}
        steps = [
            writes.remove(join((*parent.path(), name.decode())), is_dir)
            for (parent, name), is_dir in self.removals.items()
            if is_dir or (parent, name) not in replaced
        ]
        return steps + [writes.make_directory(join(node.path())) for node in self.directories if node.is_linked]


class Waiting:
    """The queue of one open commit."""

    def __init__(self) -> None:
        self.next = Batch()
        self.full = trio.Event()
        """Set when so much waits that it is to be sent without delay."""
        self._bytes = 0
        self._taken: list[OpenDir | Removal] = []
        """New directories and removals that the daemon has taken, but of which the commit's tree may not tell yet."""

    @property
    def count(self) -> int:
        """How much waits: files, directories, removals."""
        return len(self.next.files) + len(self.next.directories) + len(self.next.removals) + len(self._taken)

    def add_bytes(self, size: int) -> None:
        """So many bytes more wait."""
        self._bytes += size

    def exceeds(self, times: int) -> bool:
        """Whether so many times as much waits as may without being sent at once."""
        return self.count >= times * BEHIND_COUNT or self._bytes >= times * BEHIND_BYTES

    def take(self) -> Batch:
        """All that waits, which is in the caller's hands from here on."""
        batch = Batch(dict(self.next.files), dict(self.next.directories), dict(self.next.removals))
        self.clear()
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
        )

    def note_taken(self, batch: Batch) -> None:
        """The daemon has taken the steps of a batch, of which only the files are left."""
        self._taken += [*batch.directories, *batch.removals]
        batch.directories, batch.removals = {}, {}

    def pop_taken(self) -> list[OpenDir | Removal]:
        """What the daemon had taken, of which the commit's tree tells by now."""
        taken, self._taken = self._taken, []
        return taken

    def clear(self) -> None:
        """Nothing of it is to be sent."""
        self.next.files.clear()
        self.next.directories.clear()
        self.next.removals.clear()
