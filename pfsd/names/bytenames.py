"""Names of files that are bytes, as the kernel has them, and as commits keep them: as text.

A byte that is not part of UTF-8 becomes the character U+F700 + byte, which is for private use. Where a name has such
a character of its own, the bytes of that are kept so too: every name comes back as it was.
"""

from __future__ import annotations

import re

_BASE = 0xF700

_OWN = re.compile("[\uf780-\uf7ff]")


def stored_name(name: bytes) -> str:
    """The text that stands for a name, or for a path."""
    if name.isascii():
        return name.decode("ascii")
    text = _OWN.sub(lambda match: _kept(match[0].encode()), name.decode(errors="surrogateescape"))
    return "".join(chr(_BASE + ord(each) - 0xDC00) if "\udc80" <= each <= "\udcff" else each for each in text)


def shown_name(key: bytes) -> bytes:
    """The name for which a text, in UTF-8, stands."""
    if key.isascii() or (b"\xef\x9e" not in key and b"\xef\x9f" not in key):
        return key
    text = key.decode(errors="surrogateescape")
    return _OWN.sub(lambda match: chr(ord(match[0]) - _BASE + 0xDC00), text).encode(errors="surrogateescape")


def _kept(data: bytes) -> str:
    return "".join(chr(_BASE + byte) for byte in data)
