"""The files of a block cache: blocks of packs in a directory that all processes of this machine may share.

`XX/PACK.N` holds the N-th BLOCK_BYTES of a pack, fewer at its end. A block appears by a rename, and what a power cut
may still have torn is found by the hashes of the chunks that are read out of it: `forget` it then. `state` holds the
counters of `Statistics`, `locks` nothing: parts of it are locked. Nothing here is needed: what is removed is fetched
again.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import pathlib
import secrets
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import astuple, dataclass, fields

from pfsd.disk import write_all
from pfsd.errors import InvalidError

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
KEPT_SHARE = 0.9
"""What is left of the limit once old blocks are removed."""
TOUCH_SECONDS = 60.0
"""How exactly it is known when a block was used last."""

UNTOLD_BYTES = 8 << 20
"""So much is stored before the other users are told of it."""

_STATE = struct.Struct("<8Q")
_STATE_LOCK = 1 << 62  # where in the file of locks: behind those of the blocks
_EVICT_LOCK = _STATE_LOCK + 1


@dataclass(slots=True)
class Statistics:
    """What a cache has done since its directory was made, for all its users together."""

    bytes: int = 0
    """Held at present."""
    hits: int = 0
    """Reads of blocks that were there."""
    misses: int = 0
    """Reads of blocks that were not."""
    requests: int = 0
    """To the object store."""
    fetched: int = 0
    """Bytes that came from there."""
    waits: int = 0
    """Misses for which somebody else's request was waited for."""
    damaged: int = 0
    """Blocks that did not match."""
    evicted: int = 0
    """Blocks that had to make room."""


def statistics(directory: pathlib.Path) -> Statistics:
    """The counters of the cache in a directory; raises InvalidError where there is none."""
    try:
        return Statistics(*_STATE.unpack((directory / "state").read_bytes()[: _STATE.size]))
    except (OSError, struct.error):
        raise InvalidError(f"there is no block cache in {directory}") from None


class BlockFiles:
    """The files in a directory, as one process uses them. Safe to use from many threads."""

    def __init__(self, directory: pathlib.Path, limit: int) -> None:
        """Open or create, to hold up to `limit` bytes. Raises InvalidError when the directory can't be used."""
        self.directory = directory
        self.limit = max(limit, BLOCK_BYTES)
        """Bytes."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(directory / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(fd).st_size < _STATE.size:
                    os.ftruncate(fd, _STATE.size)
                self._state = mmap.mmap(fd, _STATE.size)
            finally:
                os.close(fd)
            self._locks = directory / "locks"
            with self._locked(_STATE_LOCK, 1):
                pass
        except OSError as error:
            raise InvalidError(f"the cache directory {directory} can't be used: {error.strerror}") from error
        self._lock = threading.Lock()
        self._counted = Statistics()
        self._untold = min(UNTOLD_BYTES, self.limit // 16)
        self._written = 0.0

    def size(self, name: str, index: int) -> int | None:
        """Bytes of a block; None where it is not here."""
        try:
            return os.stat(self._path(name, index)).st_size
        except FileNotFoundError:
            return None

    def part(self, name: str, index: int, low: int, high: int, *, partial: bool = False) -> bytes | None:
        """Bytes of a block; None where they are not all there, or, with `partial`, none are."""
        try:
            fd = os.open(self._path(name, index), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            data = os.pread(fd, high - low, low)
            if time.time() - os.fstat(fd).st_mtime > TOUCH_SECONDS:
                os.utime(fd)
        finally:
            os.close(fd)
        return data if partial or len(data) == high - low else None

    def store(self, name: str, index: int, data: bytes) -> None:
        """Keep a block; where the disk does not take it, it is simply not kept."""
        path = self._path(name, index)
        made = f"{os.path.dirname(path)}/.{secrets.token_hex(12)}"
        try:
            fd = self._create(made)
            try:
                try:
                    write_all(fd, data, 0)
                finally:
                    os.close(fd)
                before = self.size(name, index) or 0
                os.replace(made, path)
            except BaseException:
                os.unlink(made)
                raise
        except OSError as error:
            log.warning("a block is not kept in %s: %s", self.directory, error.strerror)
            return
        self.count(bytes=len(data) - before)
        if self._held() > self.limit:
            self._evict()

    def forget(self, name: str, index: int) -> bool:
        """Drop a block; whether it was here."""
        try:
            os.unlink(self._path(name, index))
        except FileNotFoundError:
            return False
        return True

    def forget_all(self, name: str) -> None:
        """Drop every block of an object that is gone."""
        path = pathlib.Path(self._path(name, 0))
        for block in path.parent.glob(f"{path.name.rpartition('.')[0]}.*"):
            block.unlink(missing_ok=True)

    def locked(self, name: str, first: int, count: int) -> AbstractContextManager[bool]:
        """Hold the right to fetch a range of blocks; tells whether somebody else had it before.

        Against threads and processes alike; the kernel gives it up when the process dies.
        """
        return self._locked((int(name.rpartition("/")[2][:12], 16) << 12) + first, count)

    def count(self, **more: int) -> None:
        """Add to the counters of these names."""
        with self._lock:
            for name, value in more.items():
                setattr(self._counted, name, getattr(self._counted, name) + value)
            if abs(self._counted.bytes) >= self._untold or time.monotonic() - self._written > 1:
                self._write_counters()

    def write_counters(self) -> None:
        """Let all users see what was counted here so far."""
        with self._lock:
            self._write_counters()

    def _path(self, name: str, index: int) -> str:
        pack = name.rpartition("/")[2]
        return f"{self.directory}/{pack[:2]}/{pack}.{index}"

    def _evict(self) -> None:
        """Remove the blocks that were not used for the longest time; count anew what there is."""
        with self._locked(_EVICT_LOCK, 1) as waited:
            if waited and self._held() <= self.limit:
                return
            blocks = []
            for path in self.directory.glob("??/*"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    blocks.append((status.st_mtime_ns, status.st_size, path))
            total, evicted = sum(size for _, size, _ in blocks), 0
            for _, size, path in sorted(blocks):
                if total <= self.limit * KEPT_SHARE:
                    break
                path.unlink(missing_ok=True)
                total, evicted = total - size, evicted + 1
            self.count(evicted=evicted)
            with self._lock:
                self._counted.bytes = 0
                self._write_counters(held=total)

    @contextmanager
    def _locked(self, start: int, length: int) -> Iterator[bool]:
        """Hold a part of the file of locks; tells whether that took waiting."""
        fd = os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # struct flock of a 64-bit Linux; these locks belong to the descriptor, not to the process
            wanted = struct.pack("hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
                waited = False
            except (BlockingIOError, PermissionError):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, wanted)
                waited = True
            yield waited
        finally:
            os.close(fd)

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _held(self) -> int:
        """Bytes in the directory, as far as users have told."""
        return int(_STATE.unpack_from(self._state)[0]) + self._counted.bytes

    def _write_counters(self, held: int | None = None) -> None:
        """Add what was counted to the counters that all share. Called under the lock."""
        with self._locked(_STATE_LOCK, 1):
            sums = [old + new for old, new in zip(_STATE.unpack_from(self._state), astuple(self._counted), strict=True)]
            if held is not None:
                sums[0] = held
            _STATE.pack_into(self._state, 0, *(max(number, 0) for number in sums))
        for field in fields(self._counted):
            setattr(self._counted, field.name, 0)
        self._written = time.monotonic()
