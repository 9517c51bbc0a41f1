"""Lazy inputs: files shown as named pipes, fed when a process opens one for reading.

The kernel runs the pipes itself. Each open by name gets a node, and so a pipe, of its own (`pfsfuse.job.jobview`), so
any number of readers get the whole file each, from its start. Before the kernel opens a pipe it asks for the node's
attributes, which are never cached: that starts a feeder. The feeder opens the other end, which fails
with ENXIO until the reader waits there, and writes the file without ever blocking the loop; it holds no bytes while the
reader is slow, and stops at the reader's end. It comes to the node by a hidden directory in the root that
shows nodes by number, to feeders only.

A file that can't be read must not look as if it ended: its reader is left waiting, and the datum is called off.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import logging
import os
import select
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pyfuse3
import trio

from pfsd.errors import CorruptError, PfsError, UnavailableError
from pfsd.runtime.apart import apart, reason_of
from pfsd.runtime.groups import ungrouped
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, DirEntry, FileEntry
from pfsfuse.content.beside import SMALL_BYTES, Place
from pfsfuse.content.content import Content
from pfsfuse.kernel.inodes import ChangingDir, Inode

log = logging.getLogger(__name__)

HIDDEN = b".pipes"
"""The directory through which feeders open pipes."""

_WINDOW = 0.5
"""Seconds for which a reader that was announced is waited for. It is only a few instructions away."""
_HOLD = 0.05
"""Seconds for which a pipe's end is put off when a second reader of the same node has been announced."""
_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.02
_AHEAD_BYTES = 6 << 20
"""How far ahead of a reader chunks are fetched, once it has read the first."""
_ALL_AHEAD_BYTES = 48 << 20
"""The same for all readers together."""
_LARGE_PIPE = 1 << 20
_IN_ORDER = 4
"""After so many small files opened in the order of their names, those that follow are fetched along."""
_THREADS = 4
_FETCHES = 16
"""Chunks that are waited for at a time."""


class WriteEnd:
    """A pipe's end for writing, closed with the last reference, so that one a cancelled task has asked for is."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __del__ = close


@dataclass(slots=True)
class _Pipe:
    """A node that was opened, or is about to be."""

    ino: int
    entry: FileEntry
    path: str
    """For messages: below /pfs."""
    place: Place | None = None
    """Of a small file whose directory is being read through."""
    until: float = 0.0
    """When to stop waiting for the reader."""
    hold: float = 0.0
    """Not to be ended before."""
    end: WriteEnd | None = None
    """Its other end, while it is fed."""
    over: bool = False
    """All was written, or the reader went away."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of its feeder."""
    ended: trio.Event = field(default_factory=trio.Event)
    """Its feeder has ended."""


