"""What a mount reads from the store, over a store in memory: fetching, keeping, reading ahead, damage."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest
import trio
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pfsd_pb2
from pfsd.errors import CorruptError
from pfsd.objectstores.blockcache import BlockCache
from pfsd.trees import entries, tree, writing
from pfsd.trees.entries import Chunk, FileEntry
from pfsd.trees.tree import Node
from pfsfuse.content import content as content_module
from pfsfuse.content.beside import Place
from pfsfuse.content.content import Content, open_content
from pfsfuse.content.nodes import NodeCache, verified
from pfsfuse.content.packfiles import Location, PackFiles
from pfsfuse.content.remotepacks import RemotePacks
from pfsfuse.kernel.inodes import ROOT, Inode, InodeTable

T = TypeVar("T")


class MemoryStore:
    """Nodes in a dict and chunks in one pack, served like a daemon does; counts the calls."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.data: dict[bytes, bytes] = {}
        self.chunk_data: dict[bytes, bytes] = {}
        self.places: dict[bytes, pfsd_pb2.ChunkLocation] = {}
        self.pack = "ab" * 16
        self.pack_bytes = b"PFSPACK1"
        self.calls: list[tuple[str, int]] = []

    # a NodeStore
    def get(self, node_hash: bytes) -> Node:
        return tree.decode_node(self.data[node_hash])

    def put(self, node_hash: bytes, data: bytes) -> None:
        self.data[node_hash] = data

    def chunk(self, data: bytes) -> Chunk:
        name = blake3(data).digest()
        self.chunk_data[name] = data
        self.pack_bytes += b"\0" * 40
        self.places[name] = pfsd_pb2.ChunkLocation(pack=self.pack, offset=len(self.pack_bytes), size=len(data))
        self.pack_bytes += data
        return Chunk(name, len(data))

    def file(self, *parts: bytes) -> FileEntry:
        return entries.file_entry(self, [self.chunk(part) for part in parts])

    def directory_of(self, files: dict[str, FileEntry]) -> bytes:
        pairs = sorted((name.encode(), entries.encode(entry)) for name, entry in files.items())
        return writing.build(self, pairs, entries.MEASURE)

    def write_pack(self, spool: bool = False) -> pathlib.Path:
        path = self.directory / ("spool" if spool else f"objects/packs/{self.pack[:2]}") / self.pack
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.pack_bytes)
        return path

    # a Source
    async def describe(self) -> pfsd_pb2.StoreInfo:
        return pfsd_pb2.StoreInfo(
            object_store=(self.directory / "objects").as_uri(), spool=str(self.directory / "spool")
        )

    async def nodes(self, hashes: list[bytes], use: Callable[[bytes, bytes], T]) -> list[T]:
        self.calls.append(("nodes", len(hashes)))
        await trio.lowlevel.checkpoint()
        return [use(name, self.data[name]) for name in hashes]

    async def locate_chunks(self, hashes: list[bytes]) -> list[pfsd_pb2.ChunkLocation]:
        self.calls.append(("locate", len(hashes)))
        await trio.lowlevel.checkpoint()
        return [self.places[name] for name in hashes]

    async def sign_packs(self, packs: list[str]) -> tuple[list[str], float]:
        return ["" for _ in packs], 0.0

    async def chunks(self, hashes: list[bytes]) -> list[bytes]:
        self.calls.append(("chunks", len(hashes)))
        await trio.lowlevel.checkpoint()
        return [self.chunk_data[name] for name in hashes]

    def count(self, kind: str) -> int:
        return sum(1 for name, _ in self.calls if name == kind)


@pytest.fixture
def store(tmp_path: pathlib.Path) -> MemoryStore:
    return MemoryStore(tmp_path)


def using(store: MemoryStore, test: Callable[[Content], object]) -> None:
    """Run the coroutine function `test` over the store's content."""

    async def run() -> None:
        async with open_content(store) as content:
            with trio.fail_after(30):
                await test(content)  # type: ignore[misc]

    trio.run(run)


