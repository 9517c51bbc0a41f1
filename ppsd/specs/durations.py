"""Durations as text, the way specs write them: `1h30m`, `300ms`, or protobuf's `5400s`."""

from __future__ import annotations

import re
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

from pfsd.errors import InvalidError, shown

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
MAX_NS = 10**9 * 3600 * 24 * 365 * 100
"""A century: all that protobuf's durations and times can hold stays within bounds when a few of them are added."""
_MAX_TEXT = 100
_MOST_NS = 10**9 * 315_576_000_000
"""What protobuf allows a duration to be."""


def parse(text: str, field: str) -> int:
    """The nanoseconds that `text` means; raises InvalidError naming `field` when it is no duration."""
    at = total = 0
    for match in _PART.finditer(text[:_MAX_TEXT]):
        if match.start() != at:
            break
        total += int(Decimal(match[1]) * _UNITS[match[2]])
        at = match.end()
    if not text or at != len(text):
        raise InvalidError(f'{field} should be a duration such as "1h30m", not {shown(text)}')
    if total > MAX_NS:
        raise InvalidError(f"{field} is longer than a century: {shown(text)}")
    return total


def to_wire(nanoseconds: int) -> Duration:
    """The message of a duration, or of the longest that a message can hold."""
    made = Duration()
    made.FromNanoseconds(max(-_MOST_NS, min(nanoseconds, _MOST_NS)))
    return made


def from_wire(duration: Duration, field: str) -> int:
    """The nanoseconds of a message; raises InvalidError naming `field` where it is negative or above a century."""
    total = duration.seconds * 10**9 + duration.nanos
    if not 0 <= total <= MAX_NS:
        raise InvalidError(f"{field} should be from 0 to a century, and is {duration.seconds} s {duration.nanos} ns")
    return total