@dataclass(slots=True)
class _Datum:
    """What is fed for one datum."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    failure: PfsError | None = None
    streamed: int = 0


class Pipes:
    """The pipes of a job view, and their feeders."""

    def __init__(self, content: Content) -> None:
        self.threads: set[int] = set()
        """The threads that are opening pipes now, by the kernel's number."""
        self._content = content
        self._pipes: dict[int, _Pipe] = {}
        self._datum = _Datum()
        self._nursery: trio.Nursery | None = None
        self._directory = -1
        self._hidden = 0
        self._last = Place(b"", b"")
        self._in_order = 0
        self._opening = trio.CapacityLimiter(_THREADS)
        self._fetching = trio.CapacityLimiter(_FETCHES)

    @asynccontextmanager
    async def running(self, mountpoint: str) -> AsyncIterator[None]:
        """Feed pipes for the block. The file system must be mounted before and until after it."""
        path = os.path.join(mountpoint, os.fsdecode(HIDDEN))
        self._directory = await trio.to_thread.run_sync(self._open_hidden, path, abandon_on_cancel=True)
        try:
            with ungrouped():
                async with trio.open_nursery() as self._nursery:
                    yield
                    self._nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            os.close(self._directory)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Feed for one datum; at the end all feeders are stopped.

        Cancels the block and raises PfsError when a pipe could not be fed.
        """
        self._datum = datum = _Datum()
        try:
            with datum.scope:
                yield
        finally:
            self._stop()
        if datum.failure is not None:
            raise datum.failure

    @property
    def streamed(self) -> int:
        """Bytes written to pipes for the datum that is, or was last, served."""
        return self._datum.streamed

    async def opening(self, inode: Inode) -> None:
        """A process is about to open this node for reading, as soon as the present request is answered."""
        if self._nursery is None:
            raise UnavailableError("this file is a named pipe, and nobody feeds it now")
        pipe = self._pipes.get(inode.ino)
        now = trio.current_time()
        if pipe is not None and pipe.end is not None:
            if not _abandoned(pipe.end.fd):
                pipe.hold = now + _HOLD
                return
            pipe.scope.cancel()
            await pipe.ended.wait()
            pipe = None
        elif pipe is not None and pipe.over:
            end = await self._write_end(pipe)
            if end is not None:
                # An earlier reader is still there, so this one shares with it what is left in the pipe.
                self._nursery.start_soon(self._keep_open, end)
                return
            pipe = None
        if pipe is None or pipe.ended.is_set():
            assert isinstance(inode.entry, FileEntry)
            pipe = self._pipes[inode.ino] = _Pipe(inode.ino, inode.entry, _path(inode), self._place(inode))
            self._nursery.start_soon(apart, f"serving {pipe.path}", None, self._serve, pipe, self._datum)
        pipe.until = trio.current_time() + _WINDOW

    def _place(self, inode: Inode) -> Place | None:
        """Where a small file stands, if the ones before it were opened in order."""
        parent = inode.parent
        if parent is None or isinstance(parent, ChangingDir) or inode.size > SMALL_BYTES:
            return None
        directory = parent.entry
        assert isinstance(directory, DirEntry)
        place = Place(directory.root, inode.name)
        goes_on = place.root == self._last.root and place.name > self._last.name
        self._in_order = self._in_order + 1 if goes_on else 1
        self._last = place
        return place if self._in_order > _IN_ORDER else None

    def forget(self, inos: Iterable[int]) -> None:
        """The kernel no longer knows these nodes."""
        for ino in inos:
            pipe = self._pipes.pop(ino, None)
            if pipe is not None:
                pipe.scope.cancel()

    def _stop(self) -> None:
        for pipe in self._pipes.values():
            pipe.scope.cancel()
        self._pipes.clear()

    # --- the feeder's end --------------------------------------------------------------------------------

    async def _serve(self, pipe: _Pipe, datum: _Datum) -> None:
        """Wait for the reader and feed it."""
        try:
            with pipe.scope:
                pipe.end = await self._reader(pipe)
                if pipe.end is not None:
                    await self._feed(pipe, pipe.end, datum)
                    while trio.current_time() < pipe.hold:
                        await trio.sleep_until(pipe.hold)
                    pipe.over = True
        finally:
            if pipe.end is not None:
                pipe.end.close()
                pipe.end = None
            pipe.ended.set()

    async def _reader(self, pipe: _Pipe) -> WriteEnd | None:
        """The end for writing once there is a reader; None if none comes."""
        pause = _FIRST_PAUSE
        while True:
            late = trio.current_time() >= pipe.until
            end = await self._write_end(pipe)
            if end is not None or (late and trio.current_time() >= pipe.until):
                return end
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _write_end(self, pipe: _Pipe) -> WriteEnd | None:
        """The pipe's end for writing, if there is a reader."""
        try:
            return await trio.to_thread.run_sync(
                self._open_for_writing, str(pipe.ino), abandon_on_cancel=True, limiter=self._opening
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log.warning("%s waits: %s", pipe.path, error.strerror)
                pipe.until = trio.current_time() + _WINDOW
            elif error.errno not in (errno.ENXIO, errno.ENOENT):
                log.warning("%s can't be fed: %s", pipe.path, error.strerror)
            return None

    async def _keep_open(self, end: WriteEnd) -> None:
        try:
            await trio.sleep(_HOLD)
        finally:
            end.close()

    def _open_hidden(self, path: str) -> int:
        self.threads.add(threading.get_native_id())
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._hidden = os.fstat(fd).st_ino
            return fd
        finally:
            self.threads.discard(threading.get_native_id())

    def _open_for_writing(self, name: str) -> WriteEnd:
        """Runs in a thread, because the loop answers the requests that it makes."""
        self.threads.add(threading.get_native_id())
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            return WriteEnd(os.open(name, flags, dir_fd=self._directory))
        finally:
            # Else the name would keep the kernel from ever forgetting the node.
            try:
                pyfuse3.invalidate_entry(self._hidden, name.encode())
            except OSError as error:
                log.debug("a hidden name was gone: %s", error)
            self.threads.discard(threading.get_native_id())

    # --- the bytes ---------------------------------------------------------------------------------------

    async def _feed(self, pipe: _Pipe, end: WriteEnd, datum: _Datum) -> None:
        try:
            if pipe.place is not None:
                await self._content.read(pipe.entry, 0, pipe.entry.size, pipe.place)
            await self._stream(pipe.entry, end.fd, datum)
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 (a defect too is the datum's failure; the mount goes on)
            reason = reason_of(error, f"feeding {pipe.path}")
            if datum.failure is None:
                datum.failure = PfsError(f"lazy input {pipe.path} can't be read: {reason}")
            datum.scope.cancel()
            await trio.sleep_forever()  # the reader must not take this for the file's end

    async def _stream(self, entry: FileEntry, fd: int, datum: _Datum) -> None:
        """Write the whole file. Raises BrokenPipeError when the reader has gone, else what reading raises."""
        offset = ahead = 0
        while offset < entry.size:
            found = await self._content.run(functools.partial(self._covering, entry, offset, ahead))
            if not found:
                raise CorruptError(f"a file's chunks end before its {entry.size} bytes do")
            (start, chunk), *following = found
            self._content.chunks.prefetch(item for _, item in following)
            while offset < start + chunk.size:
                await _writable(fd)
                offset += _write(fd, memoryview(await self._chunk(chunk))[offset - start :], datum)
            if not ahead:
                _enlarge(fd)
            ahead = min(max(2 * ahead, chunk.size), _AHEAD_BYTES, _ALL_AHEAD_BYTES // max(1, len(self._pipes)))

    def _covering(self, entry: FileEntry, offset: int, ahead: int) -> list[tuple[int, Chunk]]:
        """The chunk at `offset`, and those that begin in the `ahead` bytes after it."""
        found: list[tuple[int, Chunk]] = []
        for start, chunk in entries.chunks_from(self._content.nodes, entry, offset):
            if found and start >= found[0][0] + found[0][1].size + ahead:
                break
            found.append((start, chunk))
        return found

    async def _chunk(self, chunk: Chunk) -> bytes:
        data = self._content.chunks.peek(chunk.hash)
        if data is not None:
            return data
        async with self._fetching:
            [data] = await self._content.chunks.get([chunk])
            return data


async def _writable(fd: int) -> None:
    """Wait until the pipe has room. Raises BrokenPipeError when its reader has gone: nothing is fetched for it."""
    await trio.lowlevel.wait_writable(fd)
    if _abandoned(fd):
        raise BrokenPipeError


def _abandoned(fd: int) -> bool:
    """Whether the reader of a pipe has gone."""
    poller = select.poll()
    poller.register(fd, 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def _write(fd: int, data: memoryview, datum: _Datum) -> int:
    try:
        size = os.write(fd, data)
    except BlockingIOError:
        return 0
    datum.streamed += size
    return size


def _enlarge(fd: int) -> None:
    """Spare a reader that goes on past the first chunk some waiting."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _LARGE_PIPE)
    except OSError as error:  # the user has too many large pipes already
        log.debug("a pipe stays small: %s", error)


def _path(inode: Inode) -> str:
    names: list[str] = []
    here: Inode | None = inode
    while here is not None and here.parent is not None:
        names.append(here.name.decode(errors="replace"))
        here = here.parent
    return "/pfs/" + "/".join(reversed(names))
