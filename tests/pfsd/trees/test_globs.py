"""Glob patterns."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pfsd.errors import InvalidError
from pfsd.names.paths import MAX_DEPTH, parse
from pfsd.trees import entries, globs, writing
from pfsd.trees.entries import DirEntry, Entry
from tests.support.memory import MemoryNodes

FILES = (
    "7",
    "bar/bar-1",
    "bar/bar-2",
    "data.csv",
    "deep/a/b/c",
    "deep/a/b/d",
    "deep/x/b/c",
    "foo-1",
    "foo-2",
    "odd[1]*",
    "{a}",
)


def make(nodes: MemoryNodes, names: tuple[str, ...]) -> DirEntry:
    """A directory with empty files at these paths."""
    below: dict[str, list[str]] = {}
    for name in names:
        first, _, rest = name.partition("/")
        below.setdefault(first, []).append(rest)
    pairs = []
    for first, rests in below.items():
        inner = tuple(rest for rest in rests if rest)
        entry = make(nodes, inner) if inner else entries.EMPTY_FILE
        pairs.append((first.encode(), entries.encode(entry)))
    root = writing.build(nodes, sorted(pairs), entries.MEASURE)
    return entries.dir_entry(nodes, root)


def found(pattern: str, *, recursive: bool = False) -> list[str]:
    nodes = MemoryNodes()
    compiled = globs.compile(pattern, recursive=recursive)
    return ["/".join(path) for path, _ in compiled.walk(nodes, make(nodes, FILES))]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/", [""]),
        ("", [""]),
        ("foo*", ["foo-1", "foo-2"]),
        ("/foo-[^1]", ["foo-2"]),
        ("/foo-[!1]", ["foo-2"]),
        ("/foo-[0-1]", ["foo-1"]),
        ("/foo-[2-1]", []),
        ("/?", ["7"]),
        ("/*/*", ["bar/bar-1", "bar/bar-2", "deep/a", "deep/x"]),
        ("/deep/*/b/c", ["deep/a/b/c", "deep/x/b/c"]),
        ("/deep/a/../*", ["deep/a", "deep/x"]),
        ("//bar/.//bar-1/", ["bar/bar-1"]),
        ("**", ["7", "bar", "data.csv", "deep", "foo-1", "foo-2", "odd[1]*", "{a}"]),
        ("/**/*", ["bar/bar-1", "bar/bar-2", "deep/a", "deep/x"]),
        ("/**/c", []),
        ("/***/bar-**1", ["bar/bar-1"]),
        ("/deep/**", ["deep/a", "deep/x"]),
        ("/deep/**/b/*", ["deep/a/b/c", "deep/a/b/d", "deep/x/b/c"]),
        ("/{bar,deep,nope/x}/{bar-[12],{x,y}}", ["bar/bar-1", "bar/bar-2", "deep/x"]),
        ("/{foo-1", []),
        ("/{{a}}", []),
        ("/{{a},x{1}}", ["{a}"]),
        ("/foo-{1,2", []),
        (r"/\{a\}", ["{a}"]),
        ("/[{]a}", ["{a}"]),
        ("/{foo,bar}*", ["bar", "foo-1", "foo-2"]),
        ("/{foo-1,bar/bar-{1,2}}", ["bar/bar-1", "bar/bar-2", "foo-1"]),
        ("/{a}", ["{a}"]),
        (r"/odd\[1\]\*", ["odd[1]*"]),
        ("/odd[[]1]*", ["odd[1]*"]),
        ("/nope*", []),
        ("/foo-1/*", []),
    ],
)
def test_a_pattern_finds(pattern: str, paths: list[str]) -> None:
    assert found(pattern) == paths


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/**/c", ["deep/a/b/c", "deep/x/b/c"]),
        ("/**/bar-1", ["bar/bar-1"]),
        ("/deep/**", ["deep/a", "deep/a/b", "deep/a/b/c", "deep/a/b/d", "deep/x", "deep/x/b", "deep/x/b/c"]),
        ("/deep/**/b/*", ["deep/a/b/c", "deep/a/b/d", "deep/x/b/c"]),
        ("/**/**/d", ["deep/a/b/d"]),
        ("/*/*", ["bar/bar-1", "bar/bar-2", "deep/a", "deep/x"]),
        ("/***/bar-1", ["bar/bar-1"]),
    ],
)
def test_a_pattern_recurses_where_that_is_asked_for(pattern: str, paths: list[str]) -> None:
    assert found(pattern, recursive=True) == paths


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "/a/[b",
        "a\\",
        "[]",
        "/x\0y",
        "/../a",
        "a/../../b",
        "{a,b}" * 12,
        "{a,../b}",
        "a" * 20_000,
        "{" + "a" * 9000 + ",b}{c,d}{e,f}{g,h}",
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidError, match="glob pattern") as caught:
        globs.compile(pattern)
    assert len(str(caught.value)) < 400


HOSTILE = [
    ("*a" * 2000 + "b", "a" * 4000),
    ("*a" * 30 + "*", "a" * 4000),
    ("?*" * 2000 + "b", "a" * 4000),
    ("[a-b]*" * 1500 + "c", "ab" * 2000),
    ("*[!x]" * 2000 + "b", "a" * 4000),
]


@pytest.mark.parametrize(("pattern", "name"), HOSTILE, ids=[pattern[:8] for pattern, _ in HOSTILE])
def test_no_pattern_backtracks(pattern: str, name: str) -> None:
    """Each would take longer than the world lasts if all ways to match were tried."""
    compiled = globs.compile(pattern)
    assert compiled.matches((name,)) is pattern.endswith("a*")


@pytest.mark.parametrize(
    "pattern",
    [
        "{" * 16_000,
        "}" * 16_000,
        "{," * 8000,
        "{a," * 500 + "}" * 500,
        "[" * 16_000 + "a]",
        "{[" * 5000 + "]}",
        "a," * 8000,
        "/".join("*" * 8000),
        "/a/.." * 3000,
    ],
    ids=lambda pattern: pattern[:5],
)
@pytest.mark.parametrize("recursive", [False, True])
def test_hostile_text_is_compiled_in_time_that_grows_with_it(pattern: str, recursive: bool) -> None:
    compiled = globs.compile(pattern, recursive=recursive)
    assert not compiled.matches(("no", "such", "file"))


def test_many_recursive_components_keep_few_states() -> None:
    compiled = globs.compile("**/" * 200 + "b", recursive=True)
    assert compiled.matches(("a",) * 300 + ("b",))
    assert not compiled.matches(("a",) * 300)


def test_a_tree_is_searched_as_deep_as_a_path_may_be() -> None:
    nodes = MemoryNodes()
    deepest = "/".join(["d"] * MAX_DEPTH)
    directory: Entry = entries.EMPTY_FILE
    for _ in range(MAX_DEPTH):
        directory = entries.dir_entry(nodes, writing.build(nodes, [(b"d", entries.encode(directory))], entries.MEASURE))
    assert isinstance(directory, DirEntry)
    compiled = globs.compile("**", recursive=True)
    assert ["/".join(path) for path, _ in compiled.walk(nodes, directory)][-1] == deepest
    changes = list(compiled.changes(nodes, entries.EMPTY_DIR, directory))
    assert "/".join(changes[-1][0]) == deepest


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?.[]!-", min_size=1, max_size=8), st.text("ab.", min_size=1, max_size=6))
def test_components_match_as_fnmatch_says(pattern: str, name: str) -> None:
    if pattern in (".", "..") or name in (".", ".."):
        return
    if "[" in pattern:  # brackets that fnmatch reads otherwise: those that are not closed, and empty ranges
        assume("[]" not in pattern and "[!]" not in pattern and "-" not in pattern)
        assume(all("]" in rest for rest in pattern.split("[")[1:]))
    assert globs.compile(pattern).matches((name,)) == fnmatch.fnmatchcase(name, pattern)


PATHS = st.lists(st.sampled_from(["a", "ab", "b"]), min_size=1, max_size=3).map("/".join)
TREES = st.sets(PATHS, max_size=8).map(
    lambda names: tuple(name for name in names if not any(other.startswith(name + "/") for other in names))
)
PATTERNS = ["/", "*", "a*", "*/*", "a/b", "**", "**/b", "{a,ab/b}", "a/*/b", "{a,b}*"]


@settings(max_examples=300, deadline=None)
@given(TREES, TREES, st.sampled_from(PATTERNS), st.booleans())
def test_changes_are_what_two_walks_differ_in(
    old: tuple[str, ...], new: tuple[str, ...], pattern: str, recursive: bool
) -> None:
    nodes = MemoryNodes()
    before, after = make(nodes, old), make(nodes, new)
    compiled = globs.compile(pattern, recursive=recursive)
    former, present = dict(compiled.walk(nodes, before)), dict(compiled.walk(nodes, after))
    changed = list(compiled.changes(nodes, before, after))
    paths = sorted({*former, *present}, key=lambda path: [name.encode() for name in path])
    expected = [(path, former.get(path), present.get(path)) for path in paths]
    assert changed == [(path, one, other) for path, one, other in expected if one != other]


def test_changes_read_only_what_differs() -> None:
    nodes = MemoryNodes()
    names = tuple(f"many/{number:06d}" for number in range(20_000))
    old, new = make(nodes, names), make(nodes, (*names[:9_000], *names[9_001:]))
    nodes.reads = 0
    assert [path for path, _, _ in globs.compile("/*/*").changes(nodes, old, new)] == [parse("many/009000")]
    assert nodes.reads <= 12


def test_literal_parts_are_looked_up_and_prefixes_bound_the_scan() -> None:
    nodes = MemoryNodes()
    top = make(nodes, tuple(f"many/{number:06d}" for number in range(20_000)))
    nodes.reads = 0
    assert [path for path, _ in globs.compile("/many/012345").walk(nodes, top)] == [parse("many/012345")]
    assert nodes.reads <= 6
    nodes.reads = 0
    assert len([path for path, _ in globs.compile("/many/0123*").walk(nodes, top)]) == 100
    assert nodes.reads <= 12
