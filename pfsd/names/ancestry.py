"""Names of commits that count back from another: `master^^`, `master~2`. Pure.

A name is a branch or a commit id, with any of `^` (one commit back) and `~N` (N commits back; `~` alone is one)
behind it. Reading one takes time that grows with its length, whatever it says.
"""

from __future__ import annotations

from dataclasses import dataclass

from pfsd.errors import InvalidError

MAX_NAME_BYTES = 4096
"""Longest name of a branch or commit, with all that stands behind it."""

MAX_STEPS = 10**12
"""What more steps are taken for: further back than any history goes."""

_SHOWN = 100
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A commit so many steps before another."""

    base: str
    steps: int
    """At most MAX_STEPS."""


def check_length(name: str) -> str:
    """`name` itself, or InvalidError where it is too long for the name of a branch or commit."""
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidError(f"name {name[:40]!r}... is invalid: a branch or commit has at most {MAX_NAME_BYTES} bytes")
    return name


def shortened(name: str) -> str:
    """A name as a message shows it."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."


def parse_ancestor(name: str) -> Ancestor | None:
    """The commit before another that a name stands for; None for a name that does not end so.

    The base is the shortest one, but never empty: that of `a^2~` is `a^2`, because no `^` has a number.
    """
    base, steps, end = len(name), 0, len(name)
    while end > 1:
        at = end
        while at and name[at - 1] in _DIGITS:
            at -= 1
        if at < 2 or not (name[at - 1] == "~" or (name[at - 1] == "^" and at == end)):
            break
        steps = min(steps + _count(name[at:end]), MAX_STEPS)
        base = end = at - 1
    return None if base == len(name) else Ancestor(name[:base], steps)


def _count(digits: str) -> int:
    """The number of these digits, which may be many; 1 where there are none."""
    digits = digits.lstrip("0") if digits else "1"
    return MAX_STEPS if len(digits) > len(str(MAX_STEPS)) else int(digits or "0")