def listing(count: int) -> dict[str, FileEntry]:
    return {f"{number:06}": FileEntry(number, (), b"r" * 32, 9) for number in range(count)}


# --- nodes -----------------------------------------------------------------------------------------------------


def test_a_listing_fetches_leaves_by_the_hundred(store: MemoryStore) -> None:
    files = listing(20_000)
    root = store.directory_of(files)

    async def test(content: Content) -> None:
        names: list[bytes] = []
        while page := await content.page(root, names[-1] + b"\0" if names else b"", 1000):
            assert len(page) <= 1000
            names += [key for key, _ in page]
        assert names == [name.encode() for name in files]
        assert store.count("nodes") < 12
        before = len(store.calls)
        assert await content.child(entries.DirEntry(root), b"000777") == entries.encode(files["000777"])
        assert await content.child(entries.DirEntry(root), b"nope") is None
        assert len(store.calls) == before

    using(store, test)


def test_readers_of_the_same_missing_node_share_one_call(store: MemoryStore) -> None:
    root = store.directory_of({"a": store.file(b"x")})

    async def test(content: Content) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(content.page, root, b"", 10)
        assert store.calls == [("nodes", 1)]

    using(store, test)


def test_a_node_that_does_not_match_its_hash_is_refused(store: MemoryStore) -> None:
    root = store.directory_of({"a": store.file(b"x")})
    store.data[root] = tree.encode_node(Node(0, [b"b"], [entries.encode(entries.EMPTY_FILE)]))

    async def test(content: Content) -> None:
        with pytest.raises(CorruptError, match="does not match its hash"):
            await content.page(root, b"", 10)

    using(store, test)


def test_the_node_cache_stays_within_its_limit_and_drops_the_oldest() -> None:
    cache = NodeCache(limit=20_000)
    names = []
    for number in range(100):
        data = tree.encode_node(Node(0, [b"%d" % number], [b"v" * 1000]))
        names.append(tree.node_hash(data))
        cache.add(names[-1], verified(names[-1], data), len(data))
        cache.get(names[0])
        assert cache.held <= 20_000
    assert names[0] in cache
    assert names[-1] in cache
    assert names[1] not in cache


# --- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["objects", "spool", "nowhere"])
def test_bytes_come_from_the_pack_or_else_from_the_daemon(store: MemoryStore, where: str) -> None:
    rng = random.Random(1)
    parts = [rng.randbytes(rng.randrange(1, 5000)) for _ in range(40)]
    entry, whole = store.file(*parts), b"".join(parts)
    if where != "nowhere":
        store.write_pack(spool=where == "spool")

    async def test(content: Content) -> None:
        for _ in range(100):
            offset, size = rng.randrange(len(whole) + 100), rng.randrange(1, 20_000)
            assert bytes(await content.read(entry, offset, size)) == whole[offset : offset + size]
        assert (store.count("chunks") > 0) == (where == "nowhere")

    using(store, test)


def test_a_pack_that_moves_or_vanishes_is_read_where_it_is(store: MemoryStore) -> None:
    parts = [bytes([number]) * 200_000 for number in range(5)]
    files = [store.file(part) for part in parts]
    path = store.write_pack(spool=True)

    async def test(content: Content) -> None:
        assert bytes(await content.read(files[0], 0, 10)) == parts[0][:10]
        store.write_pack()
        path.unlink()
        assert bytes(await content.read(files[1], 0, 10)) == parts[1][:10]
        assert store.count("chunks") == 0

    using(store, test)


def test_a_damaged_pack_is_noticed_and_the_daemon_asked(store: MemoryStore) -> None:
    entry = store.file(b"good bytes")
    store.pack_bytes = store.pack_bytes.replace(b"good", b"evil")
    store.write_pack()

    async def test(content: Content) -> None:
        assert bytes(await content.read(entry, 0, 100)) == b"good bytes"
        assert store.count("chunks") == 1

    using(store, test)


