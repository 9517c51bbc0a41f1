"""The attributes of a file or directory of an open commit: as the daemon told them, and as they were changed here."""

from __future__ import annotations

import time

from pfsd.trees import attributes
from pfsd.trees.attributes import NONE, Attributes

_CLOCK_REALTIME_COARSE = 5  # from linux/time.h


def now_ns() -> int:
    """The time by the clock that the kernel sets times with, in nanoseconds since 1970.

    It lags behind the precise one: with that, a time that the kernel sets would come before those that are set here.
    """
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class NodeAttributes:
    """What one node keeps beside its content.

    Whoever changes a field calls `changed`: the daemon lacks it from then on, until `taken`.
    """

    __slots__ = ("changed_ns", "changes", "link", "mode", "owner", "read_ns", "sent", "time_ns", "xattrs")

    def __init__(self, told: Attributes = NONE) -> None:
        self.changes = 0
        self.sent = 0
        """How many of the changes the daemon has."""
        self.changed_ns = 0
        """When anything of it was changed through this mount, if it was (else 0); kept nowhere else."""
        self.read_ns: int | None = None
        """When it was read, as somebody said; kept nowhere else."""
        self.told(told)

    @property
    def is_dirty(self) -> bool:
        """Whether the daemon lacks a change."""
        return self.changes != self.sent

    def told(self, found: Attributes) -> None:
        """They are these, as the commit's tree says."""
        self.mode = found.mode
        self.owner = found.owner
        self.time_ns = found.time_ns
        self.xattrs = found.xattrs
        self.link = found.link

    def changed(self) -> None:
        """Something of them was changed just now."""
        self.changes += 1
        self.changed_ns = now_ns()

    def touch(self, time_ns: int = 0) -> None:
        """The content was changed, by default just now."""
        self.changes += 1
        self.changed_ns = self.time_ns = time_ns or now_ns()

    def taken(self, changes: int) -> None:
        """The daemon has so many of the changes."""
        self.sent = max(self.sent, changes)

    def now(self) -> Attributes:
        """As they are."""
        return Attributes(self.mode, self.owner, self.time_ns, self.xattrs, self.link)

    def encode(self, default_mode: int) -> bytes:
        """As entries have them."""
        mode = None if self.mode == default_mode else self.mode
        return attributes.encode_fields(mode, self.owner, self.time_ns, self.xattrs, self.link)

    def xattr(self, name: bytes) -> bytes | None:
        """The value of an extended attribute, or None."""
        return next((value for key, value in self.xattrs if key == name), None)

    def set_xattr(self, name: bytes, value: bytes | None) -> bool:
        """Give an extended attribute a value, or take it away; False where there is no room for it."""
        pairs = [pair for pair in self.xattrs if pair[0] != name]
        if value is not None:
            pairs.append((name, value))
            if sum(len(key) + len(each) for key, each in pairs) > attributes.MOST_XATTR_BYTES:
                return False
        self.xattrs = tuple(sorted(pairs))
        return True
