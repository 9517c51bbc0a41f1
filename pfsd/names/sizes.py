"""Sizes as people write them."""

from __future__ import annotations

import re

from pfsd.errors import InvalidError, shown

MAX_BYTES = 1 << 62
"""The largest size that may be written."""

MAX_FILE_BYTES = 1 << 40
"""How large a file can be that is written through a mount, or that has holes.

A chunk list names every 4 MiB of a hole, so one of this size takes a third of a second and 12 MiB.
"""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse(text: str) -> int:
    """Bytes of `10G`, `512M`, `1.5T` or a plain number; raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{shown(text)} is not a size: write a number and K, M, G or T, as in 20G")
    size = float(found[1]) * _UNITS[found[2].upper()]
    if size > MAX_BYTES:
        raise ValueError(f"{shown(text)} is more than there is anywhere")
    return int(size)


def check_file_size(size: int, name: str) -> None:
    """Raise InvalidError for a size that no file with holes may have."""
    if size > MAX_FILE_BYTES:
        raise InvalidError(f"{name} would have {size} bytes: a file with holes can have {MAX_FILE_BYTES} (1 TiB)")
