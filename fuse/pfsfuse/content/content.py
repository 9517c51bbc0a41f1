"""Everything that a mount or a worker reads from the store: nodes, directories, bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

import trio

from pachproto import pfsd_pb2
from pfsd.chunks.zeros import zero_chunk_hash
from pfsd.errors import CorruptError, PfsError
from pfsd.runtime.apart import apart
from pfsd.runtime.groups import ungrouped
from pfsd.trees import entries, tree
from pfsd.trees.entries import Chunk, DirEntry, FileEntry
from pfsd.trees.tree import Node, NodesMissing, Pair
from pfsfuse.content.beside import SMALL_BYTES, Beside, Place, small_chunk, walk
from pfsfuse.content.chunks import ChunkReader, ChunkSource
from pfsfuse.content.nodes import NodeCache, verified
from pfsfuse.content.packfiles import PackFile, PackFiles
from pfsfuse.content.remotepacks import ReadingOptions, open_remote, options_from_environment, own_directories

log = logging.getLogger(__name__)

T = TypeVar("T")

_NODES_A_CALL = 512
_ROOTS_A_CALL = 128
_LOOKED_AT = 1024
"""So many entries are looked at for directories whose nodes are worth fetching along."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """How chunks are fetched ahead of a sequential reader of a large file, in bytes."""

    near: int
    """How far ahead they are brought into memory."""
    step: int
    """How much of that at a time."""
    group: int
    """How much of that the reader gets at a time."""
    far: int = 0
    """How far ahead they are fetched from a remote store at the beginning."""
    farthest: int = 0
    """The same at most: twice as far each time something is fetched."""
    far_step: int = 0
    """How much of that at a time."""


_LOCAL = _Ahead(6 << 20, 6 << 20, 6 << 20)
_REMOTE = _Ahead(8 << 20, 4 << 20, 2 << 20, 24 << 20, 64 << 20, 8 << 20)
"""Of a remote store, more is fetched than the requests that are made at a time take, so that these are never too few
while the reader is on its way from one to the next. What is at hand early waits on the disk, not in memory."""
_NEAR_BYTES = 4 << 20
"""A read this close to where the last one ended counts as sequential: the kernel's come out of order."""
_PART_NEAR_BYTES = 256 << 10
"""The same of a small read, which the kernel, that reads ahead, seldom makes of a sequential reader."""
_STREAMS = 1024
_PART_BYTES = 64 << 10
"""A reader who jumps and asks for no more than this probably jumps again: the rest of the chunk is not kept."""


class Source(ChunkSource, Protocol):
    """What `Content` asks of the daemon (`pfsfuse.client.daemon.Daemon`)."""

    async def describe(self) -> pfsd_pb2.StoreInfo:
        """Where the store's bytes are."""

    async def nodes(self, hashes: list[bytes], use: Callable[[bytes, bytes], T]) -> list[T]:
        """`use(hash, node)` for each of the tree nodes named."""


@dataclass(slots=True)
class _Stream:
    """Sequential reads of one content."""

    far: int
    """How far ahead of it chunks are fetched from a remote store."""
    fetched: int = 0
    """Up to where they have been asked for."""
    end: int = 0
    """Where the last read ended."""
    jumped: bool = False
    """Whether the last read did not go on from the one before it."""
    passed: dict[bytes, int] = field(default_factory=dict)
    """Chunks that were read, each with the offset of its end; those first read are first."""


@asynccontextmanager
async def open_content(source: Source, options: ReadingOptions | None = None) -> AsyncIterator[Content]:
    """The content of the store behind `source`; fetches that go on at the end are cancelled.

    Without `options`, the environment says how a remote object store is read. Raises what `open_remote` raises.
    """
    info = await source.describe()
    remote = await trio.to_thread.run_sync(open_remote, info, options or options_from_environment())
    try:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                packs = PackFiles(info, remote)
                nursery.start_soon(packs.close_removed)
                yield Content(source, packs, nursery, own_directories(info, remote))
                nursery.cancel_scope.cancel()
    finally:
        if remote is not None:
            remote.close()


