"""What an entry keeps beside its content: mode, owner, time, extended attributes, and which names are one file.

Attributes stand behind an entry's content (`pfsd.trees.entries`), to its end. Each is a tag, one byte, and a value;
tags ascend, and what is as it is by default is left out, so an entry without attributes has no byte more:

    0x01  mode: the permission bits, at most 07777
    0x02  owner: user | group
    0x03  time of the last change, in nanoseconds since 1970: 2 * n, or -2 * n - 1 where it is negative
    0x04  extended attributes: count | count * (name length | name | value length | value), names ascending
    0x05  link, 8 bytes: names of one commit with equal entries, this included, are one file (a hard link)
    0x06  of a directory: how many names below it have a link; above 0
    0x07  of a directory: the root hash, 32 bytes, that its tree has without attributes, where that is another

(integers unsigned LEB128). The last two follow from what is below the directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pfsd.errors import CorruptError, InvalidError
from pfsd.trees import varint

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
SYMLINK_MODE = 0o777
"""The modes that are left out."""

MOST_XATTR_BYTES = 4096
"""What the extended attributes of an entry take together, names and values; as much as ext4 keeps beside an inode."""

MOST_BYTES = MOST_XATTR_BYTES + 1024
"""Longest encoding of attributes that is taken from a client."""

LINK_BYTES = 8

_MODE, _OWNER, _TIME, _XATTRS, _LINK, _LINKS_BELOW = range(1, 7)
_MOST_MODE = 0o7777
_NO_ID = (1 << 32) - 1
_TIMES = 1 << 63


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is kept of a file, directory, symbolic link or special file beside its content."""

    mode: int | None = None
    """Permission bits; None for the default of its kind."""
    owner: tuple[int, int] | None = None
    """User and group; None for whoever looks."""
    time_ns: int | None = None
    """When it was last changed, in nanoseconds since 1970; None for when the commit was finished."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Names and values, names ascending."""
    link: bytes = b""
    """The names with this link and equal entries are one file; empty where it has one name."""

    def __bool__(self) -> bool:
        return self != NONE


NONE = Attributes()


def encode(attributes: Attributes) -> bytes:
    """The bytes of attributes; none where all are as by default."""
    return encode_fields(attributes.mode, attributes.owner, attributes.time_ns, attributes.xattrs, attributes.link)


def encode_fields(
    mode: int | None,
    owner: tuple[int, int] | None,
    time_ns: int | None,
    xattrs: tuple[tuple[bytes, bytes], ...],
    link: bytes,
) -> bytes:
    """The same, given what `Attributes` has."""
    parts = []
    if mode is not None:
        parts.append(b"\x01" + varint.encode(mode))
    if owner is not None:
        parts.append(b"\x02" + varint.encode(owner[0]) + varint.encode(owner[1]))
    if time_ns is not None:
        parts.append(b"\x03" + varint.encode(2 * time_ns if time_ns >= 0 else -2 * time_ns - 1))
    if xattrs:
        parts += (b"\x04", varint.encode(len(xattrs)))
        for pair in xattrs:
            for text in pair:
                parts += (varint.encode(len(text)), text)
    if link:
        parts.append(b"\x05" + link)
    return b"".join(parts)


def decode(data: bytes) -> Attributes:
    """The attributes of these bytes; raises CorruptError when they are none."""
    if not data:
        return NONE
    try:
        found: dict[str, object] = {}
        last = at = 0
        while at < len(data):
            tag = data[at]
            if tag <= last:
                break
            at = _READERS[tag](data, at + 1, found)
            last = tag
        if at == len(data):
            return Attributes(**found)  # type: ignore[arg-type]
    except (IndexError, KeyError):
        pass
    raise CorruptError("the attributes of a directory entry can't be decoded")


def split_below(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Of a directory's entry whose attributes begin at `at`: its links, its plain root, and where those two begin."""
    links, plain, end = 0, b"", len(data)
    at_tag = at
    while at_tag < len(data) and data[at_tag] <= _XATTRS:
        at_tag = _READERS[data[at_tag]](data, at_tag + 1, {})
    last = at_tag
    if at_tag < end and data[at_tag] == _LINKS_BELOW:
        links, at_tag = varint.decode(data, at_tag + 1)
    if at_tag < end:
        plain = data[at_tag + 1 :]
    return links, plain, last


def _read_mode(data: bytes, at: int, found: dict[str, object]) -> int:
    found["mode"], at = varint.decode(data, at)
    return at


def _read_owner(data: bytes, at: int, found: dict[str, object]) -> int:
    user, at = varint.decode(data, at)
    group, at = varint.decode(data, at)
    found["owner"] = user, group
    return at


def _read_time(data: bytes, at: int, found: dict[str, object]) -> int:
    time, at = varint.decode(data, at)
    found["time_ns"] = -(time >> 1) - 1 if time & 1 else time >> 1
    return at


def _read_xattrs(data: bytes, at: int, found: dict[str, object]) -> int:
    count, at = varint.decode(data, at)
    pairs = []
    for _ in range(count):
        name, at = _text(data, at)
        value, at = _text(data, at)
        pairs.append((name, value))
    found["xattrs"] = tuple(pairs)
    return at


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = varint.decode(data, at)
    if at + size > len(data):
        raise IndexError
    return data[at : at + size], at + size


def _read_link(data: bytes, at: int, found: dict[str, object]) -> int:
    found["link"] = data[at : at + LINK_BYTES]
    return at + LINK_BYTES


_READERS = {_MODE: _read_mode, _OWNER: _read_owner, _TIME: _read_time, _XATTRS: _read_xattrs, _LINK: _read_link}


def without_change(data: bytes) -> bytes:
    """The attributes that a file keeps when somebody changes it who says nothing of them: no time, and no link."""
    if not data:
        return data
    return encode(replace(decode(data), time_ns=None, link=b""))


def checked(data: bytes, default_mode: int, what: str) -> bytes:
    """Attributes as a client sent them for `what`, in their one form; raises InvalidError for what can't be kept."""
    try:
        if len(data) > MOST_BYTES:
            raise CorruptError("they are too long")
        attributes = decode(data)
    except CorruptError:
        raise InvalidError(f"the attributes given for {what} can't be read") from None
    wrong = next(_problems(attributes), None)
    if attributes.link and default_mode == DIRECTORY_MODE:
        wrong = "there are hard links only of files"
    if wrong is not None:
        raise InvalidError(f"the attributes given for {what} can't be kept: {wrong}")
    if attributes.mode == default_mode:
        attributes = replace(attributes, mode=None)
    return encode(replace(attributes, xattrs=tuple(sorted(attributes.xattrs))))


def _problems(attributes: Attributes) -> Iterator[str]:
    if attributes.mode is not None and attributes.mode > _MOST_MODE:
        yield f"mode {attributes.mode:o} is more than {_MOST_MODE:o}"
    if attributes.owner is not None and max(attributes.owner) >= _NO_ID:
        yield "a user or group has more than 32 bits"
    if attributes.time_ns is not None and not -_TIMES <= attributes.time_ns < _TIMES:
        yield "the time does not fit 64 bits"
    names = [name for name, _ in attributes.xattrs]
    if len(set(names)) != len(names) or not all(names):
        yield "a name of an extended attribute is empty, or comes twice"
    if sum(len(name) + len(value) for name, value in attributes.xattrs) > MOST_XATTR_BYTES:
        yield f"extended attributes have more than {MOST_XATTR_BYTES} bytes"
    if len(attributes.link) not in (0, LINK_BYTES):
        yield f"a link has not {LINK_BYTES} bytes"
