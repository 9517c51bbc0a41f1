"""Names of files that are any bytes, as names of entries, which are UTF-8, and back.

Each byte that is not part of valid UTF-8 becomes the character U+F700 + byte, of a private area. So that these can be
told apart, a name that holds a character from U+F780 to U+F7FF itself has each of that character's bytes become one.
All other names stay as they are.
"""

from __future__ import annotations

import re

_SHIFT = 0xF700
_FIRST_BYTE = 0x80
_MAPPED = re.compile(f"[{chr(_SHIFT + _FIRST_BYTE)}-{chr(_SHIFT + 0xFF)}\udc80-\udcff]")
_STORED = re.compile(rb"\xef[\x9e\x9f][\x80-\xbf]")
"""The characters from U+F780 to U+F7FF, in UTF-8."""


def stored_name(name: bytes) -> str:
    """The name of the entry for a file of that name."""
    text = name.decode("utf-8", "surrogateescape")
    return text if text.isascii() else _MAPPED.sub(_mapped, text)


def shown_name(key: bytes) -> bytes:
    """The name of the file that an entry stands for: `stored_name` the other way round.

    A key that no file's name leads to stays as it is.
    """
    if b"\xef" not in key:
        return key
    name = _STORED.sub(lambda match: bytes((_byte(match.group()),)), key)
    return name if name == key or stored_name(name).encode("utf-8", "surrogateescape") == key else key


def _mapped(match: re.Match[str]) -> str:
    data = match.group().encode("utf-8", "surrogateescape")
    return "".join(chr(_SHIFT + byte) for byte in data)


def _byte(data: bytes) -> int:
    """The byte that a character of the private area, in UTF-8, stands for."""
    return (data[1] & 0x03) << 6 | data[2] & 0x3F