class Content:
    """Reads what trees refer to. Made by `open_content`; used from one trio loop.

    Every method raises CorruptError for what is lost or damaged, and UnavailableError when the daemon has
    not answered in time.
    """

    def __init__(
        self, source: Source, packs: PackFiles, nursery: trio.Nursery, directories: Sequence[str] = ()
    ) -> None:
        self.nodes = NodeCache()
        self.chunks = ChunkReader(source, packs, nursery)
        self.directories = directories
        """Those on this machine in which the store keeps what it has."""
        self._source = source
        self._ahead = _LOCAL if packs.remote is None else _REMOTE
        self._nursery = nursery
        self._fetching: dict[bytes, trio.Event] = {}
        self._streams: OrderedDict[bytes, _Stream] = OrderedDict()
        self._beside = Beside(self.nodes, self.prefetch_nodes)

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something in the background, until this is closed; what it raises is logged."""
        self._nursery.start_soon(apart, "work in the background", None, work)

    # --- nodes -------------------------------------------------------------------------------------------

    async def run(self, read: Callable[[], T]) -> T:
        """What `read` returns, which may read `self.nodes`: what is missing is fetched and `read` called
        again.
        """
        while True:
            try:
                return read()
            except NodesMissing as missing:
                wanted = missing.hashes
            await self.fetch_nodes(wanted)

    async def fetch_nodes(self, hashes: Iterable[bytes]) -> None:
        """Bring nodes into the cache; nodes that another task is fetching are waited for."""
        wanted = [name for name in dict.fromkeys(hashes) if name not in self.nodes]
        others = [self._fetching[name] for name in wanted if name in self._fetching]
        mine = [name for name in wanted if name not in self._fetching]
        done = trio.Event()
        self._fetching.update((name, done) for name in mine)
        try:
            for at in range(0, len(mine), _NODES_A_CALL):
                names = mine[at : at + _NODES_A_CALL]
                for name, (node, size) in zip(names, await self._source.nodes(names, _decode), strict=True):
                    self.nodes.add(name, node, size)
        finally:
            for name in mine:
                del self._fetching[name]
            done.set()
        for event in others:
            await event.wait()

    def prefetch_nodes(self, hashes: Iterable[bytes]) -> None:
        """Begin to fetch nodes that someone will soon ask for; failures are left to them."""
        missing = (name for name in hashes if name not in self.nodes and name not in self._fetching)
        wanted = list(islice(missing, _NODES_A_CALL))
        if wanted:
            self._nursery.start_soon(apart, "fetching ahead", None, self._try_fetch_nodes, wanted)

    async def _try_fetch_nodes(self, hashes: list[bytes]) -> None:
        try:
            await self.fetch_nodes(hashes)
        except PfsError as error:
            log.info("nodes were not fetched ahead: %s", error)

    async def page(self, root: bytes, start: bytes, limit: int, beside: Iterable[bytes] = ()) -> list[Pair]:
        """At most `limit` pairs of the tree `root`, from the key `start` on, in order.

        The leaves that follow are fetched with the first, so a listing costs few calls, and then those of the trees
        `beside`, so a walk does.
        """

        def leaves() -> list[bytes]:
            node = tree.load(self.nodes, root)
            while node.level > 1:
                index = node.find(start)
                if index == len(node.keys):
                    return []
                node = self.nodes.get(node.child(index))
            if node.level == 0:
                return []
            first = node.find(start)
            return [node.child(i) for i in range(first, min(len(node.keys), first + _NODES_A_CALL))]

        others: list[bytes] = []
        if root not in self.nodes:
            others += islice(beside, _ROOTS_A_CALL)
            await self.fetch_nodes([root, *others])
        missing = [name for name in await self.run(leaves) if name not in self.nodes]
        if missing:
            leaves_beside = (
                name for other in others or islice(beside, _ROOTS_A_CALL) for name in self._leaves_now(other)
            )
            missing += islice(leaves_beside, max(0, _NODES_A_CALL - len(missing)))
            await self.fetch_nodes(missing)
        return await self.run(lambda: self.page_now(root, start, limit))

    def page_now(self, root: bytes, start: bytes, limit: int) -> list[Pair]:
        """The same of nodes that are at hand; raises NodesMissing."""
        return list(islice(tree.items(self.nodes, root, start), limit))

    def _leaves_now(self, root: bytes) -> list[bytes]:
        """The leaves of a small tree whose root is at hand."""
        if root not in self.nodes or root == tree.EMPTY:
            return []
        node = self.nodes.get(root)
        return [node.child(i) for i in range(len(node.keys))] if node.level == 1 else []

    def following(self, place: Place) -> Iterator[bytes]:
        """The roots of the directories that a walk comes to after a place, as far as nodes are at hand."""
        entries_on = islice(walk(self.nodes, place, []), _LOOKED_AT)
        return (value[1:33] for _, value in entries_on if value[0] == 2)

    async def child(self, directory: DirEntry, name: bytes) -> bytes | None:
        """The encoded entry called `name`, or None."""
        return await self.run(lambda: tree.get(self.nodes, directory.root, name))

    async def hole(self, entry: FileEntry, offset: int) -> int:
        """Where the zeros end that the chunk list says stand at `offset`; `offset` where it says nothing."""
        at = offset
        while True:
            try:
                for start, chunk in entries.chunks_from(self.nodes, entry, at):
                    if chunk.hash != zero_chunk_hash():
                        break
                    at = start + chunk.size
                return at
            except NodesMissing as missing:
                wanted = missing.hashes
            await self.fetch_nodes(wanted)

    async def data_end(self, entry: FileEntry, offset: int) -> int:
        """Where the bytes from `offset` on end that are not known to be zeros: at a hole, or at the file's end."""

        def end() -> int:
            for start, chunk in entries.chunks_from(self.nodes, entry, offset):
                if chunk.hash == zero_chunk_hash() and start > offset:
                    return start
            return entry.size

        return await self.run(end)

    # --- bytes -------------------------------------------------------------------------------------------

    def read_now(self, entry: FileEntry, offset: int, size: int) -> bytes | memoryview | None:
        """Like `read` where all is at hand and nothing needs to be fetched ahead, else None."""
        if len(entry.chunks) != 1:
            return b"" if offset >= entry.size else None
        data = self.chunks.peek(entry.chunks[0].hash)
        return None if data is None else _part(data, offset, min(offset + size, entry.size))

    def small_now(self, value: bytes) -> bytes | None:
        """All of a file that is one chunk at hand, given its encoded entry."""
        chunk = small_chunk(value)
        return None if chunk is None else self.chunks.peek(chunk.hash)

    async def read(
        self,
        entry: FileEntry,
        offset: int,
        size: int,
        place: Place | None = None,
        offer: Callable[[Place, bytes], None] | None = None,
    ) -> bytes | memoryview:
        """`size` bytes of a file from `offset` on, fewer at its end.

        With `place`, small files that follow it are fetched along; all that came of them is given to `offer`.
        """
        along: list[tuple[Place, Chunk]] = []
        end = min(offset + size, entry.size)
        if offset >= end:
            return b""
        stream = self._sequential(entry, offset, end)
        ahead_to = end if stream is None else end + self._ahead.near

        def covering() -> list[tuple[int, Chunk]]:
            found = []
            for start, chunk in entries.chunks_from(self.nodes, entry, offset):
                if start >= ahead_to:
                    break
                found.append((start, chunk))
            return found

        covered = await self.run(covering)
        needed = [item for item in covered if item[0] < end]
        if not needed or needed[-1][0] + needed[-1][1].size < end:
            raise CorruptError(f"a file's chunks end before its {entry.size} bytes do")
        if stream is not None:
            if self._is_due(covered, end):
                self.chunks.prefetch((chunk for _, chunk in covered), self._later(entry, ahead_to), self._ahead.group)
            self._fetch_far(stream, entry, end)
        elif place is not None and entry.size <= SMALL_BYTES and not self.chunks.on_hand(needed[0][1].hash):
            along, later = self._beside.along(place)
            self.chunks.prefetch([needed[0][1], *(chunk for _, chunk in along)], later)
        elif entry.chunk_count > 1 and end - offset <= _PART_BYTES:
            return await self._read_parts(entry, needed, offset, end)
        data = await self.chunks.get([chunk for _, chunk in needed])
        if offer is not None:
            self._offer(along, offer)
        if stream is not None:
            self._let_go(stream, needed, offset)
        parts = [
            _part(part, max(offset - start, 0), end - start) for (start, _), part in zip(needed, data, strict=True)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_parts(
        self, entry: FileEntry, needed: Iterable[tuple[int, Chunk]], offset: int, end: int
    ) -> bytes | memoryview:
        """What a reader who jumps about wants of some chunks."""
        parts = [
            await self.chunks.part(
                chunk, max(offset - start, 0), min(end - start, chunk.size), self._later(entry, start + chunk.size)
            )
            for start, chunk in needed
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _offer(self, along: Iterable[tuple[Place, Chunk]], offer: Callable[[Place, bytes], None]) -> None:
        for at, chunk in along:
            data = self.chunks.peek(chunk.hash)
            if data is not None:
                offer(at, data)

    def in_place(self, entry: FileEntry, offset: int) -> tuple[int, int, PackFile, int] | None:
        """Where a read that has just been answered can be answered again by reading a pack of this machine.

        Gives the start and the size of the chunk at `offset`, the pack in which it was verified, and where in it. Not
        for small files, which the kernel keeps whole, and not for a reader who goes on and on: chunks are fetched
        ahead of it as it asks for them.
        """
        if entry.size <= SMALL_BYTES or offset >= entry.size:
            return None
        if entry.chunk_count != 1:
            stream = self._streams.get(entry.chunk_root or entry.chunks[0].hash)
            if stream is None or not stream.jumped:
                return None
        try:
            start, chunk = next(iter(entries.chunks_from(self.nodes, entry, offset)))
        except NodesMissing:
            return None
        found = self.chunks.in_place(chunk.hash)
        return None if found is None else (start, chunk.size, *found)

    def _fetch_far(self, stream: _Stream, entry: FileEntry, end: int) -> None:
        """Have what lies far ahead of a reader fetched from a remote store, if enough of it has not been yet."""
        if not end <= stream.fetched <= end + 2 * stream.far:  # it has jumped
            stream.fetched = end
        ahead_to = end + stream.far
        if stream.fetched >= entry.size or not ahead_to - stream.fetched >= self._ahead.far_step > 0:
            return
        found: list[Chunk] = []
        try:
            for start, chunk in entries.chunks_from(self.nodes, entry, stream.fetched):
                if start >= ahead_to:
                    break
                found.append(chunk)
                stream.fetched = start + chunk.size
        except NodesMissing as missing:  # the next read goes on from there
            self.prefetch_nodes(missing.hashes)
        else:
            stream.far = min(2 * stream.far, self._ahead.farthest)
        self.chunks.announce(found)

    def _is_due(self, covered: list[tuple[int, Chunk]], end: int) -> bool:
        """Whether so much is not at hand of the chunks ahead of `end` that it should be asked for."""
        ahead = [chunk for start, chunk in covered if start >= end]
        cold = [chunk.size for chunk in ahead if not self.chunks.on_hand(chunk.hash)]
        return bool(cold) and (2 * len(cold) >= len(ahead) or sum(cold) >= self._ahead.step)

    def _sequential(self, entry: FileEntry, offset: int, end: int) -> _Stream | None:
        """The reads of the same content that this one goes on from; remembers it."""
        if entry.chunk_count == 1:
            return None
        key = entry.chunk_root or entry.chunks[0].hash
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(self._ahead.far)
        near = abs(offset - stream.end) <= (_NEAR_BYTES if end - offset > _PART_BYTES else _PART_NEAR_BYTES)
        stream.jumped = not near
        stream.end = end
        self._streams.move_to_end(key)
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        return stream if near else None

    def _later(self, entry: FileEntry, offset: int) -> Iterator[Chunk]:
        """The chunks from `offset` on, as far as nodes are at hand."""
        try:
            for _, chunk in entries.chunks_from(self.nodes, entry, offset):
                yield chunk
        except NodesMissing:
            return

    def _let_go(self, stream: _Stream, read: list[tuple[int, Chunk]], offset: int) -> None:
        """Drop the chunks that a sequential reader has left well behind: the kernel has their pages, and memory
        that is used again at once is fast.
        """
        stream.passed.update((chunk.hash, start + chunk.size) for start, chunk in read)
        for name, end in list(stream.passed.items()):
            if end > offset - _NEAR_BYTES:
                break
            del stream.passed[name]
            self.chunks.drop(name)


def _decode(name: bytes, data: bytes) -> tuple[Node, int]:
    return verified(name, data), len(data)


def _part(data: bytes, start: int, end: int) -> bytes | memoryview:
    if start <= 0 and end >= len(data):
        return data
    return memoryview(data)[max(start, 0) : end]
