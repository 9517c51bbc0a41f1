"""What lies on disks, what trees refer to, and what C reads: whatever bytes come, they are understood or refused.

`tests/sanitize.sh` runs these tests with the C code under sanitizers. `PFSD_FUZZ=100` tries a hundred times as many.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pfsd.chunks.split import Delimiter, Part, Splitter
from pfsd.errors import CorruptError, InvalidError
from pfsd.local import journal
from pfsd.local.kv import Database
from pfsd.local.packs import MAGIC, RECORD, growing_packs, location, scan, sealed_name
from pfsd.model import treeobjects
from pfsd.names import paths
from pfsd.objectstores.blockfiles import BLOCK_BYTES, BlockFiles, statistics
from pfsd.trees import entries, globs, tree, varint
from pfsd.trees.entries import DirEntry, FileEntry
from pfsd.upkeep.checks.packs import parse_row
from tests.support.fuzzing import examples, fits, texts
from tests.support.memory import MemoryNodes

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
JSON_PIECES = JSON_VALUES.map(lambda one: json.dumps(one).encode())


@examples(200)
@given(texts("ab/.*?[]!^-{},\\", "**", "..", "[a-z]", "{a,b}", "[!", "[^", "\\*"), texts("ab/.*[]"))
def test_globs(pattern: str, name: str) -> None:
    made = fits(globs.compile, pattern, InvalidError)
    path = fits(paths.parse, name, InvalidError)
    if made is not None and path is not None:
        assert made.matches(path) in (True, False)


@examples(100)
@given(
    st.lists(st.binary(max_size=20) | JSON_PIECES),
    st.sampled_from([Delimiter.JSON, Delimiter.LINE]),
    st.sampled_from([0, 1, 2, 2**62]),
    st.sampled_from([0, 1, 100, 2**62]),
)
def test_splitting(pieces: list[bytes], delimiter: Delimiter, datums: int, size: int) -> None:
    splitter = Splitter(delimiter, datums, size)

    def run(given: list[bytes]) -> list[Part]:
        return [file for data in given for file in splitter.write(data)] + list(splitter.finish())

    fits(run, pieces, InvalidError)


# --- what lies on disks ------------------------------------------------------------------------------------


def damaged(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes of this kind with some changed, cut off, or others between; and just bytes."""

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(valid))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(data)))
            data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.just(b"\xff" * 11))
        return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)

    return st.one_of(draw(), draw(), st.binary(max_size=80))


HASHES = st.binary(min_size=32, max_size=32)
SMALL = st.integers(0, 300)
CHUNKS = st.builds(entries.Chunk, HASHES, st.integers(1, 2**22))
ENTRIES = st.one_of(
    st.lists(CHUNKS, max_size=8).map(
        lambda found: FileEntry(sum(c.size for c in found), tuple(found), None, len(found))
    ),
    st.builds(lambda size, root, count: FileEntry(size, (), root, count), SMALL, HASHES, SMALL),
    st.builds(DirEntry, HASHES, SMALL, SMALL, SMALL),
)
NODES = st.builds(
    lambda level, pairs: tree.encode_node(tree.Node(level, sorted(pairs), list(pairs.values()))),
    st.integers(0, 3),
    st.dictionaries(st.binary(max_size=9), st.one_of(ENTRIES.map(entries.encode), HASHES, st.binary(max_size=40))),
)


@examples(500)
@given(damaged(ENTRIES.map(entries.encode)))
def test_entries(data: bytes) -> None:
    entry = fits(entries.decode, data, CorruptError)
    measured = fits(entries.MEASURE.sums, data, CorruptError)
    if entry is not None:
        assert measured is None or max(entry.size, *measured[:4]) < 1 << 64
        assert entries.decode(entries.encode(entry)) == entry
        assert len(entries.content_hash(entry)) == 32
    fits(lambda one: varint.decode(one, 0), data, IndexError, CorruptError)
    fits(lambda one: treeobjects.parse(one, "object"), data, InvalidError)


@examples(500)
@given(damaged(NODES))
def test_tree_nodes(data: bytes) -> None:
    node = fits(tree.decode_node, data, CorruptError)
    if node is not None:
        assert fits(tree.encode_node, node) is not None
        fits(lambda one: tree.summarize(one, entries.MEASURE), node, CorruptError)
        if node.level:
            fits(lambda one: [tree.decode_summary(value) for value in one.values], node, CorruptError)


