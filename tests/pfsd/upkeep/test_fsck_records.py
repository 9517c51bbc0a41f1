"""Damage to tree nodes and to records of the model is found with what it touches, and repaired where that can be."""

from __future__ import annotations

import dataclasses
import pathlib
import random

from pfsd.filesystem.store import Store
from pfsd.model import records
from pfsd.trees import tree
from pfsd.trees.entries import FileEntry
from tests.support.faulty.damagedstores import Sample, finished

# --- tree nodes


def test_a_missing_node_touches_its_directory(sample: Sample) -> None:
    name = sample.directory_node("d/e")
    sample.put_row("nodes", name, None)
    found = sample.only(fix=True)
    assert found.what == f"tree node {name.hex()} is missing"
    assert set(found.touches) == sample.places("/d/e", sample.first, sample.second)
    assert not found.fixed
    assert sample.read(sample.first, "d/small") == sample.files["d/small"]


def test_a_damaged_node_touches_its_directory(sample: Sample) -> None:
    name = sample.directory_node("d")
    row = sample.row("nodes", name)
    assert row is not None
    sample.put_row("nodes", name, row[:-1] + bytes((row[-1] ^ 1,)))
    found = sample.only()
    assert found.what == f"tree node {name.hex()} is damaged: its bytes do not match its hash"
    assert set(found.touches) == sample.places("/d", sample.first, sample.second)
    assert sample.read(sample.first, "other") == sample.files["other"]


def test_a_missing_root_node_touches_the_root(sample: Sample) -> None:
    sample.put_row("nodes", bytes.fromhex(sample.derived.root), None)
    assert sample.only().touches == tuple(sample.places("/", sample.derived))


def test_a_damaged_node_that_nothing_uses_is_removed(sample: Sample) -> None:
    name = tree.node_hash(b"never stored")
    sample.put_row("nodes", name, b"rubbish")
    assert sample.only().what == f"a tree node is damaged: {name.hex()}; nothing uses it"
    assert sample.only(fix=True).fixed
    assert sample.is_clean()


