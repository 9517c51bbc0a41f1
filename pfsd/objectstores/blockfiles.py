"""The files of a block cache: blocks of packs in a directory that all processes of this machine may share.

`XX/PACK.N` holds the N-th BLOCK_BYTES of a pack, fewer at its end. A block appears by a rename, and what a power cut
may still have torn is found by the hashes of the chunks that are read out of it: `forget` it then. `state` holds the
counters of `Statistics`, `locks` nothing: parts of it are locked. Nothing here has to last: what is removed is fetched
again, what can't be read counts as missing, and for a lock that a stopped process holds nobody waits long. Files with
other names belong to others and stay.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import mmap
import os
import pathlib
import re
import secrets
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import astuple, dataclass, fields

from pfsd.errors import InvalidError
from pfsd.local.disk import write_all

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
KEPT_SHARE = 0.9
"""What is left of the limit once old blocks are removed."""
TOUCH_SECONDS = 60.0
"""How exactly it is known when a block was used last."""

UNTOLD_BYTES = 8 << 20
"""So much is stored before the other users are told of it."""
LEFT_NAMES = 100
"""Strange files that the log names."""
LOCK_SECONDS = 5.0
"""For which a lock of another process is waited for while nothing of what it fetches comes."""
COUNT_SECONDS = 0.5
"""The same for the counters, which are held for some microseconds."""
STUCK_SECONDS = 30.0
"""For which no lock is waited for after one was waited for in vain: its holder may be stopped."""
LOCK_PAUSES = (0.001, 0.02)
"""Between looks at a lock that is held, at first and at most."""

_STATE = struct.Struct("<8Q")
_STATE_LOCK = 1 << 62  # where in the file of locks: behind those of the blocks
_EVICT_LOCK = _STATE_LOCK + 1
_OURS = re.compile(r"[0-9a-f]{32}\.[0-9]+|\.[0-9a-f]{24}")
"""Names of blocks, and of those that are being written."""


_TOP = re.compile(r"state|locks|[0-9a-f]{2}")


class Lock(enum.Enum):
    """How a lock was got."""

    FREE = "at once"
    WAITED = "after somebody else"
    STUCK = "not at all: it is held for too long"


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
        self._stuck_until = 0.0
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
            os.close(os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise InvalidError(f"the cache directory {directory} can't be used: {error.strerror}") from error
        self._lock = threading.Lock()
        self._left: set[pathlib.Path] = set()
        self._counted = Statistics()
        self._untold = min(UNTOLD_BYTES, self.limit // 16)
        self._written = 0.0

    def size(self, name: str, index: int) -> int | None:
        """Bytes of a block; None where it is not here."""
        try:
            status = os.stat(self._path(name, index))
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def part(self, name: str, index: int, low: int, high: int, *, partial: bool = False) -> bytes | None:
        """Bytes of a block; None where they are not all there, or, with `partial`, none are."""
        try:
            fd = os.open(self._path(name, index), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO blocks else
        except OSError:
            return None
        try:
            data = os.pread(fd, high - low, low)
            if time.time() - os.fstat(fd).st_mtime > TOUCH_SECONDS:
                os.utime(fd)
        except OSError as error:
            log.warning("block %d of %s can't be read in %s: %s", index, name, self.directory, error.strerror)
            return None
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
        except OSError:
            return False
        return True

    def forget_all(self, name: str) -> None:
        """Drop every block of an object that is gone."""
        path = pathlib.Path(self._path(name, 0))
        for block in path.parent.glob(f"{path.name.rpartition('.')[0]}.*"):
            if _OURS.fullmatch(block.name):
                with suppress(OSError):
                    block.unlink()

    def locked(self, name: str, first: int, count: int) -> AbstractContextManager[Lock]:
        """Hold the right to fetch a range of blocks; tells how the lock was got.

        Against threads and processes alike; the kernel gives it up when the process dies. Of one that is stopped, it
        is not to be had: who has waited for LOCK_SECONDS, in which no block came, does without.
        """
        start = (int(name.rpartition("/")[2][:12], 16) << 12) + first
        return self._locked(
            start,
            count,
            LOCK_SECONDS,
            lambda: sum(self.size(name, first + number) is not None for number in range(count)),
        )

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
        with self._locked(_EVICT_LOCK, 1, LOCK_SECONDS) as lock:
            if lock is Lock.WAITED and self._held() <= self.limit:
                return
            blocks = []
            for path in self._files():
                if not _OURS.fullmatch(path.name):
                    self._leave(path)
                    continue
                with suppress(OSError):
                    status = path.lstat()
                    blocks.append((status.st_mtime_ns, status.st_size, path))
            total, evicted = sum(size for _, size, _ in blocks), 0
            for _, size, path in sorted(blocks):
                if total <= self.limit * KEPT_SHARE:
                    break
                with suppress(OSError):
                    path.unlink()
                    total, evicted = total - size, evicted + 1
            self.count(evicted=evicted)
            with self._lock:
                self._counted.bytes = 0
                self._write_counters(held=total)

    def name_strangers(self) -> None:
        """Say in the log what in the directory is none of ours."""
        for path in (*self.directory.iterdir(), *self._files()):
            is_top = path.parent == self.directory
            if not (_TOP if is_top else _OURS).fullmatch(path.name):
                self._leave(path)

    def _files(self) -> list[pathlib.Path]:
        """What there is where blocks belong, as far as it can be listed."""
        try:
            return list(self.directory.glob("??/*"))
        except OSError as error:
            log.warning("the cache %s can't be listed: %s", self.directory, error.strerror)
            return []

    def _leave(self, path: pathlib.Path) -> None:
        """Say, once, that a file is none of ours."""
        if path not in self._left and len(self._left) < LEFT_NAMES:
            self._left.add(path)
            log.warning("%s is no block of the cache: it is left alone", path)

    @contextmanager
    def _locked(self, start: int, length: int, patience: float, progress: Callable[[], int] = int) -> Iterator[Lock]:
        """Hold a part of the file of locks; tells how the lock was got.

        After `patience` seconds in which `progress` told the same, go on without.
        """
        try:
            fd = os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:  # too many are open, or the directory is gone
            log.warning("the locks of the cache %s can't be used: %s", self.directory, error.strerror)
            yield Lock.STUCK
            return
        try:
            # struct flock of a 64-bit Linux; these locks belong to the descriptor, not to the process
            wanted = struct.pack("hhxxxxqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            yield self._acquired(fd, wanted, patience, progress)
        finally:
            os.close(fd)

    def _acquired(self, fd: int, wanted: bytes, patience: float, progress: Callable[[], int]) -> Lock:
        pause, longest = LOCK_PAUSES
        lock, begun, done = Lock.FREE, 0.0, 0
        while True:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
            except (BlockingIOError, PermissionError):
                now = time.monotonic()
                if now < self._stuck_until:
                    return Lock.STUCK
                if lock is Lock.FREE or progress() != done:
                    begun, done = now, progress()
                elif now - begun >= patience:
                    self._stuck_until = now + STUCK_SECONDS
                    log.warning(
                        "a process holds a lock of the cache %s for more than %.1f s, and may be stopped: "
                        "going on without its locks",
                        self.directory,
                        patience,
                    )
                    return Lock.STUCK
            else:
                return lock
            lock = Lock.WAITED
            time.sleep(pause)
            pause = min(2 * pause, longest)

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
        self._written = time.monotonic()
        with self._locked(_STATE_LOCK, 1, COUNT_SECONDS) as lock:
            if lock is Lock.STUCK:  # the next time, then
                return
            sums = [old + new for old, new in zip(_STATE.unpack_from(self._state), astuple(self._counted), strict=True)]
            if held is not None:
                sums[0] = held
            _STATE.pack_into(self._state, 0, *(max(number, 0) for number in sums))
        for field in fields(self._counted):
            setattr(self._counted, field.name, 0)
