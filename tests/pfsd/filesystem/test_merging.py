"""Merging trees, and changing a merge, against a simple model."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsd.errors import InvalidError, NotFoundError, StateError
from pfsd.filesystem import merging
from pfsd.filesystem.store import Store
from pfsd.filesystem.trees import StoredTree, TreeChange
from pfsd.model import treeobjects
from pfsd.model.records import Commit
from pfsd.trees import entries, tree
from pfsd.trees.nodestore import GatheredNodes
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from pfsd.upkeep.collect import collect_garbage
from tests.support.stores import contents

Tree = Mapping[str, bytes | None]
"""Files by path with their bytes, and (None) directories."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("merging") / "root")
    opened.repos.create("r")
    yield opened
    opened.close()


def merge(store: Store, commit: Commit, tags: Sequence[str]) -> StoredTree:
    """Merge trees in the order given."""
    return store.trees.merge_into(commit, [TreeChange(f"{number:04d}", tag) for number, tag in enumerate(tags)])


def kept(store: Store, tag: str) -> bytes:
    """The root of the tree that keeps a merge."""
    return treeobjects.read(store.root.chunks, store.tags.get(tag))


def problems(store: Store) -> list[str]:
    return [found.what for found in fsck.check(store, fix=False) if isinstance(found, Problem)]


# --- the model

NAMES = st.sampled_from(["a", "b", "a.", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.one_of(st.none(), st.binary(min_size=0, max_size=3))


def above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def whole(given_tree: Tree) -> dict[str, bytes | None]:
    """A tree with all its directories named; what is below a file is left out."""
    made: dict[str, bytes | None] = {}
    for path, data in sorted(given_tree.items(), key=lambda item: item[0].count("/")):
        if all(made.get(directory) is None for directory in above(path)):
            made |= dict.fromkeys(above(path))
            made.setdefault(path, data)
    return made


def merged(trees: Mapping[str, Tree]) -> dict[str, bytes | None] | None:
    """The merge of trees by order; None when they can't be merged."""
    made: dict[str, bytes | None] = {}
    for _, one in sorted(trees.items()):
        for path, data in one.items():
            if path in made and (made[path] is None) != (data is None):
                return None
            before = made.get(path)
            made[path] = data if before is None or data is None else before + data
    return made


TREES = st.dictionaries(PATHS, CONTENT, max_size=5).map(whole)
ORDERS = st.sampled_from(["1", "1\0a", "2", "é"])
STEPS = st.lists(st.dictionaries(ORDERS, st.one_of(st.none(), TREES), max_size=4), min_size=1, max_size=5)


def change(store: Store, trees: Mapping[str, Tree | None], base: str, result: str) -> Commit:
    """An open commit with what a merge becomes when trees by order are replaced, added or (None) left out."""
    changes = []
    for number, (order, one) in enumerate(trees.items()):
        if one is not None:
            upload = store.trees.upload()
            for path, data in one.items():
                if data is None:
                    upload.put(path, entries.EMPTY_DIR)
                else:
                    upload.write(path, data)
            upload.finish(f"given-{number}")
        changes.append(TreeChange(order, "" if one is None else f"given-{number}"))
    commit = store.commits.start("r")
    store.trees.merge_into(commit, changes, base=base, result=result)
    return commit


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_merge_that_is_changed_is_the_merge_of_what_there_is_then(
    store: Store, steps: list[dict[str, Tree | None]]
) -> None:
    trees: dict[str, Tree] = {}
    base = ""
    for step, result in zip(steps, itertools.cycle(["one", "other"]), strict=False):
        after = {order: one for order, one in ({**trees, **step}).items() if one is not None}
        expected = merged(after)
        if expected is None:
            with pytest.raises(
                StateError, match=r"is a file in the output of datum .* and a directory in that of datum "
            ):
                change(store, step, base, result)
            break
        files, directories = contents(store, change(store, step, base, result))
        assert files == {path: data for path, data in expected.items() if data is not None}
        assert directories == {path for path, data in expected.items() if data is None}
        change(store, after, "", "scratch")
        assert kept(store, result) == kept(store, "scratch")
        trees, base = after, result


def test_what_merges_keep_is_sound_and_outlives_collections_and_the_tags_of_its_trees(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    change(store, {"1": {"d/x": b"1"}, "2": {"d/x": b"2", "d/y": b"2"}}, "", "base")
    store.tags.delete(["given-0", "given-1"])
    for name, _ in list(store.commits.branches("r")):
        store.commits.delete("r", name)
    collect_garbage(store.root)
    assert problems(store) == []
    commit = change(store, {"1": None, "3": {"d/x": b"3"}}, "base", "next")
    collect_garbage(store.root)
    assert contents(store, commit)[0] == {"d/x": b"23", "d/y": b"2"}
    assert problems(store) == []
    store.close()


def test_many_trees_merge_in_order_and_files_of_several_are_joined(store: Store) -> None:
    trees = {f"{number:03d}": {"words/the": b"%d " % number, f"own/{number}": b"x"} for number in range(300)}
    commit = change(store, trees, "", "many")
    files, _ = contents(store, commit)
    assert len(files) == 301
    assert files["words/the"] == b"".join(b"%d " % number for number in range(300))


def test_what_is_held_in_memory_is_bounded_and_makes_no_difference(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = {f"{number:03d}": {f"{number % 7}/{number}": b"x", f"{number % 3}/f": b"y"} for number in range(100)}
    change(store, trees, "", "at once")
    monkeypatch.setattr(merging, "SORTED_AT_ONCE", 16)
    change(store, trees, "", "bit by bit")
    assert kept(store, "at once") == kept(store, "bit by bit")


def test_a_change_reads_and_writes_what_it_touches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {f"{number:04d}": {f"d/{number}": b"x"} for number in range(2000)}
    change(store, trees, "", "large")
    written: list[bytes] = []
    put = GatheredNodes.put

    def counted(nodes: GatheredNodes, name: bytes, data: bytes) -> None:
        written.append(name)
        put(nodes, name, data)

    monkeypatch.setattr(GatheredNodes, "put", counted)
    store.trees.merge_into(store.commits.start("r"), [TreeChange("0501", "")], base="large", result="changed")
    assert len(written) < 30
    assert len(written) < len(set(tree_nodes(store, "large"))) / 2


def tree_nodes(store: Store, tag: str) -> Iterator[bytes]:
    """The nodes of a tree that keeps a merge."""
    todo = [kept(store, tag)]
    while todo:
        name = todo.pop()
        if name == tree.EMPTY:
            continue
        yield name
        node = store.root.nodes.get(name)
        for value in node.values:
            if node.level:
                todo.append(value[: tree.HASH_BYTES])
            elif isinstance(entry := entries.decode(value), entries.DirEntry):
                todo.append(entry.root)


def test_trees_that_disagree_about_a_path_are_not_merged(store: Store) -> None:
    with pytest.raises(StateError, match="/p is a file in the output of datum 1 and a directory in that of datum 2"):
        change(store, {"1": {"p": b"x"}, "2": {"p/q": b"x", "p": None}}, "", "")


def test_a_base_has_to_be_there_and_to_be_a_merge(store: Store) -> None:
    with pytest.raises(NotFoundError, match="tag nowhere not found"):
        change(store, {}, "nowhere", "")
    change(store, {"1": {"a": b"x"}}, "", "")
    with pytest.raises(InvalidError, match="result of one"):
        change(store, {}, "given-0", "")