def test_damage_everywhere_is_an_error_and_heals_with_the_store(store: MemoryStore) -> None:
    entry = store.file(b"good bytes")
    store.chunk_data[entry.chunks[0].hash] = b"evil bytes"

    async def test(content: Content) -> None:
        with pytest.raises(CorruptError, match="does not match its hash"):
            await content.read(entry, 0, 100)
        store.write_pack()
        assert bytes(await content.read(entry, 0, 100)) == b"good bytes"

    using(store, test)


def test_readers_of_one_cold_chunk_share_its_fetch_and_outlive_a_cancelled_one(store: MemoryStore) -> None:
    entry = store.file(b"x" * 100_000, b"y")

    async def test(content: Content) -> None:
        with trio.CancelScope() as first:
            first.cancel()
            await content.read(entry, 0, 10)
        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(content.read, entry, 0, 10)
        assert store.count("locate") <= 2
        assert sum(count for kind, count in store.calls if kind == "chunks") == 2

    using(store, test)


def test_a_sequential_reader_finds_the_next_chunks_fetched_already(store: MemoryStore) -> None:
    parts = [bytes([number]) * (1 << 20) for number in range(20)]
    entry = store.file(*parts)
    store.write_pack()

    async def test(content: Content) -> None:
        waits = 0
        for offset in range(0, entry.size, 1 << 18):
            chunk = await content.run(lambda at=offset: next(entries.chunks_from(content.nodes, entry, at)))  # type: ignore[misc]
            waits += not content.chunks.on_hand(chunk[1].hash)
            assert (await content.read(entry, offset, 1 << 18))[0] == chunk[0] >> 20
        assert waits == 1
        assert store.count("locate") < 15

    using(store, test)


def test_small_files_of_a_directory_come_together(store: MemoryStore) -> None:
    data = {f"{number:04}": b"%d" % number for number in range(2000)}
    root = store.directory_of({name: store.file(part) for name, part in data.items()})
    store.write_pack()

    async def test(content: Content) -> None:
        for name, part in data.items():
            value = await content.child(entries.DirEntry(root), name.encode())
            assert value is not None
            entry = entries.decode(value)
            assert isinstance(entry, FileEntry)
            found = content.read_now(entry, 0, 100)
            if found is None:
                found = await content.read(entry, 0, 100, Place(root, name.encode()))
            assert found == part
        assert store.count("locate") < 40

    using(store, test)


