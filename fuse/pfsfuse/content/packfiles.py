"""Packs that can be read without the daemon, on this machine or in a remote store, verified chunk by chunk."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import trio
from blake3 import blake3

from pachproto import pfsd_pb2
from pfsd.objectstores.blockcache import Coming

log = logging.getLogger(__name__)

_OPEN_PACKS = 64
_REMOVED_SECONDS = 1.0
"""How often packs that a collection has removed are looked for: open here, they would go on taking room."""
_RUN_BYTES = 1 << 20
"""Chunks that lie close together are read at once up to this size."""
_GAP_BYTES = 4 << 10
_ALONE_BYTES = 128 << 10
"""A chunk this large is read by itself, into memory of its own: that spares a copy."""
_PIECE_BYTES = 256 << 10
"""Of a chunk that is verified and not kept, so much is in memory at a time: it stays in the processor's cache."""
_pieces = threading.local()
"""The memory that each thread reads pieces into."""


class Location(NamedTuple):
    """Where a chunk's bytes lie inside a pack."""

    pack: str
    offset: int
    size: int


class RemotePacks(Protocol):
    """What can be read from a remote object store (`pfsfuse.content.remotepacks.RemotePacks`)."""

    def unsigned(self, packs: Iterable[str]) -> list[str]:
        """Those packs for which an address has to be asked of the daemon before they are read."""

    def learn(self, addresses: Mapping[str, str], seconds: float) -> None:
        """Take signed addresses, which hold for so long; an empty one is a pack that is not in the store yet."""

    def begin(self, wanted: Iterable[tuple[bytes, Location]]) -> Coming | None:
        """Begin to fetch what is missing of those chunks."""

    def read(self, wanted: list[tuple[bytes, Location]], coming: Coming | None = None) -> dict[bytes, bytes]:
        """The bytes of those chunks that can be had from the store and match their hashes, some of what is coming."""


class PackFiles:
    """The packs that can be read without the daemon: opened on this machine, or, with `remote`, in a remote store.

    Used from several threads.
    """

    def __init__(self, info: pfsd_pb2.StoreInfo, remote: RemotePacks | None = None) -> None:
        self.remote = remote
        store = urlsplit(info.object_store)
        self._packs = Path(unquote(store.path)) / "packs" if store.scheme == "file" else None
        self._spool = Path(info.spool) if info.spool else None
        self._open: OrderedDict[str, PackFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, wanted: Iterable[tuple[bytes, Location]], coming: Coming | None = None) -> dict[bytes, bytes]:
        """The bytes of those chunks that can be read here and match their hashes.

        Those in a remote store may be among what is `coming`.
        """
        by_pack: dict[str, list[tuple[bytes, Location]]] = {}
        for item in wanted:
            by_pack.setdefault(item[1].pack, []).append(item)
        found: dict[bytes, bytes] = {}
        elsewhere: list[tuple[bytes, Location]] = []
        for pack, items in by_pack.items():
            file = self._file(pack)
            if file is None:
                elsewhere += items
                continue
            for run in _runs(sorted(items, key=lambda item: item[1].offset)):
                start, last = run[0][1].offset, run[-1][1]
                try:
                    data = os.pread(file.fd, last.offset + last.size - start, start)
                except OSError as error:
                    log.warning("pack %s can't be read here: %s", pack, error)
                    continue
                for name, location in run:
                    at = location.offset - start
                    part = data if len(run) == 1 else data[at : at + location.size]
                    if blake3(part).digest() == name:
                        found[name] = part
                        file.verified[name] = location.offset
        if elsewhere and self.remote is not None:
            found.update(self.remote.read(elsewhere, coming))
        return found

    def read_part(self, name: bytes, location: Location, start: int, end: int) -> bytes | None:
        """Some bytes of a chunk, all of which is verified and none kept; None where it can't be read here."""
        file = self._file(location.pack)
        if file is None:
            return None
        try:
            part, digest = _verify(file.fd, location, start, end)
        except OSError as error:
            log.warning("pack %s can't be read here: %s", location.pack, error)
            return None
        if digest != name:
            return None
        file.verified[name] = location.offset
        return part

    def in_place(self, name: bytes, location: Location) -> PackFile | None:
        """The open pack in which a chunk was verified where it is said to lie, if there is one."""
        file = self._open.get(location.pack)
        return file if file is not None and file.verified.get(name) == location.offset else None

    def _file(self, pack: str) -> PackFile | None:
        with self._lock:
            file = self._open.get(pack)
            if file is not None:
                self._open.move_to_end(pack)
                return file
            for path in self._paths(pack):
                try:
                    file = PackFile(path)
                except OSError:
                    continue
                self._open[pack] = file
                if len(self._open) > _OPEN_PACKS:
                    self._open.popitem(last=False)
                return file
        return None

    async def close_removed(self) -> None:
        """Close packs soon after a collection has removed them, so that their room is free; until cancelled."""
        while True:
            await trio.sleep(_REMOVED_SECONDS)
            if self._open:
                try:
                    await trio.to_thread.run_sync(self._close_removed, abandon_on_cancel=True)
                except RuntimeError as error:  # no more threads just now
                    log.warning("packs that are removed stay open for now: %s", error)

    def _close_removed(self) -> None:
        with self._lock:
            for pack in [pack for pack, file in self._open.items() if file.is_removed()]:
                del self._open[pack]

    def _paths(self, pack: str) -> Iterator[Path]:
        sealed = None if self._packs is None else self._packs / pack[:2] / pack
        if sealed is not None:
            yield sealed
        if self._spool is not None:
            yield self._spool / pack
        if sealed is not None:  # it may have been moved between the two
            yield sealed


class PackFile:
    """An open pack, closed once no thread holds it any more."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # what is no file must not block
        self.verified: dict[bytes, int] = {}
        """Chunks that were found to match their hashes, and where."""

    def is_removed(self) -> bool:
        """Whether the pack is gone, or has become unreadable."""
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def _verify(fd: int, location: Location, start: int, end: int) -> tuple[bytes, bytes]:
    """Some bytes of a chunk and the hash of all of it."""
    piece = memoryview(_pieces.__dict__.setdefault("piece", bytearray(_PIECE_BYTES)))
    hasher = blake3()
    part = b""
    at = 0
    while at < location.size:
        got = os.preadv(fd, [piece[: location.size - at]], location.offset + at)
        if not got:  # the pack ends before
            break
        hasher.update(piece[:got])
        if at < end and start < at + got:
            part += piece[max(start - at, 0) : min(end - at, got)]
        at += got
    return part, hasher.digest()


def _runs(items: list[tuple[bytes, Location]]) -> Iterator[list[tuple[bytes, Location]]]:
    """Cut items, sorted by offset, where there is a gap or enough to read at once."""
    run: list[tuple[bytes, Location]] = []
    for item in items:
        if run:
            start, last = run[0][1].offset, run[-1][1]
            end = last.offset + last.size
            far = item[1].offset > end + _GAP_BYTES or item[1].offset + item[1].size > start + _RUN_BYTES
            if far or last.size >= _ALONE_BYTES or item[1].size >= _ALONE_BYTES:
                yield run
                run = []
        run.append(item)
    if run:
        yield run