def test_a_missing_node_of_a_chunk_list_touches_the_file(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    made = finished(store, "r", {"long": random.Random(3).randbytes(30 << 20), "short": b"s"})
    entry = store.files.inspect(made, "long")
    assert isinstance(entry, FileEntry)
    assert entry.chunk_root is not None
    store.close()
    sample = Sample(tmp_path / "root", {}, made, made, made)
    sample.put_row("nodes", entry.chunk_root, None)
    found = sample.only()
    assert found.what == f"tree node {entry.chunk_root.hex()} is missing"
    assert found.touches == tuple(sample.places("/long", made))
    assert sample.read(made, "short") == b"s"


# --- records


def test_wrong_sizes_are_corrected(sample: Sample) -> None:
    key = bytes.fromhex(sample.second.id)
    sample.put_row("commits", key, records.dump(dataclasses.replace(sample.second, size=5)))
    store = Store(sample.directory)
    repo = store.repos.get("in")
    store.close()
    sample.put_row("repos", b"in", records.dump(dataclasses.replace(repo, size=repo.size + 1)))
    wrong_commit, wrong_repo = sample.check()[0]
    assert wrong_commit.what == (
        f"commit in/{sample.second.id} is kept as 5 bytes and its files are {sample.second.size}"
    )
    assert wrong_commit.touches == (f"in/{sample.second.id}",)
    assert wrong_repo.what == f"repo in is kept as {repo.size + 1} bytes and its commits add up to {repo.size}"
    assert all(problem.fixed for problem in sample.check(fix=True)[0])
    assert sample.is_clean()
    assert records.load_commit(sample.row("commits", key) or b"") == sample.second


def test_a_branch_of_a_missing_commit_is_removed(sample: Sample) -> None:
    sample.put_row("branches", b"in\0lost", b"\7" * 16)
    found = sample.only()
    assert found.what == f"branch lost of repo in points at commit {'07' * 16}, which is missing"
    assert sample.only(fix=True).fixed
    assert sample.is_clean()
    store = Store(sample.directory)
    assert store.commits.branches("in") == [("master", sample.second.id)]
    store.close()


def test_rows_that_follow_from_commits_are_made_again(sample: Sample) -> None:
    key = bytes.fromhex(sample.derived.id)
    history = b"out\0" + sample.derived.sequence.to_bytes(8, "big")
    sample.put_row("history", history, None)
    sample.put_row("downstream", bytes.fromhex(sample.second.id) + key, None)
    sample.put_row("downstream", bytes.fromhex(sample.first.id) + key, b"")
    sample.put_row("history", b"in\0" + bytes(8), b"\7" * 16)
    whats = [problem.what for problem in sample.check()[0]]
    assert whats == [
        f"commit out/{sample.derived.id} is missing from its repo's list of commits",
        f"commit out/{sample.derived.id} is missing among those that come from in/{sample.second.id}",
        f"the list of commits of repo in names {'07' * 16}, which is missing",
        f"commit {sample.derived.id} is kept among those that come from {sample.first.id}, which it does not",
    ]
    assert all(problem.fixed for problem in sample.check(fix=True)[0])
    assert sample.is_clean()
    assert sample.row("history", history) == key


def test_the_counter_of_commits_is_raised(sample: Sample) -> None:
    sample.put_row("meta", b"sequence", (1).to_bytes(8, "big"))
    assert sample.only().what == "the counter of commits is below the number of the newest commit"
    assert sample.only(fix=True).fixed
    assert sample.is_clean()


def test_a_lost_repo_is_made_again_from_its_commits(sample: Sample) -> None:
    sample.put_row("repos", b"out", None)
    problems, _ = sample.check(fix=True)
    assert problems[0].what == "repo out is missing and 1 commits are in it"
    assert problems[0].touches == (f"out/{sample.derived.id}",)
    assert all(problem.fixed for problem in problems)
    assert sample.is_clean()
    store = Store(sample.directory)
    repo = store.repos.get("out")
    assert (repo.ancestors, repo.size) == (("in",), sample.derived.size)
    store.close()


def test_a_commit_record_that_cant_be_read_is_reported_and_stays(sample: Sample) -> None:
    key = bytes.fromhex(sample.derived.id)
    sample.put_row("commits", key, b"{")
    problems, _ = sample.check(fix=True)
    assert problems[0].what.startswith(f"the record of commit {sample.derived.id} can't be read: ")
    assert not problems[0].fixed
    assert sample.row("commits", key) == b"{"
    assert sample.row("branches", b"out\0master") == key


def test_a_lost_parent_is_reported(sample: Sample) -> None:
    sample.put_row("commits", bytes.fromhex(sample.first.id), None)
    whats = [problem.what for problem in sample.check()[0]]
    assert f"commit in/{sample.second.id} has a parent, {sample.first.id}, that is missing" in whats


def test_a_tag_without_an_object_is_reported(sample: Sample) -> None:
    sample.put_row("tags", b"t", b"\1" * 32)
    found = sample.only(fix=True)
    assert (found.what, found.touches) == (f"tag t names object {'01' * 32}, which is missing", ("tag t",))
    assert not found.fixed


def test_a_tagged_tree_is_walked(sample: Sample) -> None:
    store = Store(sample.directory)
    upload = store.trees.upload()
    upload.write("a/b", b"q" * 6000)
    stored = upload.finish("result")
    store.close()
    assert sample.is_clean()
    sample.put_row("nodes", stored.top.root, None)
    assert sample.only().touches == ("tag result:/",)


def test_writes_staged_for_a_finished_commit_are_dropped_at_the_next_start(sample: Sample) -> None:
    sample.put_row("staging", bytes.fromhex(sample.first.id) + b"f\0\0", b"\1")
    assert sample.is_clean()
    assert sample.row("staging", bytes.fromhex(sample.first.id) + b"f\0\0") is None
