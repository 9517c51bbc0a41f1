"""Unsigned LEB128 integers, as the on-disk formats use them."""

from __future__ import annotations

from pfsd.errors import CorruptError

_LAST_SHIFT = 63


def encode(value: int) -> bytes:
    """The bytes of `value`, which is not negative."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at `at`, and where it ends.

    Raises IndexError when the data ends first, CorruptError for one of more than 64 bits.
    """
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 1 << 64:
            return value, at
        shift += 7
        if shift > _LAST_SHIFT:
            raise CorruptError("an integer has more than 64 bits")
