"""Requests that pyfuse3 has no handlers for: holes in files, and copies of files that copy no bytes.

They are offered by `pfsfuse._answers` (`csrc/answers/offering.c`); where that is not there, the kernel does without.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from pyfuse3 import FUSEError

from pfsd.trees.entries import FileEntry
from pfsfuse.content.content import Content
from pfsfuse.kernel.errnos import answers
from pfsfuse.kernel.inodes import Inode, InodeTable
from pfsfuse.opencommits.opencommit import commit_of
from pfsfuse.opencommits.opennodes import OpenFile
from pfsfuse.opencommits.scratch import Scratch
from pfsfuse.opencommits.sending import SMALL_BYTES

log = logging.getLogger(__name__)

_FALLOCATE, _LSEEK, _COPY = 43, 46, 47  # `enum fuse_opcode` in linux/fuse.h, which has the layouts too
_FALLOCATE_IN = struct.Struct("=QQQII")
_LSEEK_IN = struct.Struct("=QQII")
_COPY_IN = struct.Struct("=QQQQQQQ")
_OFFSET_OUT = struct.Struct("=Q")
_WRITE_OUT = struct.Struct("=II")

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
_MOST_COPIED = 0xFFFFF000
"""What one answer can tell."""


class OtherRequests:
    """Answers such requests of one mount."""

    def __init__(self, inodes: InodeTable, content: Content) -> None:
        self._inodes = inodes
        self._content = content
        self._answers: Any = sys.modules.get("pfsfuse._answers")

    def begin(self) -> None:
        """Take them from now on."""
        handlers = {_FALLOCATE: self._fallocate, _LSEEK: self._lseek, _COPY: self._copy}
        if self._answers is not None:
            for kind, handler in handlers.items():
                self._answers.offer(kind, functools.partial(self._take, handler))

    def end(self) -> None:
        """Take them no more."""
        if self._answers is not None:
            for kind in (_FALLOCATE, _LSEEK, _COPY):
                self._answers.offer(kind, None)

    def _take(
        self,
        handler: Callable[[int, bytes], Awaitable[bytes]],
        unique: int,
        node: int,
        _user: int,
        _group: int,
        body: bytes,
    ) -> bool:
        self._content.start(functools.partial(self._answer, handler, unique, node, body))
        return True

    async def _answer(
        self, handler: Callable[[int, bytes], Awaitable[bytes]], unique: int, node: int, body: bytes
    ) -> None:
        number, answer = errno.EINTR, b""
        try:
            answer = await handler(node, body)
            number = 0
        except FUSEError as error:
            number = error.errno
        finally:  # also where this ends first: whoever asked may not wait for ever
            self._answers.reply(unique, number, answer)

    # --- holes -------------------------------------------------------------------------------------------

    @answers
    async def _fallocate(self, ino: int, body: bytes) -> bytes:
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
    async def _lseek(self, ino: int, body: bytes) -> bytes:
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
    async def _copy(self, ino: int, body: bytes) -> bytes:
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


def _stored(node: Inode) -> FileEntry | None:
    """The content of a file if the daemon has all of it, and it is worth not being copied."""
    if isinstance(node, OpenFile) and (node.is_dirty or node.is_new):
        return None
    entry = node.entry
    return entry.content if isinstance(entry, FileEntry) and entry.size > SMALL_BYTES else None