@examples(300)
@given(st.lists(damaged(NODES), min_size=1, max_size=4), st.integers(0, 2**62), st.data())
def test_trees_of_damaged_nodes(found: list[bytes], offset: int, data: st.DataObject) -> None:
    """A tree that refers to nodes which are not what they should be: chunk lists, directories, summaries."""
    nodes = MemoryNodes()
    names = [tree.node_hash(node) for node in found]
    for name, node in zip(names, found, strict=True):
        nodes.put(name, node)
    pairs = [(b"%d" % i, name + b"\1\1\1") for i, name in enumerate(names)]
    top = tree.encode_node(tree.Node(1, [key for key, _ in pairs], [value for _, value in pairs]))
    root = tree.node_hash(top)
    nodes.put(root, top)
    at = data.draw(st.sampled_from([root, *names]))
    fits(lambda one: list(tree.items(nodes, one)), at, CorruptError)
    fits(lambda one: list(tree.descending(nodes, one)), at, CorruptError)
    fits(lambda one: tree.get(nodes, one, b"a"), at, CorruptError)
    fits(lambda one: entries.dir_entry(nodes, one), at, CorruptError)
    fits(lambda one: list(entries.chunks_from(nodes, FileEntry(9, (), one, 9), offset)), at, CorruptError)
    fits(lambda one: list(globs.compile("**").walk(nodes, DirEntry(one))), at, CorruptError)
    fits(lambda one: list(globs.compile("*").changes(nodes, DirEntry(one), DirEntry(names[0]))), at, CorruptError)


@examples(200)
@given(st.binary(max_size=60))
def test_index_rows(row: bytes) -> None:
    at = parse_row(row)
    if at is not None:
        assert location(row) == at


@st.composite
def packs(draw: st.DrawFn) -> bytes:
    found = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    return MAGIC + b"".join(RECORD.pack(blake3(data).digest(), len(data), 0) + data for data in found)


@examples(200)
@given(damaged(packs()), st.text(max_size=20) | st.just("packs/ab/" + "ab" * 16))
def test_packs(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    """What is given of a damaged pack is what its hash says; what else lies beside packs is no pack."""
    spool = tmp_path_factory.mktemp("spool")
    (spool / ("cd" * 16)).write_bytes(data)
    (spool / "stray").write_bytes(data)
    assert [path.name for path in growing_packs(spool)] == ["cd" * 16]
    assert sealed_name(name) in (None, name[-32:])
    with (spool / ("cd" * 16)).open("rb") as file:
        assert all(blake3(chunk).digest() == found for found, _, chunk in scan(file.fileno()))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, pathlib.Path]]:
    where = tmp_path_factory.mktemp("rows")
    (where / "spool").mkdir()
    database = Database(where / "db")
    yield database, where / "spool"
    database.close()


@examples(100)
@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=20))))
def test_journals(rows: tuple[Database, pathlib.Path], found: list[tuple[bytes, bytes]]) -> None:
    """Rows that are not the journal's, of packs that are there and that are not."""
    database, spool = rows
    pack = b"\1" * 16
    (spool / pack.hex()).write_bytes(b"PFSPACK1")
    batch = database.batch()
    for key, data in found:
        batch.put("journal", pack + key if len(key) % 2 else key, data)
    database.write(batch)
    fits(lambda one: journal.restore(one, spool), database, CorruptError)
    database.write(_emptied(database))


def _emptied(database: Database) -> Any:
    batch = database.batch()
    for key, _ in database.scan("journal", b""):
        batch.delete("journal", key)
    return batch


@examples(60)
@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=200))
def test_block_caches(tmp_path_factory: pytest.TempPathFactory, state: bytes, locks: bytes, block: bytes) -> None:
    """A directory whose files anybody may have changed."""
    where = tmp_path_factory.mktemp("cache")
    pack = "ab" * 16
    (where / "ab").mkdir()
    (where / "state").write_bytes(state)
    (where / "locks").write_bytes(locks)
    (where / "ab" / f"{pack}.0").write_bytes(block)
    (where / "ab" / "stray").write_bytes(block)
    fits(statistics, where, InvalidError)
    files = fits(lambda one: BlockFiles(one, BLOCK_BYTES), where, InvalidError)
    if files is not None:
        assert files.part(f"packs/ab/{pack}", 0, 0, 300) is None
        files.count(hits=1, bytes=5)
        files.write_counters()
        files.store(f"packs/ab/{pack}", 1, b"data")
        assert files.part(f"packs/ab/{pack}", 1, 0, 4) in (b"data", None)  # it may have to make room at once
