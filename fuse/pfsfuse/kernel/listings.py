"""Open directories: what has been read of them, and how far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pfsd.trees.tree import Pair
from pfsfuse.kernel.inodes import ChangingDir, Found, Inode


@dataclass(slots=True)
class TreeListing:
    """An open directory of a tree. Offsets count its entries; `starts` keeps where each page begins."""

    inode: Inode
    root: bytes
    first: int = 0
    """Offset of the page's first entry."""
    page: list[Pair] = field(default_factory=list)
    starts: list[tuple[int, bytes]] = field(default_factory=lambda: [(0, b"")])

    def holds(self, at: int) -> bool:
        """Whether the page holds entry `at`."""
        return self.first <= at < self.first + len(self.page)

    def pages_to(self, at: int) -> Iterator[int]:
        """Which pages are to be taken, one after the other, until that of entry `at` is, or there is none."""
        if self.holds(at):
            return
        index = next(i for i in reversed(range(len(self.starts))) if self.starts[i][0] <= at)
        yield index
        while self.page and not self.holds(at):
            index += 1
            yield index

    def take(self, index: int, page: list[Pair]) -> None:
        """Have a page that was read from its start on."""
        self.page, self.first = page, self.starts[index][0]
        if page and index + 1 == len(self.starts):
            self.starts.append((self.first + len(page), page[-1][0] + b"\0"))


@dataclass(slots=True)
class ChangingListing:
    """An open directory that can change: its entries as they were when it was read from the start."""

    inode: ChangingDir
    found: list[Found] = field(default_factory=list)
