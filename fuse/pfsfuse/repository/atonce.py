"""Requests that are answered at once, without a task of their own: about open commits, and lists of finished ones.

Programs that write many small files make five to thirteen requests for each; a task of trio for each request costs
several times what the request itself does. `csrc/answers/offering.c` offers them here first. What has to ask the
daemon, or to wait for what is being sent, is left to the handlers of the view.
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

import trio
from pyfuse3 import RENAME_NOREPLACE, FUSEError

from pfsd.errors import PfsError
from pfsd.names.paths import MAX_DEPTH
from pfsd.trees.tree import NodesMissing
from pfsfuse.kernel.errnos import errno_of
from pfsfuse.opencommits.commitprotocol import LinksMissingError
from pfsfuse.opencommits.opencommit import OpenCommit, commit_of
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile
from pfsfuse.opencommits.opentree import Place
from pfsfuse.opencommits.sending import SMALL_BYTES
from pfsfuse.repository import packing
from pfsfuse.repository.opennames import key_of
from pfsfuse.repository.writable import Change, WritableView

log = logging.getLogger(__name__)

# `enum fuse_opcode` in linux/fuse.h, which has the layouts too.
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _MKDIR, _UNLINK, _RENAME, _OPEN = 1, 2, 3, 4, 9, 10, 12, 14
_WRITE, _RELEASE, _FLUSH, _CREATE, _BATCH_FORGET, _READDIRPLUS, _RENAME2 = 16, 18, 25, 35, 42, 44, 45

_WRITTEN = struct.Struct("=II")
_CREATE_IN = struct.Struct("=IIII")
_MKDIR_IN = struct.Struct("=II")
_OPEN_IN = struct.Struct("=II")
_RENAME_IN = struct.Struct("=Q")
_RENAME2_IN = struct.Struct("=QII")
_WRITE_IN = struct.Struct("=QQIIQII")
_READ_IN = struct.Struct("=QQIIQII")
_SETATTR_IN = struct.Struct("=IIQQQqqqIIIIIIII")
_NUMBER = struct.Struct("=Q")
_COUNT = struct.Struct("=II")
_FORGOTTEN = struct.Struct("=QQ")

_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _ATIME_NOW, _MTIME_NOW = 1, 2, 4, 8, 16, 32, 128, 256
_SECOND = 1_000_000_000
_NEWS_SECONDS = 0.005
"""How long what was answered in C may wait for more of it."""


class _LaterError(Exception):
    """The view's own handler is to answer."""


_Handler = Callable[[int, int, int, bytes], bytes | None]
"""Answers a request about a node, made by a user and a group; None where there is no answer."""


