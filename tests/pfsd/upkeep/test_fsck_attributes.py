"""Damage to what commits keep beside content: attributes, links, what is counted of them, and the plain trees."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import pytest

from pfsd.filesystem.store import Store
from pfsd.model import records
from pfsd.model.staging import Write
from pfsd.trees import entries, tree
from pfsd.trees.attributes import Attributes, encode
from pfsd.trees.entries import DirEntry, Entry, SpecialEntry, SymlinkEntry, with_attributes
from pfsd.upkeep.collect import collect_garbage
from tests.support.faulty.damagedstores import Sample, empty_journal

LINKED = encode(Attributes(0o755, (1, 2), 1 << 60, ((b"user.a", b"1"),), b"LINKLINK"))


@pytest.fixture
def kept(tmp_path: pathlib.Path) -> Sample:
    """A root with one commit that has all that is kept."""
    store = Store(tmp_path / "root")
    store.repos.create("r")
    opened = store.commits.start("r", branch="master")
    store.commits.open_staging(opened).apply(
        [
            Write(("d", "a"), (b"a" * 10_000,), attributes=LINKED),
            Write(("d", "b"), (b"a" * 10_000,), attributes=LINKED),
            Write(("d", "link"), other=SymlinkEntry(b"e/f", encode(Attributes(owner=(3, 4))))),
            Write(("link",), other=SymlinkEntry(b"top")),
            Write(("top",), (b"t",)),
            Write(("d", "pipe"), other=SpecialEntry(1)),
            Write(("d", "e", "f"), (b"f",)),
            Write(("d",), directory=entries.EMPTY_DIR, attributes=encode(Attributes(0o700))),
        ]
    )
    made = store.commits.finish("r", opened.id)
    store.close()
    sample = Sample(tmp_path / "root", {}, made, made, made)
    sample.edit(empty_journal)
    return sample


def change(sample: Sample, path: str, name: str, to: Callable[[Entry], bytes]) -> bytes:
    """Change an entry of a directory, in nodes whose hashes are right again; returns the directory's new node.

    The directories above are told of the new node alone, so that what they say of it is as it was.
    """
    parts = [part for part in path.split("/") if part]
    key, changed = name.encode(), to
    while True:
        node_name = sample.directory_node("/".join(parts)) if parts else bytes.fromhex(sample.first.root)
        data = sample.row("nodes", node_name)
        assert data is not None
        node = tree.decode_node(data)
        node.values[node.find(key)] = changed(entries.decode(node.values[node.find(key)]))
        data = tree.encode_node(node)
        made = tree.node_hash(data)
        sample.put_row("nodes", made, data)
        if key == name.encode():
            first = made
        if not parts:
            commit = dataclasses.replace(sample.first, root=made.hex())
            sample.put_row("commits", bytes.fromhex(commit.id), records.dump(commit))
            return first
        key, changed = parts.pop().encode(), told_of(made)


def told_of(made: bytes) -> Callable[[Entry], bytes]:
    def tell(entry: Entry) -> bytes:
        assert isinstance(entry, DirEntry)
        return entries.encode(dataclasses.replace(entry, root=made))

    return tell


def told(sample: Sample) -> list[str]:
    return [found.what for found in sample.check()[0] if "tree object" not in found.what]


def test_a_sound_store_with_all_that_is_kept_has_no_problem(kept: Sample) -> None:
    assert kept.is_clean()


@pytest.mark.parametrize(
    "wrong",
    [
        encode(Attributes(mode=0o644)),  # left out where it is so
        encode(Attributes(xattrs=((b"user.b", b""), (b"user.a", b"")))),
        encode(Attributes(xattrs=((b"user.a", bytes(5000)),))),
        encode(Attributes(mode=0o7777, xattrs=((b"", b"1"),))),
    ],
)
def test_attributes_that_nobody_can_have_put(kept: Sample, wrong: bytes) -> None:
    made = change(kept, "", "top", lambda entry: entries.encode(with_attributes(entry, wrong)))
    assert told(kept) == [f"tree node {made.hex()} keeps of top what can't be kept of a file"]


@pytest.mark.parametrize("wrong", [b"\x09", b"\x01\xff\xff\xff", b"\x05short", b"\x06\x01", b"\x03\x01\x01\x01"])
def test_attributes_that_can_not_be_read(kept: Sample, wrong: bytes) -> None:
    made = change(kept, "", "top", lambda entry: entries.encode(entry) + wrong)
    assert told(kept) == [f"tree node {made.hex()} can't be read: a directory entry can't be decoded"]


@pytest.mark.parametrize(
    "wrong", [SymlinkEntry(b""), SymlinkEntry(b"a\0b"), SymlinkEntry(bytes(b"x" * 5000)), SpecialEntry(9)]
)
def test_links_and_special_files_that_nobody_can_have_put(kept: Sample, wrong: Entry) -> None:
    made = change(kept, "", "link", lambda entry: entries.encode(with_attributes(wrong, entry.attributes)))
    assert told(kept) == [f"tree node {made.hex()} keeps of link what can't be kept of a file"]


def changed_directory(**fields: object) -> Callable[[Entry], bytes]:
    def changed(entry: Entry) -> bytes:
        assert isinstance(entry, DirEntry)
        return entries.encode(dataclasses.replace(entry, **fields))  # type: ignore[arg-type]

    return changed


@pytest.mark.parametrize("wrong", [{"links": 3}, {"links": 0}, {"plain": bytes(32)}, {"plain": b"", "links": 0}])
def test_what_a_directory_says_of_the_links_and_the_plain_tree_below(kept: Sample, wrong: dict[str, object]) -> None:
    below = kept.directory_node("d")
    change(kept, "", "d", changed_directory(**wrong))
    assert told(kept) == [f"tree node {below.hex()} does not have the sizes and counts that are kept above it"]


def test_a_plain_root_where_nothing_is_kept(kept: Sample) -> None:
    below = kept.directory_node("d/e")
    change(kept, "d", "e", changed_directory(plain=below))
    assert f"tree node {below.hex()} does not have the sizes and counts that are kept above it" in told(kept)


@pytest.mark.parametrize("wrong", ["zz", "09", encode(Attributes(mode=0o755)).hex(), "054c494e4b4c494e4b"])
def test_what_a_commit_keeps_of_its_root_is_looked_at_and_left_out(kept: Sample, wrong: str) -> None:
    broken = dataclasses.replace(kept.first, attributes=wrong)
    kept.put_row("commits", bytes.fromhex(broken.id), records.dump(broken))
    found = kept.only(fix=True)
    assert found.what == f"commit r/{broken.id} keeps of its root what can't be read"
    assert found.touches == (f"r/{broken.id}:/",)
    assert kept.is_clean()


def test_only_attributes_that_changed_add_nothing_to_a_repo(kept: Sample) -> None:
    store = Store(kept.directory)
    before = store.repos.get("r").size
    opened = store.commits.start("r", branch="master")
    store.commits.open_staging(opened).apply(
        [Write(("d", "a"), attributes=b""), Write(("d", "e", "f"), attributes=LINKED)]
    )
    store.commits.finish("r", opened.id)
    assert store.repos.get("r").size == before
    store.close()
    assert kept.is_clean()


def test_staged_attributes_and_links_that_can_not_be_read(kept: Sample) -> None:
    store = Store(kept.directory)
    opened = store.commits.start("r", branch="master")
    store.commits.open_staging(opened).apply(
        [Write(("d", "a"), attributes=LINKED), Write(("d", "link"), other=SymlinkEntry(b"x"))]
    )
    store.close()
    assert kept.is_clean()
    area = bytes.fromhex(opened.id)
    for name, row in (("a", b"\x21\x09"), ("link", b"\x03\x09")):
        kept.put_row("staging", area + b"d\0" + name.encode() + b"\0\0", row)
    assert sorted(told(kept)) == [
        f"what is staged at /d/{name} for commit r/{opened.id} can't be read" for name in ("a", "link")
    ]


def test_a_collection_keeps_what_trees_with_links_need(kept: Sample) -> None:
    store = Store(kept.directory)
    opened = store.commits.start("r", branch="master")
    store.commits.open_staging(opened).apply(
        [Write(("d", "more"), other=SymlinkEntry(b"a")), Write(("x",), (b"x" * 9000,), attributes=LINKED)]
    )
    collect_garbage(store.root)
    opened = store.commits.finish("r", opened.id)
    collect_garbage(store.root)
    for path, data in {"d/more": b"a" * 10_000, "d/link": b"f", "x": b"x" * 9000}.items():
        assert b"".join(store.files.read(opened, path, 0, 0)) == data
    store.close()
    assert kept.is_clean()
