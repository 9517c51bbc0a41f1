"""Answers about open commits as the kernel reads them, for requests that do not go through pyfuse3.

The layouts are those of `linux/fuse.h`.
"""

from __future__ import annotations

import struct

from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.repository.opennames import NamesView

_ENTRY = struct.Struct("=QQQQII")
_ATTRIBUTES_HEAD = struct.Struct("=QII")
_ATTRIBUTES = struct.Struct("=QQQqqqIIIIIIIIII")
_OPENED = struct.Struct("=QII")

KEEP_CACHE, NO_FLUSH = 2, 32
"""What the kernel has of the file's content holds; closing it makes no request."""
_SECOND = 1_000_000_000
_BLOCK = 4096


def entry(view: NamesView, node: OpenFile | OpenDir, timeout: float) -> bytes:
    """What a name stands for, and for how long."""
    name_seconds, name_rest = _parts(timeout)
    seconds, rest = _parts(node.commit.timeout)
    return _ENTRY.pack(node.ino, 0, name_seconds, seconds, name_rest, rest) + _attributes(view, node)


def no_entry(timeout: float) -> bytes:
    """That a name stands for nothing, and for how long."""
    seconds, rest = _parts(timeout)
    return _ENTRY.pack(0, 0, seconds, 0, rest, 0) + bytes(_ATTRIBUTES.size)


def opened(handle: int, flags: int = 0) -> bytes:
    """The handle of a file that was opened."""
    return _OPENED.pack(handle, flags, 0)


def attributes(view: NamesView, node: OpenFile | OpenDir) -> bytes:
    """The attributes of a node, and for how long they hold."""
    seconds, rest = _parts(node.commit.timeout)
    return _ATTRIBUTES_HEAD.pack(seconds, rest, 0) + _attributes(view, node)


def _attributes(view: NamesView, node: OpenFile | OpenDir) -> bytes:
    shown = view.shown(node)
    times = [divmod(each, _SECOND) for each in (shown.read_ns, shown.time_ns, shown.changed_ns)]
    return _ATTRIBUTES.pack(
        node.ino,
        shown.size,
        (shown.size + 511) // 512,
        *(seconds for seconds, _ in times),
        *(rest for _, rest in times),
        shown.mode,
        shown.links,
        *shown.owner,
        shown.device,
        _BLOCK,
        0,
    )


def _parts(timeout: float) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    seconds = int(timeout)
    return seconds, int((timeout - seconds) * _SECOND)