class AtOnce:
    """Answers such requests of one mount."""

    def __init__(self, view: WritableView) -> None:
        self._view = view
        self._inodes = view.inodes
        self._answers: Any = sys.modules.get("pfsfuse._answers")
        self._handlers: dict[int, _Handler] = {
            _LOOKUP: self._lookup,
            _FORGET: self._forget,
            _GETATTR: self._getattr,
            _SETATTR: self._setattr,
            _MKDIR: self._mkdir,
            _UNLINK: self._unlink,
            _RENAME: self._rename,
            _RENAME2: self._rename2,
            _OPEN: self._open,
            _WRITE: self._write,
            _RELEASE: self._release,
            _FLUSH: self._flush,
            _CREATE: self._create,
            _BATCH_FORGET: self._batch_forget,
            _READDIRPLUS: self._list,
        }

    async def run(self) -> None:
        """Take them, until this is cancelled."""
        if self._answers is None:
            return
        for kind, handler in self._handlers.items():
            self._answers.offer(kind, functools.partial(self._take, handler))
        self._answers.settle_with(self._settle)
        try:
            event = self._answers.news_event()
            while True:
                await trio.lowlevel.wait_readable(event)
                await trio.sleep(_NEWS_SECONDS)
                self._settle()
        finally:
            for kind in self._handlers:
                self._answers.offer(kind, None)
            self._answers.settle_with(None)
            self.let_go()

    def _settle(self) -> None:
        self._take_in(self._answers.news())

    def let_go(self) -> None:
        """Take in all that was answered about open files; what comes is asked for here."""
        if self._answers is not None:
            self._take_in(self._answers.let_go())

    def _take_in(self, news: list[tuple[int, int, bytes, int, bool, bool]]) -> None:
        """Do to files what programs were told is done: see `csrc/answers/held.c`."""
        for ino, offset, data, time_ns, is_flushed, is_closed in news:
            node = self._inodes.find(ino)
            if not isinstance(node, OpenFile):  # a defect, which must not lose what is told of the others
                log.error("what was written to node %d is lost: it is not known any more", ino)
                continue
            commit = commit_of(node)
            if data:
                node.to_scratch().write(offset, data)
                node.note_change(time_ns)
            if is_closed:
                commit.release_soon(node)
            elif is_flushed and node.is_dirty:
                commit.send_file_soon(node)

    def _take(self, handler: _Handler, unique: int, ino: int, user: int, group: int, body: bytes) -> bool:
        number, answer = 0, b""
        try:
            told = handler(ino, user, group, body)
            if told is None:
                return True
            answer = told
        except (_LaterError, NodesMissing, LinksMissingError):
            return False
        except FUSEError as error:
            number = error.errno
        except PfsError as error:
            log.warning("%s: %s", handler.__name__, error)
            number = errno_of(error)
        except Exception:  # a defect must not end the mount
            log.exception("%s failed", handler.__name__)
            number = errno.EIO
        self._answers.reply(unique, number, answer)
        return True

    # --- names -------------------------------------------------------------------------------------------

    def _directory(self, ino: int) -> tuple[OpenDir, OpenCommit]:
        """A directory of an open commit that can be changed at once."""
        found = self._inodes.find(ino)
        if not isinstance(found, OpenDir) or not found.is_linked:
            raise _LaterError
        commit = commit_of(found)
        if not commit.is_at_hand:
            raise _LaterError
        return found, commit

    def _lookup(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        directory, commit = self._directory(ino)
        node, timeout = directory.node_now(key_of(body[:-1])), commit.timeout
        if node is None:
            if not timeout:
                raise FUSEError(errno.ENOENT)
            return packing.no_entry(timeout)
        self._inodes.remember(self._inodes.settle(node))
        return packing.entry(self._view, node, timeout)

    def _create(self, ino: int, user: int, group: int, body: bytes) -> bytes:
        directory, commit = self._directory(ino)
        name = self._new(directory, body[_CREATE_IN.size : -1])
        _, mode, _, _ = _CREATE_IN.unpack_from(body)
        node = self._view.add_file(directory, name, mode, user, group)
        node.handles += 1
        self._answers.hold(node.ino)
        return packing.entry(self._view, node, commit.timeout, is_opened=True)

    def _mkdir(self, ino: int, user: int, group: int, body: bytes) -> bytes:
        directory, commit = self._directory(ino)
        name = self._new(directory, body[_MKDIR_IN.size : -1])
        node = self._view.add_directory(directory, name, _MKDIR_IN.unpack_from(body)[0], user, group)
        commit.make_directory_soon(node)
        return packing.entry(self._view, node, commit.timeout)

    def _new(self, directory: OpenDir, name: bytes) -> bytes:
        """The key of a name that nothing stands under."""
        key = key_of(name)
        if len(directory.path()) >= MAX_DEPTH or directory.node_now(key) is not None:
            raise _LaterError
        return key

    def _unlink(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        directory, commit = self._directory(ino)
        node = directory.node_now(key := key_of(body[:-1]))
        if not isinstance(node, OpenFile) or node.group is not None or not node.ino:
            raise _LaterError
        if node.is_new and commit.is_sending:
            raise _LaterError
        commit.take_off_soon(node, Place(directory, key))
        directory.note_change(key)
        return b""

    def _rename(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        return self._move(ino, _RENAME_IN.unpack_from(body)[0], body[_RENAME_IN.size :], 0)

    def _rename2(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        new_ino, flags, _ = _RENAME2_IN.unpack_from(body)
        return self._move(ino, new_ino, body[_RENAME2_IN.size :], flags)

    def _move(self, ino: int, new_ino: int, names: bytes, flags: int) -> bytes:
        """Rename a file that the daemon does not have, and that is not on its way."""
        old, commit = self._directory(ino)
        new, other = self._directory(new_ino)
        if commit is not other or commit.is_sending or flags & ~RENAME_NOREPLACE:
            raise _LaterError
        name_old, name_new = map(key_of, names[:-1].split(b"\0"))
        node, target = old.node_now(name_old), new.node_now(name_new)
        if not isinstance(node, OpenFile) or not node.is_new or node.group is not None or isinstance(target, OpenDir):
            raise _LaterError
        if target is not node:
            self._view.check_rename(node, target, new, flags)
            commit.rename_soon(node, Place(old, name_old), target, Place(new, name_new))
            old.note_change(name_old)
            new.note_change(name_new)
        return b""

    def _forget(self, ino: int, _user: int, _group: int, body: bytes) -> None:
        _run(self._view.forget([(ino, _NUMBER.unpack_from(body)[0])]))

    def _batch_forget(self, _ino: int, _user: int, _group: int, body: bytes) -> None:
        count, _ = _COUNT.unpack_from(body)
        places = range(_COUNT.size, _COUNT.size + count * _FORGOTTEN.size, _FORGOTTEN.size)
        _run(self._view.forget([_FORGOTTEN.unpack_from(body, at) for at in places]))

    def _list(self, _ino: int, _user: int, _group: int, body: bytes) -> bytes:
        handle, offset, room, *_ = _READ_IN.unpack_from(body)
        answer = self._view.list_now(handle, offset, room)
        if answer is None:
            raise _LaterError
        return answer

    # --- attributes --------------------------------------------------------------------------------------

    def _node(self, ino: int) -> OpenFile | OpenDir:
        found = self._inodes.find(ino)
        if not isinstance(found, OpenFile | OpenDir) or (isinstance(found, OpenFile) and found.group is not None):
            raise _LaterError
        return found

    def _getattr(self, ino: int, _user: int, _group: int, _body: bytes) -> bytes:
        return packing.attributes(self._view, self._node(ino))

    def _setattr(self, ino: int, user: int, group: int, body: bytes) -> bytes:
        node = self._node(ino)
        told = _SETATTR_IN.unpack_from(body)
        valid, (read, written), (read_ns, written_ns) = told[0], told[5:7], told[8:10]
        mode, owner, owners = told[11], told[13], told[14]
        if valid & (_SIZE | _ATIME_NOW | _MTIME_NOW) or not commit_of(node).is_at_hand:
            raise _LaterError
        change = Change(
            mode if valid & _MODE else None,
            owner if valid & _UID else None,
            owners if valid & _GID else None,
            written * _SECOND + written_ns if valid & _MTIME else None,
            read * _SECOND + read_ns if valid & _ATIME else None,
        )
        self._view.change_attributes(node, change)
        return self._getattr(ino, user, group, b"")

    # --- files -------------------------------------------------------------------------------------------

    def _file(self, body: bytes) -> OpenFile:
        """The file that the handle a request begins with is of."""
        found = self._inodes.find(_NUMBER.unpack_from(body)[0])
        if not isinstance(found, OpenFile):
            raise _LaterError
        return found

    def _open(self, ino: int, _user: int, _group: int, body: bytes) -> bytes:
        node, flags = self._inodes.find(ino), _OPEN_IN.unpack_from(body)[0]
        if not isinstance(node, OpenFile):
            raise _LaterError
        is_read = flags & os.O_ACCMODE == os.O_RDONLY
        if (not is_read or flags & os.O_TRUNC) and not commit_of(node).is_at_hand:
            raise _LaterError
        keep = self._view.open_now(node, flags)
        return packing.opened(node.ino, (packing.KEEP_CACHE if keep else 0) | (packing.NO_FLUSH if is_read else 0))

    def _write(self, _ino: int, _user: int, _group: int, body: bytes) -> bytes:
        node, (_, offset, size, _, _, _, _) = self._file(body), _WRITE_IN.unpack_from(body)
        data = memoryview(body)[_WRITE_IN.size : _WRITE_IN.size + size]
        self._view.write_to(node, offset, data)
        return _WRITTEN.pack(len(data), 0)

    def _flush(self, _ino: int, _user: int, _group: int, body: bytes) -> bytes:
        node = self._file(body)
        if not node.changes:
            return b""
        commit = commit_of(node)
        if node.is_dirty and (node.size > SMALL_BYTES or commit.is_overfull):
            raise _LaterError
        commit.raise_given_up(node)
        commit.raise_error()
        if node.is_dirty:
            commit.send_file_soon(node)
        return b""

    def _release(self, _ino: int, _user: int, _group: int, body: bytes) -> bytes:
        node = self._file(body)
        if node.is_dirty and (node.size > SMALL_BYTES or commit_of(node).is_overfull):
            raise _LaterError
        commit_of(node).release_soon(node)
        return b""


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("it waits")
