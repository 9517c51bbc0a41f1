"""Chunk bytes: read from packs where this machine can open them, else through the daemon, verified, kept.

A pack file moves from the spool to the object store at any moment, and the end of a pack that still grows
may be in the daemon's memory only: whatever can't be read here, or does not match its hash, is asked of the
daemon.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import trio
from blake3 import blake3

from pachproto import pfsd_pb2
from pfsd.errors import CorruptError, PfsError, UnavailableError
from pfsd.objectstores.blockcache import Coming
from pfsd.runtime.apart import apart
from pfsd.trees.entries import Chunk
from pfsfuse.content.packfiles import Location, PackFile, PackFiles, RemotePacks

log = logging.getLogger(__name__)

CACHE_BYTES = 96 << 20
"""Default limit of the verified chunks that are kept."""

_LOCATIONS = 1 << 16
_LOCATED_BEFORE = 512
"""So many chunks that will be read later are located together with those that are wanted."""
_REMOTE_BYTES = 32 << 20
"""How much is asked of the daemon in one call."""


class ChunkSource(Protocol):
    """What `ChunkReader` asks of the daemon (`pfsfuse.client.daemon.Daemon`)."""

    async def locate_chunks(self, hashes: list[bytes]) -> list[pfsd_pb2.ChunkLocation]:
        """Where the chunks lie, in the order asked for."""

    async def chunks(self, hashes: list[bytes]) -> list[bytes]:
        """The chunks' bytes, in the order asked for."""

    async def sign_packs(self, packs: list[str]) -> tuple[list[str], float]:
        """Addresses at which packs can be read, empty for those that can't be, and the seconds for which they hold."""


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
        self._verifying: dict[bytes, trio.Event] = {}
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

    async def part(self, chunk: Chunk, start: int, end: int, later: Iterable[Chunk]) -> bytes | memoryview:
        """Some bytes of a chunk of which the rest is probably not wanted: only what is not in a pack of this machine
        is kept. The chunks that are read `later` are located along. Raises what `get` raises.
        """
        name = chunk.hash
        while (verifying := self._verifying.get(name)) is not None:
            await verifying.wait()
        if self._packs.remote is None and not self.on_hand(name):
            data = self._part_in_place(name, start, end)
            if data is None:
                data = await self._verified_part(name, start, end, later)
            if data is not None:
                return data
        (whole,) = await self.get([chunk])
        return memoryview(whole)[start:end]

    def _part_in_place(self, name: bytes, start: int, end: int) -> bytes | None:
        """Some bytes of a chunk that was verified in its pack and is in memory there still."""
        place = self.in_place(name)
        if place is None:
            return None
        file, offset = place
        part = bytearray(end - start)
        try:
            got = os.preadv(file.fd, [part], offset + start, os.RWF_NOWAIT)
        except OSError:  # it is not in memory
            return None
        return bytes(part) if got == len(part) else None

    async def _verified_part(self, name: bytes, start: int, end: int, later: Iterable[Chunk]) -> bytes | None:
        done = self._verifying[name] = trio.Event()
        try:
            ((_, location),) = await self._locate([name], later)
            return await trio.to_thread.run_sync(
                self._packs.read_part, name, location, start, end, abandon_on_cancel=True
            )
        finally:
            del self._verifying[name]
            done.set()

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
