"""Search trees: history independence, against a plain dict."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfsd import _core
from pfsd.errors import CorruptError
from pfsd.trees import tree, writing
from tests.support.memory import MemoryNodes

KEYS = st.integers(0, 3000).map(lambda number: b"key %d" % number)
VALUES = st.integers(1, 5).map(lambda number: bytes([number]))
CHANGES = st.dictionaries(KEYS, st.none() | VALUES, max_size=300)


def _sums(value: bytes) -> tree.Summary:
    return tree.Summary(value[0], 1, 0)


measure = tree.Measure(_sums)


def filled(count: int, seed: int = 0) -> dict[bytes, bytes]:
    chosen = random.Random(seed)
    return {b"key %d" % chosen.randrange(3000): bytes([chosen.randrange(1, 6)]) for _ in range(count)}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2500), st.lists(CHANGES, max_size=4))
def test_any_history_gives_the_tree_built_from_scratch(size: int, steps: list[dict[bytes, bytes | None]]) -> None:
    nodes = MemoryNodes()
    model = filled(size)
    root = writing.build(nodes, sorted(model.items()), measure)
    for step in steps:
        root = writing.update(nodes, root, sorted(step.items()), measure)
        for key, value in step.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
    assert list(tree.items(nodes, root)) == sorted(model.items())
    assert root == writing.build(MemoryNodes(), sorted(model.items()), measure)
    total = sum(value[0] for value in model.values())
    assert tree.summarize(tree.load(nodes, root), measure) == tree.Summary(total, len(model), 0)


def ending() -> list[bytes]:
    """Names of which many end runs, of up to three levels, so that small trees have every shape."""
    names = [b"name %d" % number for number in range(300_000)]
    ranks = {name: _core.rank(name) for name in names}
    return [name for rank, most in ((0, 12), (1, 24), (2, 8), (3, 3)) for name in _with(ranks, rank)[:most]]


def _with(ranks: dict[bytes, int], rank: int) -> list[bytes]:
    return [name for name, its in ranks.items() if its == rank]


ENDING = st.dictionaries(st.sampled_from(ending()), st.none() | VALUES, max_size=12)


@settings(max_examples=500, deadline=None)
@given(st.lists(ENDING, max_size=6))
def test_any_history_of_names_that_end_runs_gives_the_tree_built_from_scratch(
    steps: list[dict[bytes, bytes | None]],
) -> None:
    nodes = MemoryNodes()
    model: dict[bytes, bytes] = {}
    root = tree.EMPTY
    for step in steps:
        root = writing.update(nodes, root, sorted(step.items()), measure)
        model |= {key: value for key, value in step.items() if value is not None}
        model = {key: value for key, value in model.items() if step.get(key, value) is not None}
        assert dict(tree.items(nodes, root)) == model
        assert root == writing.build(MemoryNodes(), sorted(model.items()), measure)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2500), CHANGES, st.booleans())
def test_difference_is_that_of_the_dicts(size: int, step: dict[bytes, bytes | None], swap: bool) -> None:
    nodes = MemoryNodes()
    old = filled(size)
    new = {key: value for key, value in (old | step).items() if value is not None}
    if swap:
        old, new = new, old
    roots = [writing.build(nodes, sorted(model.items()), measure) for model in (old, new)]
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    assert list(tree.diff(nodes, *roots)) == [(key, old.get(key), new.get(key)) for key in keys]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), KEYS)
def test_lookup_and_scan_from_a_key(size: int, key: bytes) -> None:
    nodes = MemoryNodes()
    model = filled(size)
    root = writing.build(nodes, sorted(model.items()), measure)
    assert tree.get(nodes, root, key) == model.get(key)
    assert list(tree.items(nodes, root, key)) == sorted(pair for pair in model.items() if pair[0] >= key)


def test_a_change_touches_few_nodes_and_a_difference_reads_few() -> None:
    nodes = MemoryNodes()
    model = {b"%08d" % number: b"\x01" for number in range(100_000)}
    root = writing.build(nodes, sorted(model.items()), measure)
    nodes.reads = nodes.writes = 0
    changed = writing.update(nodes, root, [(b"00050000", b"\x02")], measure)
    assert nodes.writes <= 4
    assert nodes.reads <= 12
    nodes.reads = 0
    assert list(tree.diff(nodes, root, changed)) == [(b"00050000", b"\x01", b"\x02")]
    assert nodes.reads <= 12


def test_removing_everything_gives_the_empty_tree() -> None:
    nodes = MemoryNodes()
    keys = [b"%05d" % number for number in range(5000)]
    root = writing.build(nodes, [(key, b"\x01") for key in keys], measure)
    assert writing.update(nodes, root, [(key, None) for key in keys], measure) == tree.EMPTY
    assert writing.update(nodes, root, [(b"not there", None)], measure) == root


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1500), st.none() | KEYS)
def test_a_scan_downwards_and_the_last_key_below_a_bound(size: int, below: bytes | None) -> None:
    nodes = MemoryNodes()
    model = filled(size)
    root = writing.build(nodes, sorted(model.items()), measure)
    expected = sorted((pair for pair in model.items() if below is None or pair[0] < below), reverse=True)
    assert list(tree.descending(nodes, root, below)) == expected
    assert tree.last(nodes, root, below) == (expected[0] if expected else None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2500), CHANGES, st.integers(1, 50))
def test_runs_of_any_length_make_the_same_tree(size: int, step: dict[bytes, bytes | None], length: int) -> None:
    nodes = MemoryNodes()
    root = writing.build(nodes, sorted(filled(size).items()), measure)
    mutations = sorted(step.items())
    changes = writing.Update(nodes, root, measure)
    for start in range(0, len(mutations), length):
        changes.apply(mutations[start : start + length])
    changed, sums = changes.finish()
    assert changed == writing.update(nodes, root, mutations, measure)
    assert sums == tree.summarize(tree.load(nodes, changed), measure)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2500), st.dictionaries(KEYS, VALUES, max_size=300), st.booleans())
def test_a_merge_is_that_of_the_dicts(size: int, other: dict[bytes, bytes], swap: bool) -> None:
    nodes = MemoryNodes()
    one = filled(size)
    if swap:
        one, other = other, one
    first_root, second_root = (writing.build(nodes, sorted(model.items()), measure) for model in (one, other))
    expected = other | one
    for key in one.keys() & other.keys():
        if one[key] != other[key]:
            expected[key] = key[:1] + one[key] + other[key]
    merged = writing.merge(nodes, first_root, second_root, lambda key, first, second: key[:1] + first + second, measure)
    assert merged == writing.build(MemoryNodes(), sorted(expected.items()), measure)


def test_merging_a_small_tree_into_a_large_one_reads_few_nodes() -> None:
    nodes = MemoryNodes()
    large = writing.build(nodes, [(b"%08d" % number, b"\x01") for number in range(100_000)], measure)
    small = writing.build(nodes, [(b"00000000", b"\x01"), (b"00050000x", b"\x01"), (b"00099999", b"\x02")], measure)
    nodes.reads = 0
    merged = writing.merge(nodes, large, small, lambda key, first, second: first, measure)
    assert nodes.reads <= 30
    assert merged == writing.update(nodes, large, [(b"00050000x", b"\x01")], measure)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.binary(max_size=4), VALUES, max_size=400), st.dictionaries(st.binary(max_size=4), VALUES))
def test_keys_may_hold_any_bytes(old: dict[bytes, bytes], new: dict[bytes, bytes]) -> None:
    nodes = MemoryNodes()
    root = writing.build(nodes, sorted(old.items()), measure)
    changed = writing.update(nodes, root, sorted(new.items()), measure)
    assert list(tree.items(nodes, changed)) == sorted((old | new).items())
    assert all(tree.get(nodes, changed, key) == value for key, value in (old | new).items())


def test_the_layout_of_a_node_is_fixed() -> None:
    node = tree.Node(0, [b"a", b"bc"], [b"x" * 130, b""])
    data = tree.encode_node(node)
    assert data == b"PT\x01\x00\x02" + b"\x01a\x82\x01" + b"x" * 130 + b"\x02bc\x00"
    assert tree.EMPTY.hex() == "35ff8b66d44d2ea711c5a83afb7cc9ed4d9c1e056406656a521a56ede548f41f"
    again = tree.decode_node(data)
    assert (again.level, again.keys, again.values) == (node.level, node.keys, node.values)


@pytest.mark.parametrize("cut", [0, 2, 4, 5, 10, -1])
def test_a_torn_node_is_told_from_a_whole_one(cut: int) -> None:
    data = tree.encode_node(tree.Node(0, [b"name"], [b"value"]))
    with pytest.raises(CorruptError):
        tree.decode_node(data[:cut])
    with pytest.raises(CorruptError):
        tree.decode_node(data + b"\0")


# ---- names that were chosen so that none ends a node ---------------------------------------------------


def hostile(candidates: Iterator[bytes]) -> Iterator[bytes]:
    """Those of the keys that end no run of any level."""
    return (key for key in candidates if _core.rank(key) == 0)


def numbers(pattern: bytes) -> Iterator[bytes]:
    return (pattern % number for number in itertools.count())


CHAINS = [b"c" * length for length in range(1, 400)]
"""Of each two of these one is the beginning of the other."""

SOME = [
    *itertools.islice(hostile(numbers(b"%d")), 300),
    *itertools.islice(hostile(numbers(b"a common beginning %08x")), 300),
    *itertools.islice(hostile(iter(CHAINS)), 200),
    *(key for key in (b"end %d" % number for number in range(4000)) if _core.rank(key)),  # these end some
]
HOSTILE_CHANGES = st.dictionaries(st.sampled_from(SOME), st.none() | VALUES, max_size=60)


@pytest.fixture
def small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of at most eight short keys."""
    monkeypatch.setattr(writing, "NODE_WEIGHT", 8 * 256)


