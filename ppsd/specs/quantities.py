"""Amounts of memory as specs write them: `512M`, `1.5Gi`, `1.2GB`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

from pfsd.errors import InvalidError, shown

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KkMGTPE]?)(i?)B?")
MAX_BYTES = (1 << 63) - 1
_MAX_TEXT = 100
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def parse(text: str, field: str) -> int:
    """The bytes that `text` means; raises InvalidError naming `field` when it is no amount of memory."""
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None or (match[3] and not match[2]):
        raise InvalidError(f'{field} should be an amount of memory such as "512M" or "1.5Gi", not {shown(text)}')
    found = int(Decimal(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]])
    if found > MAX_BYTES:
        raise InvalidError(f"{field} is more memory than any machine has: {text!r}")
    return found
