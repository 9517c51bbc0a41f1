"""Chunk bytes: read from packs where this machine can open them, else through the daemon, verified, kept.

A pack file moves from the spool to the object store at any moment, and the end of a pack that still grows
may be in the daemon's memory only: whatever can't be read here, or does not match its hash, is asked of the
daemon.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import trio
from blake3 import blake3

from pachproto import pfsd_pb2
from pfsd.errors import CorruptError, PfsError, UnavailableError
from pfsd.objectstores.blockcache import Coming
from pfsd.runtime.apart import apart
from pfsd.trees.entries import Chunk

log = logging.getLogger(__name__)

CACHE_BYTES = 96 << 20
"""Default limit of the verified chunks that are kept."""

_LOCATIONS = 1 << 16
_OPEN_PACKS = 64
_REMOVED_SECONDS = 1.0
"""How often packs that a collection has removed are looked for: open here, they would go on taking room."""
_RUN_BYTES = 1 << 20
"""Chunks that lie close together are read at once up to this size."""
_GAP_BYTES = 4 << 10
_ALONE_BYTES = 128 << 10
"""A chunk this large is read by itself, into memory of its own: that spares a copy."""
_LOCATED_BEFORE = 512
"""So many chunks that will be read later are located together with those that are wanted."""
_REMOTE_BYTES = 32 << 20
"""How much is asked of the daemon in one call."""


class Location(NamedTuple):
    """Where a chunk's bytes lie inside a pack."""

    pack: str
    offset: int
    size: int


class ChunkSource(Protocol):
    """What `ChunkReader` asks of the daemon (`pfsfuse.client.daemon.Daemon`)."""

    async def locate_chunks(self, hashes: list[bytes]) -> list[pfsd_pb2.ChunkLocation]:
        """Where the chunks lie, in the order asked for."""

    async def chunks(self, hashes: list[bytes]) -> list[bytes]:
        """The chunks' bytes, in the order asked for."""

    async def sign_packs(self, packs: list[str]) -> tuple[list[str], float]:
        """Addresses at which packs can be read, empty for those that can't be, and the seconds for which they hold."""


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


@dataclass(eq=False, slots=True)
class _Fetch:
    """Chunks on their way; whoever needs one of them waits for `done`."""

    names: list[bytes]
    done: trio.Event = field(default_factory=trio.Event)
    data: dict[bytes, bytes] = field(default_factory=dict)
    error: PfsError | None = None