def node_sizes(nodes: MemoryNodes, root: bytes) -> Iterator[int]:
    node = tree.load(nodes, root)
    yield len(node.keys)
    if node.level:
        for index in range(len(node.keys)):
            yield from node_sizes(nodes, node.child(index))


@pytest.mark.usefixtures("small_nodes")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.sampled_from(SOME), max_size=400),
    st.lists(st.tuples(HOSTILE_CHANGES, st.integers(1, 50)), max_size=4),
)
def test_any_history_of_hostile_names_gives_the_tree_built_from_scratch(
    names: set[bytes], steps: list[tuple[dict[bytes, bytes | None], int]]
) -> None:
    nodes = MemoryNodes()
    model = dict.fromkeys(names, b"\x01")
    root = writing.build(nodes, sorted(model.items()), measure)
    for step, length in steps:
        changes = writing.Update(nodes, root, measure)
        mutations = sorted(step.items())
        for start in range(0, len(mutations), length):
            changes.apply(mutations[start : start + length])
        former, (root, sums) = root, changes.finish()
        before = dict(model)
        for key, value in mutations:
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert sums == tree.Summary(sum(value[0] for value in model.values()), len(model), 0)
        keys = sorted(key for key in before.keys() | model.keys() if before.get(key) != model.get(key))
        assert list(tree.diff(nodes, former, root)) == [(key, before.get(key), model.get(key)) for key in keys]
    assert list(tree.items(nodes, root)) == sorted(model.items())
    assert root == writing.build(MemoryNodes(), sorted(model.items()), measure)
    assert max(node_sizes(nodes, root)) <= 8
    assert list(tree.descending(nodes, root)) == sorted(model.items(), reverse=True)


