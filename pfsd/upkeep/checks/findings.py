"""What a check of a store reports, and the small structures that its parts share."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

NAMED = 20
"""Places that a problem names; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a store."""

    what: str
    """One sentence."""
    touches: tuple[str, ...] = ()
    """The first places that it touches: `REPO/COMMIT:PATH`, `tag NAME`, `object HASH`."""
    touched: int = 0
    """How many places it touches in all."""
    fixed: bool = False
    """Whether it is repaired now."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How much a check looked at, and what it found."""

    repos: int = 0
    commits: int = 0
    nodes: int = 0
    chunks: int = 0
    """Entries of the chunk index."""
    packs: int = 0
    bytes: int = 0
    """Of packs."""
    problems: int = 0
    fixed: int = 0


@dataclass(slots=True)
class Tally:
    """The counts of a summary in the making."""

    repos: int = 0
    commits: int = 0
    nodes: int = 0
    chunks: int = 0
    packs: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Places:
    """The places that a problem touches: the first ones and the count."""

    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(place)


def problem(what: str, places: Iterable[str] = (), *, fixed: bool = False) -> Problem:
    """A problem that touches these places."""
    found = Places()
    for place in places:
        found.add(place)
    return Problem(what, tuple(found.first), found.count, fixed)


class HashSet:
    """A set of hashes by their first 8 bytes, at most 16 bytes of memory for each.

    Two of a billion hashes are taken for one with a chance of 3 in 100; one of them is then looked at no further.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._count = 0
        self._zero = False

    def __len__(self) -> int:
        return self._count + self._zero

    def __contains__(self, name: bytes) -> bool:
        value = int.from_bytes(name[:8], "little")
        return self._slots[self._find(value)] == value if value else self._zero

    def add(self, name: bytes) -> bool:
        """Add a hash; whether it was not there yet."""
        value = int.from_bytes(name[:8], "little")
        if not value:
            fresh, self._zero = not self._zero, True
            return fresh
        at = self._find(value)
        if self._slots[at] == value:
            return False
        self._slots[at] = value
        self._count += 1
        if 4 * self._count > 3 * len(self._slots):
            self._grow()
        return True

    def _find(self, value: int) -> int:
        mask = len(self._slots) - 1
        at = value & mask  # hashes are uniform as they are
        while (found := self._slots[at]) and found != value:
            at = at + 1 & mask
        return at

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        for value in old:
            if value:
                self._slots[self._find(value)] = value
