"""Requests that pyfuse3 has no handlers for: holes in files, copies of files that copy no bytes, files without a name.

They are offered by `pfsfuse._answers` (`csrc/answers/offering.c`); where that is not there, the kernel does without.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import struct
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pyfuse3 import FUSEError

from pfsd.trees.entries import FileEntry
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import Inode
from pfsfuse.opencommits.opencommit import commit_of
from pfsfuse.opencommits.opennodes import OpenFile
from pfsfuse.opencommits.scratch import Scratch
from pfsfuse.opencommits.sending import SMALL_BYTES
from pfsfuse.repository import packing
from pfsfuse.repository.writable import WritableView

log = logging.getLogger(__name__)

_FALLOCATE, _LSEEK, _COPY, _TMPFILE = 43, 46, 47, 51  # `enum fuse_opcode` in linux/fuse.h, which has the layouts too
_FALLOCATE_IN = struct.Struct("=QQQII")
_LSEEK_IN = struct.Struct("=QQII")
_COPY_IN = struct.Struct("=QQQQQQQ")
_CREATE_IN = struct.Struct("=IIII")
_OFFSET_OUT = struct.Struct("=Q")
_WRITE_OUT = struct.Struct("=II")

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
_MOST_COPIED = 0xFFFFF000
"""What one answer can tell."""


_Handler = Callable[[int, int, int, bytes], Coroutine[Any, Any, bytes]]
"""Answers a request about a node, made by a user and a group."""


class OtherRequests:
    """Answers such requests of one mount."""

    def __init__(self, view: WritableView) -> None:
        self._view = view
        self._inodes = view.inodes
        self._content = view.content
        self._answers: Any = sys.modules.get("pfsfuse._answers")
        self._handlers: dict[int, _Handler] = {
            _FALLOCATE: self._fallocate,
            _LSEEK: self._lseek,
            _COPY: self._copy,
            _TMPFILE: self._make_unnamed,
        }

    def begin(self) -> None:
        """Take them from now on."""
        if self._answers is not None:
            for kind, handler in self._handlers.items():
                self._answers.offer(kind, functools.partial(self._take, handler))

    def end(self) -> None:
        """Take them no more."""
        if self._answers is not None:
            for kind in self._handlers:
                self._answers.offer(kind, None)

    def _take(self, handler: _Handler, unique: int, node: int, user: int, group: int, body: bytes) -> bool:
        self._content.start(
            functools.partial(self._answer, unique, functools.partial(handler, node, user, group, body))
        )
        return True

    async def _answer(self, unique: int, work: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        number, answer = errno.EINTR, b""
        try:
            answer = await work()
            number = 0
        except FUSEError as error:
            number = error.errno
        finally:  # also where this ends first: whoever asked may not wait for ever
            self._answers.reply(unique, number, answer)

    # --- holes -------------------------------------------------------------------------------------------

    @answers
    async def _fallocate(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        _, offset, length, mode, _ = _FALLOCATE_IN.unpack_from(body)
        node, end = self._inodes[ino], offset + length
        if not isinstance(node, OpenFile) or not node.is_regular:
            raise FUSEError(errno.EBADF)
        if mode & ~(_KEEP_SIZE | _PUNCH_HOLE | _ZERO_RANGE):
            raise FUSEError(errno.EOPNOTSUPP)
        await commit_of(node).begin()
        scratch = node.to_scratch()
        if mode & (_PUNCH_HOLE | _ZERO_RANGE):
            scratch.clear(offset, end)
        if not mode & _KEEP_SIZE and end > scratch.size:
            scratch.truncate(end)
        node.note_change()
        return b""

    @answers
    async def _lseek(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        _, offset, whence, _ = _LSEEK_IN.unpack_from(body)
        node = self._inodes[ino]
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE) or not isinstance(node.entry, FileEntry):
            raise FUSEError(errno.EINVAL)
        size = node.size
        if offset >= size:
            raise FUSEError(errno.ENXIO)
        while offset < size:
            end, is_data = await self._run_at(node, node.entry, offset)
            if is_data == (whence == os.SEEK_DATA):
                return _OFFSET_OUT.pack(offset)
            offset = end
        if whence == os.SEEK_DATA:
            raise FUSEError(errno.ENXIO)
        return _OFFSET_OUT.pack(size)

    async def _run_at(self, node: Inode, entry: FileEntry, offset: int) -> tuple[int, bool]:
        """Where ends what begins at an offset and is all data or all a hole, and whether it is data."""
        if isinstance(node, OpenFile) and node.scratch is not None:
            return await node.scratch.run_at(self._content, offset)
        end = await self._content.hole(entry, offset)
        return (end, False) if end > offset else (await self._content.data_end(entry, offset), True)

    # --- copies ------------------------------------------------------------------------------------------

    @answers
    async def _copy(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        """The kernel copies bytes itself where this answers that it is not supported."""
        _, start, target_ino, _, target_start, length, _ = _COPY_IN.unpack_from(body)
        entry, target = _stored(self._inodes[ino]), self._inodes[target_ino]
        if entry is None or start != target_start or not isinstance(target, OpenFile) or not target.is_regular:
            raise FUSEError(errno.EOPNOTSUPP)
        end = min(start + length, start + _MOST_COPIED, entry.size)
        if end <= start:
            return _WRITE_OUT.pack(0, 0)
        await commit_of(target).begin()
        if start == target.size == 0:
            if target.scratch is not None:
                target.scratch.close()
            target.scratch = Scratch(target.commit.directory, entry)
            target.scratch.truncate(end)
        elif target.scratch is None or not target.scratch.take_over(entry, start, end):
            raise FUSEError(errno.EOPNOTSUPP)
        target.note_change()
        return _WRITE_OUT.pack(end - start, 0)

    # --- files without a name ----------------------------------------------------------------------------

    @answers
    async def _make_unnamed(self, ino: int, user: int, group: int, body: bytes) -> bytes:
        """Answered as if the file were made under a name; never ENOSYS, after which the kernel asks no more."""
        node = await self._view.make_unnamed(ino, _CREATE_IN.unpack_from(body)[1], user, group)
        return packing.entry(self._view, node, 0, is_opened=True)


def _stored(node: Inode) -> FileEntry | None:
    """The content of a file if the daemon has all of it, and it is worth not being copied."""
    if isinstance(node, OpenFile) and (node.is_dirty or node.is_new):
        return None
    entry = node.entry
    return entry.content if isinstance(entry, FileEntry) and entry.size > SMALL_BYTES else None
