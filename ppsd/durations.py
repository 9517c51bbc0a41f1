"""Durations as text, the way specs write them: `1h30m`, `300ms`, or protobuf's `5400s`."""

from __future__ import annotations

import re
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

from pfsd.errors import InvalidError

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_MAX_NS = 10**9 * 3600 * 24 * 365 * 100


def parse(text: str, field: str) -> int:
    """The nanoseconds that `text` means; raises InvalidError naming `field` when it is no duration."""
    at = total = 0
    for match in _PART.finditer(text):
        if match.start() != at:
            break
        total += int(Decimal(match[1]) * _UNITS[match[2]])
        at = match.end()
    if not text or at != len(text):
        raise InvalidError(f'{field} should be a duration such as "1h30m", not {text!r}')
    if total > _MAX_NS:
        raise InvalidError(f"{field} is longer than a century: {text!r}")
    return total


def to_wire(nanoseconds: int) -> Duration:
    """The message of a duration."""
    made = Duration()
    made.FromNanoseconds(nanoseconds)
    return made
