"""Answers about open commits as the kernel reads them, for requests that do not go through pyfuse3."""

from __future__ import annotations

import struct
import sys
from typing import Any

from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.repository.opennames import NamesView

_OPENED = struct.Struct("=QII")

KEEP_CACHE, NO_FLUSH = 2, 32
"""What the kernel has of the file's content holds; closing it makes no request."""


def _answers() -> Any:
    """`csrc/answers`: what makes such requests has loaded it."""
    return sys.modules["pfsfuse._answers"]


def entry(view: NamesView, node: OpenFile | OpenDir, timeout: float, *, is_opened: bool = False) -> bytes:
    """What a name stands for, and for how long; with a handle where it is opened."""
    answer: bytes = _answers().entry(node.ino, timeout, node.commit.timeout, view.shown(node), is_opened)
    return answer


def no_entry(timeout: float) -> bytes:
    """That a name stands for nothing, and for how long."""
    answer: bytes = _answers().no_entry(timeout)
    return answer


def opened(handle: int, flags: int = 0) -> bytes:
    """The handle of a file that was opened."""
    return _OPENED.pack(handle, flags, 0)


def attributes(view: NamesView, node: OpenFile | OpenDir) -> bytes:
    """The attributes of a node, and for how long they hold."""
    answer: bytes = _answers().attributes(node.ino, node.commit.timeout, view.shown(node))
    return answer