class ChunkReader:
    """Verified chunks: kept up to `limit` bytes, each fetched once however many readers wait for it.

    Fetches run in `nursery`, so that a reader that is cancelled takes nothing from the others.
    """

    def __init__(self, source: ChunkSource, packs: PackFiles, nursery: trio.Nursery, limit: int = CACHE_BYTES) -> None:
        self._source = source
        self._packs = packs
        self._nursery = nursery
        self._limit = limit
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._held = 0
        self._fetches: dict[bytes, _Fetch] = {}
        self._locations: OrderedDict[bytes, Location] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of the chunks that are kept."""
        return self._held

    def peek(self, name: bytes) -> bytes | None:
        """A chunk that is at hand."""
        data = self._kept.get(name)
        if data is not None:
            self._kept.move_to_end(name)
        return data

    def in_place(self, name: bytes) -> tuple[PackFile, int] | None:
        """The pack of this machine in which a chunk was verified, and where in it, if it was."""
        location = self._locations.get(name)
        file = None if location is None else self._packs.in_place(name, location)
        return None if location is None or file is None else (file, location.offset)

    def on_hand(self, name: bytes) -> bool:
        """Whether a chunk is kept, or on its way."""
        return name in self._kept or name in self._fetches

    def prefetch(self, chunks: Iterable[Chunk], later: Iterable[Chunk] = (), group_bytes: int | None = None) -> None:
        """Begin to fetch chunks that someone will soon ask for; failures are left to them.

        They are had by groups of `group_bytes`, as these come, or all together. Those asked for `later` are located
        along, where that is to be asked anyway.
        """
        wanted = {chunk.hash: chunk for chunk in chunks if not self.on_hand(chunk.hash)}
        if wanted:
            self._start([[chunk.hash for chunk in group] for group in _groups(wanted.values(), group_bytes)], later)

    def announce(self, chunks: Iterable[Chunk]) -> None:
        """Have what of these lies in a remote store fetched to this machine; they are not brought into memory yet."""
        names = [chunk.hash for chunk in chunks if not self.on_hand(chunk.hash)]
        if names and self._packs.remote is not None:
            wanted = list(dict.fromkeys(names))
            self._nursery.start_soon(apart, "fetching ahead", None, self._begin, self._packs.remote, wanted)

    async def _begin(self, remote: RemotePacks, names: list[bytes]) -> None:
        try:
            await self._begin_located(remote, await self._locate(names, ()))
        except PfsError as error:  # who reads them meets it again
            log.info("chunks were not fetched ahead: %s", error)

    async def _begin_located(self, remote: RemotePacks, located: list[tuple[bytes, Location]]) -> Coming | None:
        await self._sign(remote, located)
        return await trio.to_thread.run_sync(remote.begin, located, abandon_on_cancel=True)

    def drop(self, name: bytes) -> None:
        """Do not keep a chunk any longer."""
        self._held -= len(self._kept.pop(name, b""))

    async def get(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """The bytes of `chunks`. Raises CorruptError where one is lost, UnavailableError when the daemon
        is.
        """
        found: dict[bytes, bytes] = {}
        waits: list[tuple[bytes, _Fetch]] = []
        missing: dict[bytes, None] = {}
        for chunk in chunks:
            data = self.peek(chunk.hash)
            if data is not None:
                found[chunk.hash] = data
            elif chunk.hash in self._fetches:
                waits.append((chunk.hash, self._fetches[chunk.hash]))
            else:
                missing[chunk.hash] = None
        if missing:
            (fetch,) = self._start([list(missing)])
            waits += ((name, fetch) for name in missing)
        for name, fetch in waits:
            await fetch.done.wait()
            if name in fetch.data:
                found[name] = fetch.data[name]
            else:
                raise fetch.error or UnavailableError("reading was stopped: the mount is being ended")
        return [found[chunk.hash] for chunk in chunks]

    def _start(self, groups: list[list[bytes]], later: Iterable[Chunk] = ()) -> list[_Fetch]:
        """Begin to fetch groups of chunks; each is done when all of it has come."""
        fetches = []
        for names in groups:
            fetch = _Fetch(names)
            fetches.append(fetch)
            self._fetches.update((name, fetch) for name in names)
        self._nursery.start_soon(self._fetch_all, fetches, later)
        return fetches

    async def _fetch_all(self, fetches: list[_Fetch], later: Iterable[Chunk]) -> None:
        try:
            located = await self._locate([name for fetch in fetches for name in fetch.names], later)
            coming: Coming | None = None
            remote = self._packs.remote
            if remote is not None:
                coming = await self._begin_located(remote, located)
        except BaseException as error:
            for fetch in fetches:
                self._end(fetch, error)
            if not isinstance(error, Exception):
                raise
            return
        where = dict(located)
        for fetch in fetches[1:]:
            self._nursery.start_soon(self._fetch, fetch, where, coming)
        await self._fetch(fetches[0], where, coming)

    async def _fetch(self, fetch: _Fetch, where: Mapping[bytes, Location], coming: Coming | None) -> None:
        try:
            located = [(name, where[name]) for name in fetch.names]
            found = await trio.to_thread.run_sync(self._packs.read, located, coming, abandon_on_cancel=True)
            fetch.data.update(found)
            await self._ask_for_rest(located, fetch.data)
        except BaseException as error:
            self._end(fetch, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end(fetch)

    def _end(self, fetch: _Fetch, error: BaseException | None = None) -> None:
        """Let those who wait for a fetch have what came of it."""
        if isinstance(error, PfsError):
            fetch.error = error
        elif isinstance(error, Exception):
            log.error("fetching chunks failed", exc_info=error)
            fetch.error = PfsError(f"chunks could not be read: {error}")
        for name in fetch.names:
            del self._fetches[name]
        for name, data in fetch.data.items():
            self.keep(name, data)
        fetch.done.set()

    async def _ask_for_rest(self, located: list[tuple[bytes, Location]], into: dict[bytes, bytes]) -> None:
        """Read through the daemon what could not be read otherwise."""
        group: list[bytes] = []
        size = 0
        for name, location in located:
            if name in into:
                continue
            self._locations.pop(name, None)
            if group and size + location.size > _REMOTE_BYTES:
                await self._ask(group, into)
                group, size = [], 0
            group.append(name)
            size += location.size
        if group:
            await self._ask(group, into)

    async def _sign(self, remote: RemotePacks, located: list[tuple[bytes, Location]]) -> None:
        """Have the daemon sign what is to be read from a remote store and is not signed yet."""
        packs = remote.unsigned(dict.fromkeys(location.pack for _, location in located))
        if packs:
            addresses, seconds = await self._source.sign_packs(packs)
            remote.learn(dict(zip(packs, addresses, strict=True)), seconds)

    async def _ask(self, names: list[bytes], into: dict[bytes, bytes]) -> None:
        """Read chunks through the daemon."""
        answer = await self._source.chunks(names)
        digests = await trio.to_thread.run_sync(lambda: [blake3(data).digest() for data in answer])
        into.update((name, data) for name, data in zip(digests, answer, strict=True))
        lost = next((name for name in names if name not in into), None)
        if lost is not None:
            raise CorruptError(f"chunk {lost.hex()} does not match its hash")

    async def _locate(self, names: list[bytes], later: Iterable[Chunk]) -> list[tuple[bytes, Location]]:
        unknown = [name for name in names if name not in self._locations]
        if unknown:
            following = (chunk.hash for chunk in islice(later, _LOCATED_BEFORE))
            unknown += (name for name in dict.fromkeys(following) if name not in self._locations)
            answer = await self._source.locate_chunks(unknown)
            for name, found in zip(unknown, answer, strict=True):
                self._locations[name] = Location(found.pack, found.offset, found.size)
        located = [(name, self._locations[name]) for name in names]
        for name in names:
            self._locations.move_to_end(name)
        while len(self._locations) > _LOCATIONS:
            self._locations.popitem(last=False)
        return located

    def keep(self, name: bytes, data: bytes) -> None:
        """Have a chunk at hand, as long as there is room."""
        if name in self._kept:
            return
        self._kept[name] = data
        self._held += len(data)
        while self._held > self._limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._held -= len(dropped)


def _groups(chunks: Iterable[Chunk], size: int | None) -> Iterator[list[Chunk]]:
    """Chunks in order, cut where `size` bytes are reached."""
    group: list[Chunk] = []
    held = 0
    for chunk in chunks:
        group.append(chunk)
        held += chunk.size
        if size is not None and held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group
