"""Where sealed packs live: named immutable objects. Here are the interface and the local directory."""

from __future__ import annotations

import io
import logging
import os
import pathlib
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol, cast

from pfsd.errors import CorruptError, NotFoundError, PfsError, UnavailableError
from pfsd.local.disk import disk_error, fsync_directory, make_directory, read_error
from pfsd.local.packs import sealed_name

log = logging.getLogger(__name__)

OPEN_FILES = 128
SIGNED_SECONDS = 3600
"""For which a signed address holds."""


class ObjectStore(Protocol):
    """Named immutable byte strings. Names are relative paths. Safe to use from many threads.

    Every method may raise UnavailableError where the store is not on this machine.
    """

    url: str
    """Where it is, as readers on other machines are told."""
    is_remote: bool
    """Whether it is reached over a network: slow to answer, and sometimes not there."""

    def put_file(self, name: str, source: pathlib.Path) -> None:
        """Store a file's bytes under `name`, durably, and remove the file."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; raises CorruptError when the object is missing or shorter."""

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        """The same, past everything that is kept of it nearer by; as many bytes as there are."""

    def forget(self, name: str, offset: int, size: int) -> bool:
        """Drop what is kept nearer by of a read that turned out wrong; whether there was anything, so that it is worth
        reading again."""

    def signed(self, name: str) -> str:
        """An address at which everybody can read an object for a while; empty where there is no such thing."""

    def size(self, name: str) -> int:
        """Bytes of an object; raises CorruptError when it is missing."""

    def names(self, prefix: str) -> Iterator[str]:
        """The names below `prefix`, a directory."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""

    def close(self) -> None:
        """Release what is held open, and end what is being tried again."""


class Tally:
    """Counts the requests to a store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.failures = 0
        """Requests that were not answered, or refused; that something is not there is an answer."""

    @contextmanager
    def request(self) -> Iterator[None]:
        """What the block does is one."""
        is_failure = False
        try:
            yield
        except NotFoundError:
            raise
        except PfsError:
            is_failure = True
            raise
        finally:
            with self._lock:
                self.requests += 1
                self.failures += is_failure


READ_BYTES = 4 << 20
"""What is read of an object at once where all of it is wanted."""


class _ObjectFile(io.RawIOBase):
    """An object as a file, past everything that is kept of it nearer by."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name
        self._size = store.size(name)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._store.read_fresh(self._name, self._at, min(len(view), max(self._size - self._at, 0)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_object(store: ObjectStore, name: str) -> BinaryIO:
    """An object to be read from its beginning; raises CorruptError when it is missing."""
    return cast(BinaryIO, io.BufferedReader(_ObjectFile(store, name), READ_BYTES))


MOVING = "moving"
"""The name of a pack on its way from or to a remote store, beside those that are here."""


class LocalObjectStore:
    """Objects as files below a directory."""

    is_remote = False

    def __init__(self, directory: pathlib.Path) -> None:
        """Open or create, durably; raises DiskError where that can't be. Names in the log what is none of its own."""
        self._directory = directory
        try:
            make_directory(directory / "packs")
        except OSError as error:
            raise disk_error(error, f"the directory {directory / 'packs'} can't be made") from error
        self.url = directory.resolve().as_uri()
        self._lock = threading.Lock()
        self._files: OrderedDict[str, int] = OrderedDict()
        self._synced: set[pathlib.Path] = set()
        """Directories whose names are durable."""
        self._is_closed = False
        for path in directory.iterdir():
            if path.name not in ("packs", MOVING):
                log.warning("%s is none of ours: it is left alone", path)
        for name in self.names("packs"):
            sealed_name(name)

    def put_file(self, name: str, source: pathlib.Path) -> None:
        target = self._directory / name
        if target.parent not in self._synced:
            make_directory(target.parent)
            self._synced.add(target.parent)
        try:
            os.replace(source, target)  # the source lies in the same root, so this is one atomic step
        except FileNotFoundError:  # a former attempt got so far
            if not target.exists():
                raise
        try:
            fsync_directory(target.parent)
        except OSError:
            os.replace(target, source)  # a second sync would tell of nothing: it has to be done anew
            raise

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = self.read_fresh(name, offset, size)
        if len(data) != size:
            raise CorruptError(f"object {name} in {self._directory} ends before byte {offset + size}")
        return data

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        try:
            with self._lock:  # pread of cached data is short; the lock keeps the descriptor from being closed
                return os.pread(self._opened(name), size, offset)
        except FileNotFoundError:
            raise CorruptError(f"object {name} is missing from {self._directory}") from None
        except OSError as error:
            raise read_error(error, f"object {name} in {self._directory} can't be read") from error

    def _opened(self, name: str) -> int:
        """The descriptor of an object. Called under the lock."""
        if self._is_closed:
            raise UnavailableError("pfsd is being stopped: try again when it serves again")
        fd = self._files.get(name)
        if fd is None:
            fd = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO blocks else
            self._files[name] = fd
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(name)
        return fd

    def forget(self, name: str, offset: int, size: int) -> bool:
        return False

    def signed(self, name: str) -> str:
        return ""

    def size(self, name: str) -> int:
        try:
            return (self._directory / name).stat().st_size
        except FileNotFoundError:
            raise CorruptError(f"object {name} is missing from {self._directory}") from None
        except OSError as error:
            raise read_error(error, f"object {name} in {self._directory} can't be read") from error

    def has(self, name: str, size: int) -> bool:
        """Whether there is an object of this size."""
        path = self._directory / name
        return path.is_file() and path.stat().st_size == size

    def names(self, prefix: str) -> Iterator[str]:
        for path in sorted((self._directory / prefix).rglob("*")):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # removed just now
                continue
            if stat.S_ISREG(mode):
                yield str(path.relative_to(self._directory))
            elif not stat.S_ISDIR(mode):
                log.warning("%s is no file: it is left alone", path)

    def delete(self, name: str) -> None:
        with self._lock:
            fd = self._files.pop(name, None)
            if fd is not None:
                os.close(fd)
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, f"object {name} in {self._directory} can't be removed") from error

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            while self._files:
                os.close(self._files.popitem()[1])
