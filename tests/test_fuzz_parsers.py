"""Whatever text or bytes a parser is given: it gives what it is for, or raises the error that its description names.

`PFSD_FUZZ=100 pytest tests/test_fuzz_parsers.py` tries a hundred times as many, others each time.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pachproto import pps_pb2
from pfsd import clouds, entries, globs, journal, objects, paths, pfsurls, records, sizes, tree, treeobjects, varint
from pfsd.blockfiles import BLOCK_BYTES, BlockFiles, statistics
from pfsd.entries import DirEntry, FileEntry
from pfsd.errors import CorruptError, FormatError, InvalidError, NotFoundError, PfsError
from pfsd.fsck_packs import parse_row
from pfsd.kv import Database
from pfsd.packs import location
from pfsd.services import urls
from pfsd.split import Delimiter, Part, Splitter
from ppsd import codec, cron, durations, egress, quantities, schedules, spec, specjson
from ppsd.records import FORM, JobRecord, PipelineRecord, ProgressRecord
from tests.fuzzing import WEIRD, examples
from tests.memory import MemoryNodes

DEEP = 50_000
LONG = 10_000


def texts(alphabet: str, *known: str) -> st.SearchStrategy[str]:
    """Text out of these pieces, what is strange, and any other."""
    pieces = st.lists(st.sampled_from([*alphabet, *known]), max_size=30).map("".join)
    return st.one_of(pieces, pieces, st.sampled_from(WEIRD), st.text(max_size=50), st.sampled_from(known or ("",)))


def fits(parse: Callable[[Any], object], given: Any, *errors: type[Exception]) -> Any:
    """What a parser gives, or None after one of the errors that it may raise."""
    try:
        return parse(given)
    except errors:
        return None


# --- names -------------------------------------------------------------------------------------------------


@examples(300)
@given(texts("ab/.~^\0é🗎 ", "..", "//", "a" * 300))
def test_paths_and_names(text: str) -> None:
    parts = fits(paths.parse, text, InvalidError)
    if parts is not None:
        assert paths.parse(paths.join(parts)) == parts
    fits(paths.parse_file, text, InvalidError)
    fits(paths.check_repo_name, text, InvalidError)
    fits(paths.check_branch_name, text, InvalidError)
    fits(objects.parse_hash, text, NotFoundError)


@examples(200)
@given(texts("ab/.*?[]!^-{},\\", "**", "..", "[a-z]", "{a,b}", "[!", "[^", "\\*"), texts("ab/.*[]"))
def test_globs(pattern: str, name: str) -> None:
    made = fits(globs.compile, pattern, InvalidError)
    path = fits(paths.parse, name, InvalidError)
    if made is not None and path is not None:
        assert made.matches(path) in (True, False)


@examples(300)
@given(texts("ab/:@%[]?#.0", "s3://", "gs://", "http://", "https://", "pfs://", "[::1]", "\t", "//", "℀", "a@b"))
def test_addresses(text: str) -> None:
    fits(clouds.parse, text, InvalidError)
    fits(lambda url: egress.check(url, "egress.URL"), text, InvalidError)
    if not clouds.is_object(text) and "http" not in text.lower() and not pfsurls.is_pfs(text):
        fits(lambda url: asyncio.run(urls.fetch(url, lambda _: None, "127.0.0.1:1")), text, PfsError)
    fits(pfsurls.parse, text, InvalidError)


# --- amounts and times -------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["0", "1", "1.5", ".5", "1e9", "9" * 20, "9" * 400, "9" * LONG, "1" + "0" * 400, "٣", "-1"])


@examples(300)
@given(texts("0123456789.eE-+ ", "K", "Ki", "M", "G", "T", "P", "Ei", "B", "h", "m", "s", "ns", "µs", "9" * LONG))
def test_amounts(text: str) -> None:
    fits(lambda one: quantities.parse(one, "memory"), text, InvalidError)
    fits(lambda one: durations.parse(one, "timeout"), text, InvalidError)
    fits(sizes.parse, text, ValueError)


@examples(200)
@given(NUMBERS, st.sampled_from(["", "K", "Ki", "E", "Ei", "Y", "h", "s", "ns"]))
def test_large_amounts(number: str, unit: str) -> None:
    assert (fits(lambda one: quantities.parse(one, "memory"), number + unit, InvalidError) or 0) < 1 << 63
    assert (fits(lambda one: durations.parse(one, "timeout"), number + unit, InvalidError) or 0) < 1 << 63
    assert (fits(sizes.parse, number + unit, ValueError) or 0) < 1 << 63


FIELD = st.one_of(
    st.sampled_from(["*", "*/5", "0", "59", "31", "L", "l5", "*/0", "5-1", "1-5/2", "60", "-1", "jan", "mon#2", "?"]),
    st.sampled_from(
        ["1," * 5000 + "1", "9" * 500, "9" * 5000, "0-" + "9" * 5000, "*/" + "9" * 5000, "0" * 5000, "r", "h"]
    ),
    texts("0123456789*/,-#?LW", "jan", "mon"),
)
SCHEDULES = st.one_of(
    st.lists(FIELD, min_size=5, max_size=6).map(" ".join),
    st.lists(FIELD, max_size=9).map(" ".join),
    st.sampled_from(
        ["@yearly", "@hourly", "@daily", "@reboot", "@", "@every", "@every 0s", "@every 1e99h", "@midnight"]
    ),
    st.tuples(NUMBERS, st.sampled_from(["h", "s", "ns", "", "y"])).map(lambda one: f"@every {one[0]}{one[1]}"),
    texts("0123456789*/,- @", "every", "\t", "\n"),
)
TIMES_NS = st.sampled_from([0, 1, 10**9, int(1.7e18), 4 * 10**18, 9 * 10**18, schedules.LAST_NS]) | st.integers(
    0, schedules.LAST_NS
)


def checked_schedule(text: str, start_ns: int) -> schedules.Schedule:
    """A schedule that was found to be one."""
    schedules.check(text, "spec")
    return schedules.Schedule(text, start_ns)


@examples(200)
@given(SCHEDULES, TIMES_NS, TIMES_NS)
def test_schedules(text: str, start: int, after: int) -> None:
    schedule = fits(lambda one: checked_schedule(one, start), text, InvalidError)
    if schedule is None:
        return
    now = time.time_ns()
    assert schedules.next_tick(schedule, now) > now or start > now
    assert len(schedules.ticks(schedule, after, now, 5)) <= 5


@examples(200)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.from_regex(
            r"\A\"?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}T[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]{1,40})?[+-Z][0-9:]{0,6}\Z"
        ).map(str.encode),
        st.sampled_from([b'"9999-12-31T23:59:59-23:59"', b"0001-01-01T00:00:00+23:59", b"1" * LONG]),
    )
)
def test_times_of_ticks(data: bytes) -> None:
    told = cron.told_time(data)
    assert told is None or 0 <= told <= schedules.LAST_NS


# --- JSON --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(
            [10**400, -(10**400), 2**64, 1e308, "10" * 3000, "1e5", "NaN", "-0", "1h", "9" * 30 + "h", "\ud800"]
        ),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in pps_pb2.CreatePipelineRequest.DESCRIPTOR.fields]
INNER = ["name", "repo", "glob", "cmd", "stdin", "env", "cross", "union", "atom", "cron", "spec", "start", "constant"]
INNER += ["coefficient", "memory", "cpu", "gpu", "URL", "internal_port", "secrets", "accept_return_code", "from"]
OBJECTS = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(INNER), JSON, max_size=4), max_size=5
)
NUMBER_TEXTS = ("9" * LONG, "-" + "9" * LONG, "1e400", "NaN", "Infinity", "-Infinity", "0" * LONG, "1." + "9" * LONG)


def read_spec(text: str) -> None:
    """As `pachctl create-pipeline` and the service together do."""
    for request in specjson.parse_requests(text, "spec.json"):
        spec.validate(request)


@examples(300)
@given(OBJECTS, st.data())
def test_specs_as_json(fields: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(fields)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = (
            text[:at] + data.draw(st.sampled_from(['"', "{", "}", "[", "]", ",", ":", "\0", *NUMBER_TEXTS])) + text[at:]
        )
    fits(read_spec, text, InvalidError)


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        '{"a":' * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"input":' + '{"cross":[' * DEEP + "]}" * DEEP + "}",
        '{"input":' + '{"cross":[' * 300 + "]}" * 300 + "}",
        *(f'{{"pipeline": {number}}}' for number in NUMBER_TEXTS),
        *(f'{{"parallelism_spec": {{"constant": {number}}}}}' for number in NUMBER_TEXTS),
        *(f'{{"parallelism_spec": {{"constant": "{number}"}}}}' for number in NUMBER_TEXTS),
        *(f'{{"resource_spec": {{"cpu": {number}}}}}' for number in NUMBER_TEXTS),
        '{"input": {"cron": {"start": "9999-12-31T23:59:59Z"}}}',
        '{"input": {"cron": {"start": "0001-01-01T00:00:00.0000000000000000001Z"}}}',
        "\ud800",
    ],
    ids=lambda text: text[:40],
)
def test_absurd_specs(text: str) -> None:
    with pytest.raises(InvalidError):
        read_spec(text)


@examples(200)
@given(JSON, st.sampled_from([PipelineRecord, JobRecord, ProgressRecord]))
def test_kept_records(value: Any, kind: type[Any]) -> None:
    fits(lambda data: codec.load(kind, data, FORM), json.dumps(value).encode(), CorruptError, FormatError)
    fits(
        lambda data: codec.load(kind, data, FORM), json.dumps({"v": 1, "x": value}).encode(), CorruptError, FormatError
    )
    for load in (records.load_repo, records.load_commit):
        fits(load, json.dumps(value).encode(), CorruptError)


@pytest.mark.parametrize("data", [b"[" * DEEP, b'{"v":' + b"[" * DEEP, b'{"v":' + b"9" * LONG + b"}", b"\xff", b""])
def test_absurd_records(data: bytes) -> None:
    for load in (records.load_repo, records.load_commit, lambda one: codec.load(JobRecord, one, FORM)):
        with pytest.raises(CorruptError):
            load(data)


@examples(100)
@given(
    st.lists(st.one_of(st.binary(max_size=20), JSON.map(lambda one: json.dumps(one).encode()))),
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
    measured = fits(entries.measure_entry, data, CorruptError)
    if entry is not None:
        assert max(entry.size, *measured) < 1 << 64 if measured else True
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
        fits(lambda one: tree.summarize(one, entries.measure_entry), node, CorruptError)
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
