"""Garbage collection: what can't be reached goes, what can stays, also while everything else goes on."""

from __future__ import annotations

import pathlib
import random
import threading
from collections.abc import Iterator

import pytest

from pfsd.errors import NotFoundError, StateError
from pfsd.filesystem.store import Store
from pfsd.filesystem.trees import TreeChange
from pfsd.model.records import Commit
from pfsd.trees import tree
from pfsd.upkeep.collect import collect_garbage
from tests.pfsd.filesystem.test_merging import merge
from tests.support.stores import contents, put


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    opened = Store(tmp_path / "root")
    yield opened
    opened.close()


def used(tmp_path: pathlib.Path) -> int:
    """Bytes of all packs."""
    root = tmp_path / "root"
    files = [*(root / "spool").iterdir(), *(path for path in (root / "objects").rglob("*") if path.is_file())]
    return sum(path.stat().st_size for path in files)


def finished(store: Store, repo: str, files: dict[str, bytes], branch: str = "master") -> Commit:
    commit = store.commits.start(repo, branch=branch)
    for path, data in files.items():
        put(store, commit, path, data)
    return store.commits.finish(repo, commit.id)


def test_what_a_deleted_repo_held_alone_is_freed_and_the_rest_stays(store: Store, tmp_path: pathlib.Path) -> None:
    chosen = random.Random(1)
    shared, own = chosen.randbytes(20 << 20), chosen.randbytes(50 << 20)
    small = {f"small/{number}": chosen.randbytes(100) for number in range(2000)}
    store.repos.create("kept")
    store.repos.create("gone")
    kept = finished(store, "kept", {"shared": shared, "d/one": b"one", **small})
    finished(store, "gone", {"shared": shared, "own": own, "small/0": b"else"})
    before = used(tmp_path)
    assert collect_garbage(store.root).chunks_removed == 0
    store.repos.delete("gone")
    report = collect_garbage(store.root)
    assert report.bytes_freed > 35 << 20
    assert used(tmp_path) < before - (35 << 20)
    assert report.nodes_removed >= 2
    assert contents(store, kept)[0] == {"shared": shared, "d/one": b"one", **small}
    store.close()
    reopened = Store(tmp_path / "root")
    assert contents(reopened, kept)[0]["shared"] == shared
    assert collect_garbage(reopened.root).bytes_freed == 0
    reopened.close()
    store.__init__(tmp_path / "root")  # type: ignore[misc]  # for the fixture to close


def test_open_commits_tags_and_objects_with_tags_stay(store: Store) -> None:
    store.repos.create("r")
    opened = store.commits.start("r", branch="master")
    put(store, opened, "staged", b"s" * 100_000)
    put(store, opened, "folded", b"f" * 100_000)
    assert "folded" in contents(store, opened)[0]
    put(store, opened, "later", b"l" * 5_000_000)
    upload = store.trees.upload()
    upload.write("out", b"o" * 100_000)
    upload.finish("datum/1")
    tagged = store.objects.put([b"t" * 9_000_000], ["keep"])
    loose = store.objects.put([b"x" * 9_000_000])
    report = collect_garbage(store.root)
    assert report.chunks_removed >= 1
    assert b"".join(store.objects.read([tagged])) == b"t" * 9_000_000
    with pytest.raises(NotFoundError):
        store.objects.get(loose)
    done = store.commits.start("r", branch="from-tag")
    merge(store, done, ["datum/1"])
    store.commits.finish("r", done.id)
    assert contents(store, done)[0] == {"out": b"o" * 100_000}
    store.commits.finish("r", opened.id)
    assert contents(store, opened)[0] == {
        "staged": b"s" * 100_000,
        "folded": b"f" * 100_000,
        "later": b"l" * 5_000_000,
    }


def test_an_upload_that_began_before_a_collection_ends_well_after_it(store: Store) -> None:
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    data = random.Random(2).randbytes(40 << 20)
    upload = store.files.upload(commit)
    upload.begin("f")
    upload.write(data[: 30 << 20])
    collect_garbage(store.root)
    upload.write(data[30 << 20 :])
    collect_garbage(store.root)
    upload.finish()
    collect_garbage(store.root)
    store.commits.finish("r", commit.id)
    assert contents(store, commit)[0] == {"f": data}


def test_only_one_collection_runs_at_a_time(store: Store) -> None:
    store.repos.create("r")
    finished(store, "r", {f"{number}": b"%d" % number * 3000 for number in range(300)})
    outcomes = []

    def collect() -> None:
        try:
            collect_garbage(store.root)
            outcomes.append("done")
        except StateError:
            outcomes.append("refused")

    threads = [threading.Thread(target=collect) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in outcomes


def test_nothing_finished_is_harmed_by_collections_in_a_loop_under_load(store: Store) -> None:
    """Writers bring the same content again and again, as it becomes garbage under their hands."""
    pool = [random.Random(seed).randbytes(30_000) for seed in range(12)]
    big = [random.Random(seed).randbytes(6_000_000) for seed in range(3)]
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        chosen = random.Random(number)
        turn = 0
        try:
            while not stop.is_set():
                repo = f"r{number}-{turn}"
                turn += 1
                store.repos.create(repo)
                files = {
                    f"d{chosen.randrange(3)}/{name}": chosen.choice(pool) for name in range(chosen.randrange(1, 9))
                }
                if chosen.random() < 0.3:
                    files["big"] = chosen.choice(big)
                commit = finished(store, repo, files)
                tags = [f"{repo}/{name}" for name in range(3)]
                for tag in tags:
                    upload = store.trees.upload()
                    upload.write(f"of/{tag[-1]}", chosen.choice(pool))
                    upload.finish(tag)
                merged = store.commits.start(repo, branch="merged")
                changes = [TreeChange(tag[-1], tag) for tag in tags]
                store.trees.merge_into(merged, changes[:2], result=f"{repo}/merge")
                store.tags.delete(tags[:2])
                store.trees.merge_into(merged, changes[2:], base=f"{repo}/merge")
                store.tags.delete([tags[2], f"{repo}/merge"])
                store.commits.finish(repo, merged.id)
                rebuilt = store.build_commit(repo, commit.tree, branch="built")
                assert contents(store, commit)[0] == files
                assert contents(store, rebuilt)[0] == files
                assert len(contents(store, merged)[0]) == 3
                if chosen.random() < 0.7:
                    store.repos.delete(repo)
        except BaseException as error:  # noqa: BLE001 (shown below, in the test's own thread)
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    turns = removed = 0
    try:
        while (turns < 25 or not removed) and not failures:
            removed += collect_garbage(store.root).chunks_removed
            turns += 1
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert failures == []
    for repo in store.repos.list():
        for commit in store.commits.history.list(repo.name):
            contents(store, commit)


def test_a_tree_that_lost_a_node_stops_the_collection_before_anything_goes(store: Store) -> None:
    store.repos.create("r")
    commit = finished(store, "r", {"a": b"x", "b/c": b"y"})
    loose = store.objects.put([b"x" * 9_000_000])
    batch = store.root.db.batch()
    batch.delete("nodes", bytes.fromhex(commit.root))
    store.root.db.write(batch)
    with pytest.raises(Exception, match="missing from the store"):
        collect_garbage(store.root)
    assert store.objects.find(loose) is not None
    assert commit.root != tree.EMPTY.hex()
