"""Open files that clients on this machine hand over, so that their bytes need not be sent.

A client connects to the socket in a directory that is open to the daemon's own user alone, sends who holds the file, a
ticket, a number of bytes and a descriptor, and is answered once (`ANSWER_YES`, or what is wrong). A call then names
holder and ticket, once. The file is closed when that call ends, when the client closes its connection or when nobody
has read it for long, whatever comes first. It is read with `pread`, as it is then: it may change, or be cut.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import logging
import os
import pathlib
import selectors
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

from pfsd.errors import InvalidError, StateError
from pfsd.local.disk import make_directory

log = logging.getLogger(__name__)

SOCKET = "socket"
"""The name of the socket in its directory."""
HANDED = struct.Struct(">16s16sQ")
"""What comes with a descriptor: holder, ticket, and how many bytes of the file may be read."""
ANSWER_YES = b"+"
ANSWER_BYTES = 200
MOST_FILES = 64
"""Descriptors that are held at a time, and connections."""
IDLE_SECONDS = 300.0
"""After which a file that nobody reads is closed: a call may wait long for room in between."""

_LOOK_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_ANCILLARY_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)
_LOCAL_FILE_SYSTEMS = frozenset(
    (0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1)
)  # ext, XFS, Btrfs, tmpfs, overlayfs, F2FS, ZFS; of others, a read may wait for ever, or for this daemon itself
_libc = ctypes.CDLL(None, use_errno=True)


class HandedFile:
    """An open file. It is closed once: under a read, as the read ends."""

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        """How many bytes may be read."""
        self.used = time.monotonic()
        """When it was last."""
        self._fd = fd
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it can't be read any more."""
        return self._closed

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Read the bytes at `offset` into all of a buffer; the shared file position tells the client how far it is.

        Raises StateError where the file has become shorter, can't be read or is closed.
        """
        with self._reading() as fd:
            done = 0
            while done < len(buffer):
                try:
                    count = os.preadv(fd, [buffer[done:]], offset + done)
                    os.lseek(fd, offset + done + count, os.SEEK_SET)
                except OSError as error:
                    raise StateError(f"a file that was handed over can't be read: {error.strerror}") from error
                if not count:
                    raise StateError("a file that was handed over was cut while it was read: put it again")
                done += count

    def close(self) -> None:
        """Close it; again is no harm."""
        with self._lock:
            self._closed = True
            self._close_unused()

    @contextmanager
    def _reading(self) -> Iterator[int]:
        with self._lock:
            if self._closed:
                raise StateError("a file that was handed over is closed: its client went away, or nobody read it")
            self._readers += 1
        try:
            yield self._fd
        finally:
            with self._lock:
                self._readers -= 1
                self.used = time.monotonic()
                if self._closed:
                    self._close_unused()

    def is_idle(self, now: float) -> bool:
        """Whether nobody has read it for long."""
        return not self._readers and now - self.used > IDLE_SECONDS

    def _close_unused(self) -> None:
        if not self._readers and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True, slots=True)
class HandedRange:
    """Bytes of a file that was handed over."""

    file: HandedFile
    offset: int
    size: int

    def fill(self, buffer: memoryview, done: int) -> None:
        """Read what comes after the first `done` bytes into a buffer."""
        self.file.fill(buffer, self.offset + done)


class HandedFiles:
    """Takes files at a socket, in a thread of its own, between `start` and `close`."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._waiting: dict[tuple[bytes, bytes], HandedFile] = {}
        """Those that no call has named yet, by holder and ticket."""
        self._connections: dict[socket.socket, HandedFile] = {}
        """Each with its file, or a closed one of no bytes before it has come."""
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="handed files", daemon=True)

    def __enter__(self) -> HandedFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether files can be handed over."""
        return self._listener is not None

    def start(self) -> None:
        """Listen; where that can't be done, a word in the log is all, since everything goes without."""
        try:
            self._listener = _listen(self.directory)
        except OSError as error:
            log.warning("no files can be handed over at %s: %s", self.directory, error)
            return
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close all files."""
        if self._listener is not None:
            self._wake.send(b"x")
            self._thread.join()
            self._listener.close()
            self._listener = None
            with suppress(OSError):
                (self.directory / SOCKET).unlink()
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def take(self, holder: bytes, ticket: bytes) -> HandedFile:
        """The file that `holder` has handed over under a ticket, which is used by that.

        Raises StateError for a ticket that is unknown, used, old or another holder's.
        """
        with self._lock:
            file = self._waiting.pop((holder, ticket), None)
        if file is None or file.is_closed:
            raise StateError("no file waits under this ticket: it was used, is too old or is another client's")
        file.used = time.monotonic()
        return file

    # --- the thread

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept(self._listener)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._receive(key.fileobj)
            now = time.monotonic()
            for connection, file in list(self._connections.items()):
                if (file.size and file.is_closed) or file.is_idle(now):
                    self._drop(connection)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            log.info("a connection at %s can't be taken: %s", self.directory, error)
            time.sleep(_PAUSE_SECONDS)  # it may be that no descriptor is free
            return
        connection.setblocking(False)
        if len(self._connections) >= MOST_FILES:
            _answer(connection, f"{MOST_FILES} files are handed over already")
            connection.close()
            return
        self._connections[connection] = HandedFile(-1, 0)  # which gets idle: who says nothing is dropped, too
        self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data, found, _, _ = connection.recvmsg(HANDED.size, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, found = b"", []
        fds = array.array("i")
        for level, kind, part in found:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(part[: len(part) - len(part) % fds.itemsize])
        try:
            if not data:
                self._drop(connection)
                return
            self._keep(connection, data, list(fds))
        except InvalidError as error:
            _answer(connection, str(error))
            self._drop(connection)
        else:
            _answer(connection, "")

    def _keep(self, connection: socket.socket, data: bytes, fds: list[int]) -> None:
        try:
            known = self._connections[connection]
            if len(data) != HANDED.size or len(fds) != 1 or known.size:
                raise InvalidError("one connection hands over one file")
            holder, ticket, size = HANDED.unpack(data)
            _check(fds[0], size)
            with self._lock:
                if (holder, ticket) in self._waiting:
                    raise InvalidError("this ticket is in use")
                file = HandedFile(fds.pop(), size)
                self._waiting[holder, ticket] = self._connections[connection] = file
            log.info("a file was handed over: %d bytes", size)
        finally:
            for fd in fds:
                os.close(fd)

    def _drop(self, connection: socket.socket) -> None:
        file = self._connections.pop(connection)
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()
        file.close()
        with self._lock:
            self._waiting = {key: each for key, each in self._waiting.items() if each is not file}


def _listen(directory: pathlib.Path) -> socket.socket:
    """A socket in a directory, both of this user alone, however long the directory's path is."""
    make_directory(directory)
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(top, 0o700)
        with suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=top)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(f"/proc/self/fd/{top}/{SOCKET}")
            os.chmod(SOCKET, 0o600, dir_fd=top)
            listener.listen(MOST_FILES)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    finally:
        os.close(top)
    return listener


def _check(fd: int, size: int) -> None:
    """Raise InvalidError for what is no file from which `size` bytes can be read here and now."""
    found = os.fstat(fd)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidError("only regular files can be handed over")
    if flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_PATH:
        raise InvalidError("a file that is handed over has to be open for reading")
    if not 0 < size <= found.st_size:
        raise InvalidError(f"the file has {found.st_size} bytes, and {size} are handed over")
    if _file_system(fd) not in _LOCAL_FILE_SYSTEMS:
        raise InvalidError("only files of local file systems can be handed over")


def _file_system(fd: int) -> int:
    """The number of the kind of file system that a file is in; 0 where it can't be told."""
    found = (ctypes.c_long * 64)()
    return 0 if _libc.fstatfs(fd, found) else int(found[0]) & 0xFFFFFFFF


def _answer(connection: socket.socket, reason: str) -> None:
    with suppress(OSError):
        connection.send(reason.encode()[:ANSWER_BYTES] if reason else ANSWER_YES)