def model_divide(keys: list[bytes], limit: int) -> list[int]:
    """Where a whole run is cut, gap by gap, as the rule has it."""

    def bits(key: bytes) -> str:
        return "".join(f"{byte:08b}" for byte in key)

    texts = [bits(key) for key in keys]
    weights = [max(len(key), 256) for key in keys]
    cuts = []
    for at in range(1, len(keys)):
        pair = itertools.takewhile(lambda both: both[0] == both[1], zip(texts[at - 1], texts[at], strict=False))
        common = "".join(one for one, _ in pair)
        around = sum(weight for text, weight in zip(texts, weights, strict=True) if text.startswith(common))
        if sum(weights) > limit and around > limit:
            cuts.append(at)
    return [*cuts, len(keys)]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from(SOME) | st.binary(min_size=1, max_size=3), min_size=1, max_size=40), st.integers(1, 12))
def test_a_run_is_divided_as_the_model_does(names: set[bytes], most: int) -> None:
    keys = sorted(names)
    assert _core.divide(keys, len(keys), most * 256, False, False, []) == model_divide(keys, most * 256)


def test_a_division_checks_what_it_is_given() -> None:
    assert _core.weigh([b"k", b"k" * 1000], 0) == 1256
    for end in (0, 3, -1, 1 << 62):
        with pytest.raises(ValueError, match="end is outside"):
            _core.divide([b"a", b"b"], end, 1, False, False, [])
    with pytest.raises(TypeError):
        _core.divide([b"a", "b"], 2, 1, False, False, [])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        _core.divide([b"a", b"b"], 2, 1, True, False, ["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="start is outside"):
        _core.weigh([b"a"], 2)


@pytest.mark.parametrize("pattern", [b"name-%08d", b"x" * 300 + b"%08d"])
def test_a_change_among_hostile_names_touches_as_few_nodes_as_one_among_others(pattern: bytes) -> None:
    nodes = MemoryNodes()
    keys = list(itertools.islice(hostile(numbers(pattern)), 50_000))
    root = writing.build(nodes, [(key, b"\x01") for key in keys], measure)
    assert max(map(len, nodes.data.values())) < 2 * writing.NODE_WEIGHT
    for key in (keys[0], keys[25_000], keys[-1]):
        nodes.reads = nodes.writes = 0
        changed = writing.update(nodes, root, [(key, b"\x02")], measure)
        assert nodes.writes <= 4
        assert nodes.reads <= 24
        assert list(tree.diff(nodes, root, changed)) == [(key, b"\x01", b"\x02")]


def test_the_trees_of_ordinary_names_are_as_they_were() -> None:
    pairs = [(b"file-%06d.jpg" % number, b"\x01") for number in range(100_000)]
    root = writing.build(MemoryNodes(), pairs, measure)
    assert root.hex() == "90eb5cd4d35eb480f6903743b5981e32b895fe5dc202dc3b990b13950da59129"