class _Pack:
    """A store in memory as a source of blocks."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        return self._store.pack_bytes[offset : offset + size]

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        data = self.read_fresh(name, offset, size)
        for at in range(0, len(data), piece):
            take(data[at : at + piece])


def test_a_remote_store_is_read_far_ahead_over_all_of_a_large_file(
    store: MemoryStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 1 << 20
    parts = [random.Random(number).randbytes(mib // 16) for number in range(800)]
    entry = store.file(*parts)
    assert entry.chunk_root is not None
    assert len(store.data) > 4  # the list of chunks is a tree, whose leaves come one after the other
    monkeypatch.setattr(
        content_module, "_REMOTE", content_module._Ahead(mib, mib // 2, mib // 4, 4 * mib, 8 * mib, mib)
    )
    starts = {chunk.hash: start for start, chunk in entries.chunks_from(store, entry)}
    remote = RemotePacks(_Pack(store), BlockCache(tmp_path / "cache"), is_signed=False)
    farthest = 0

    async def test() -> None:
        async with trio.open_nursery() as nursery:
            content = Content(store, PackFiles(pfsd_pb2.StoreInfo(object_store="s3://bucket/x"), remote), nursery)
            begin = content.chunks.announce

            def announce(chunks: Iterable[Chunk]) -> None:
                nonlocal farthest
                named = list(chunks)
                farthest = max([farthest, *(starts[chunk.hash] + chunk.size for chunk in named)])
                begin(named)

            monkeypatch.setattr(content.chunks, "announce", announce)
            whole = b"".join(parts)
            for offset in range(0, entry.size, mib // 8):
                assert await content.read(entry, offset, mib // 8) == whole[offset : offset + mib // 8]
                assert farthest >= min(entry.size, offset + 2 * mib)
            nursery.cancel_scope.cancel()

    trio.run(test)
    remote.close()
    assert store.count("chunks") == 0


def test_the_chunk_cache_stays_within_its_limit(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = store.file(*(random.Random(number).randbytes(100_000) for number in range(50)))
    store.write_pack()
    monkeypatch.setattr(content_module, "_LOCAL", content_module._Ahead(0, 0, 1, 1))

    async def test(content: Content) -> None:
        content.chunks._limit = 1_000_000
        for offset in range(0, entry.size, 50_000):
            await content.read(entry, offset, 50_000)
            assert content.chunks.held <= 1_000_000

    using(store, test)


def test_open_packs_are_bounded(store: MemoryStore, tmp_path: pathlib.Path) -> None:
    packs = PackFiles(pfsd_pb2.StoreInfo(object_store="s3://bucket/x", spool=str(tmp_path)))
    before = len(list(pathlib.Path("/proc/self/fd").iterdir()))
    for number in range(100):
        entry = store.file(b"%d" % number)
        name = f"{number:032x}"
        (tmp_path / name).write_bytes(store.pack_bytes)
        place = store.places[entry.chunks[0].hash]
        found = packs.read([(entry.chunks[0].hash, Location(name, place.offset, place.size))])
        assert found == {entry.chunks[0].hash: b"%d" % number}
    assert len(list(pathlib.Path("/proc/self/fd").iterdir())) - before <= 64


# --- inodes and names ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.booleans()), max_size=40))
def test_the_inode_table_holds_what_the_kernel_refers_to(steps: list[tuple[str, bool]]) -> None:
    root = Inode(None, b"", None, b"\x02")
    table = InodeTable(root)
    held: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for name, forget in steps:
        inode = table.settle(Inode(root, name.encode(), None, b"\x02"))
        assert numbers.setdefault(name, inode.ino) == inode.ino > ROOT
        if forget and held.get(name):
            table.forget(inode.ino, held.pop(name))
        elif not forget:
            table.remember(inode)
            held[name] = held.get(name, 0) + 1
    assert len(table) == 1 + len(held)
    assert len(set(numbers.values())) == len(numbers)
    table.forget(ROOT, 1)
    assert table[ROOT] is root


def test_inodes_whose_numbers_collide_are_kept_apart() -> None:
    root = Inode(None, b"", None, b"\x02")
    table = InodeTable(root)
    first = table.settle(Inode(root, b"a", None, b"\x02"))
    wanted = table.settle(Inode(root, b"b", None, b"\x02")).ino
    first.ino = wanted
    table.remember(first)
    second = table.settle(Inode(root, b"b", None, b"\x02"))
    assert second.ino != wanted
    table.remember(second)
    assert (table[wanted].name, table[second.ino].name) == (b"a", b"b")


def test_small_files_come_together_over_many_small_directories(store: MemoryStore) -> None:
    data = {f"{number:04}": b"%d" % number for number in range(600)}
    pairs: list[tuple[bytes, bytes]] = []
    for at in range(0, 600, 3):
        inner = {name: store.file(data[name]) for name in list(data)[at : at + 3]}
        pairs.append((b"d%04d" % at, entries.encode(entries.DirEntry(store.directory_of(inner)))))
    top = writing.build(store, pairs, entries.MEASURE)
    store.write_pack()

    async def test(content: Content) -> None:
        directories = await content.page(top, b"", 1000)
        await content.fetch_nodes(value[1:33] for _, value in directories)
        for directory, encoded in directories:
            root = encoded[1:33]
            for name, value in await content.page(root, b"", 1000):
                entry = entries.decode(value)
                assert isinstance(entry, FileEntry)
                found = content.read_now(entry, 0, 100)
                if found is None:
                    found = await content.read(entry, 0, 100, Place(root, name, Place(top, directory)))
                assert found == data[name.decode()]
        assert store.count("locate") < 10

    using(store, test)
