"""Checking and repairing: every kind of damage is found with what it touches, and what can be repaired is."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import re
import shutil
import struct
import threading
from collections.abc import Callable

import pytest
from blake3 import blake3
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import CorruptError, FormatError, StateError
from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.local.packs import RECORD, index_row, location, pack_object
from pfsd.model import records
from pfsd.model.records import Commit, CommitRef
from pfsd.trees import tree
from pfsd.trees.entries import DirEntry, FileEntry
from pfsd.upkeep import fsck
from pfsd.upkeep.checks import wal as fsck_wal
from pfsd.upkeep.checks.findings import HashSet, Problem, Summary
from tests.pfsd.filesystem.test_store import put
from tests.support.daemons import commit, running

SIZES = {"big": 3_000_000, "d/e/mid": 300_000, "d/small": 5_000, "other": 700_000}


@dataclasses.dataclass
class Sample:
    """A root with two repos, and what is in it."""

    directory: pathlib.Path
    files: dict[str, bytes]
    first: Commit
    second: Commit
    """Of the same repo; changes `other` and adds `late`."""
    derived: Commit
    """Of repo `out`, which comes from `in`."""

    def check(self, *, fix: bool = False) -> tuple[list[Problem], Summary]:
        *problems, summary = fsck.check_root(self.directory, fix)
        assert isinstance(summary, Summary)
        found = [problem for problem in problems if isinstance(problem, Problem)]
        assert len(found) == len(problems) == summary.problems
        assert summary.fixed == sum(problem.fixed for problem in found)
        return found, summary

    def only(self, *, fix: bool = False) -> Problem:
        """The one problem there is."""
        (found,) = self.check(fix=fix)[0]
        return found

    def is_clean(self) -> bool:
        return self.check()[0] == []

    def edit(self, change: Callable[[Database], None]) -> None:
        database = Database(self.directory / "meta")
        change(database)
        database.close()

    def row(self, family: str, key: bytes) -> bytes | None:
        database = Database(self.directory / "meta")
        value = database.get(family, key)
        database.close()
        return value

    def put_row(self, family: str, key: bytes, value: bytes | None) -> None:
        def change(database: Database) -> None:
            batch = database.batch()
            if value is None:
                batch.delete(family, key)
            else:
                batch.put(family, key, value)
            database.write(batch, sync=True)

        self.edit(change)

    def read(self, at: Commit, path: str) -> bytes:
        store = Store(self.directory)
        try:
            return b"".join(store.files.read(at, path, 0, 0))
        finally:
            store.close()

    def places(self, path: str, *commits: Commit) -> set[str]:
        return {f"{at.repo}/{at.id}:{path}" for at in commits}

    def chunk_of(self, path: str) -> bytes:
        """The hash of the first chunk of a file of the first commit."""
        store = Store(self.directory)
        entry = store.files.inspect(self.first, path)
        assert isinstance(entry, FileEntry)
        name = next(iter(store.files.chunks(entry))).hash
        store.close()
        return name

    def directory_node(self, path: str) -> bytes:
        """The root node of a directory of the first commit."""
        store = Store(self.directory)
        entry = store.files.inspect(self.first, path)
        store.close()
        assert isinstance(entry, DirEntry)
        return entry.root

    def sealed(self) -> list[pathlib.Path]:
        return sorted(path for path in (self.directory / "objects").rglob("*") if path.is_file())


def finished(store: Store, repo: str, files: dict[str, bytes], *sources: Commit) -> Commit:
    provenance = [CommitRef(source.repo, source.id) for source in sources]
    opened = store.commits.start(repo, branch="master", provenance=provenance)
    for path, data in files.items():
        put(store, opened, path, data, overwrite=True)
    return store.commits.finish(repo, opened.id)


@pytest.fixture
def sample(tmp_path: pathlib.Path) -> Sample:
    """The first commit's chunks are in a sealed pack, the others' in the spool."""
    chosen = random.Random(7)
    files = {path: chosen.randbytes(size) for path, size in SIZES.items()}
    store = Store(tmp_path / "root")
    store.repos.create("in")
    store.repos.create("out", ["in"])
    first = finished(store, "in", files)
    store.root.chunks.seal_if(lambda _pack, _size: True)
    second = finished(store, "in", {"other": chosen.randbytes(600_000), "late": b"l" * 50_000})
    derived = finished(store, "out", {"x": chosen.randbytes(10_000), "copied": files["d/small"]}, second)
    store.close()
    sample = Sample(tmp_path / "root", files, first, second, derived)
    sample.edit(empty_journal)
    return sample


def empty_journal(database: Database) -> None:
    """As it is once the packs are synced: damage to them is not mended from it."""
    batch = database.batch()
    for key, _ in database.scan("journal", b""):
        batch.delete("journal", key)
    database.write(batch, sync=True)


def flip(path: pathlib.Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 0x10,)))


def where(sample: Sample, name: bytes) -> tuple[pathlib.Path, int, int]:
    """The pack in which the index says that a chunk is, and the offset and size there."""
    row = sample.row("chunks", name)
    assert row is not None
    at = location(row)
    sealed = sample.directory / "objects" / pack_object(at.pack)
    return sealed if sealed.exists() else sample.directory / "spool" / at.pack, at.offset, at.size


# --- a sound store


def test_a_sound_store_has_no_problems_and_is_counted(sample: Sample) -> None:
    problems, summary = sample.check()
    assert problems == []
    assert (summary.repos, summary.commits, summary.packs) == (2, 3, 2)
    assert summary.chunks >= 8
    assert summary.bytes == sum(path.stat().st_size for path in [*sample.sealed(), *sample.directory.glob("spool/*")])
    assert summary.nodes == 5  # three roots, d and d/e


def test_an_open_commit_with_writes_is_no_problem(sample: Sample) -> None:
    store = Store(sample.directory)
    opened = store.commits.start("in", branch="master")
    put(store, opened, "d/new", b"x" * 100_000)
    put(store, opened, "tiny", b"x")
    store.close()
    assert sample.is_clean()


def test_a_root_that_a_daemon_serves_is_left_to_the_daemon(sample: Sample) -> None:
    with running(sample.directory, "--no-pipelines"), pytest.raises(StateError, match="served by another pfsd"):
        list(fsck.check_root(sample.directory, False))


def test_what_is_not_a_root_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FormatError, match="not a root of pfsd"):
        list(fsck.check_root(tmp_path, False))


# --- packs and the chunk index


def test_a_flipped_bit_in_a_sealed_pack_touches_the_file_in_every_commit(sample: Sample) -> None:
    name = sample.chunk_of("d/small")
    pack, offset, _ = where(sample, name)
    flip(pack, offset + 100)
    found = sample.only()
    assert found.what == (
        f"pack {pack.name}, of {pack.stat().st_size} bytes, is damaged: chunk {name.hex()} can't be read there "
        "and there is no other copy: put the same content again to restore it"
    )
    expected = sample.places("/d/small", sample.first, sample.second) | sample.places("/copied", sample.derived)
    assert set(found.touches) == expected
    assert found.touched == 3
    assert not found.fixed
    assert sample.read(sample.second, "big") == sample.files["big"]
    with pytest.raises(CorruptError):
        sample.read(sample.first, "d/small")


def test_lost_content_that_is_put_again_heals_every_commit(sample: Sample) -> None:
    pack, offset, _ = where(sample, sample.chunk_of("d/small"))
    flip(pack, offset)
    assert not sample.only(fix=True).fixed
    store = Store(sample.directory)
    store.repos.create("again")
    finished(store, "again", {"f": sample.files["d/small"]})
    store.close()
    assert sample.read(sample.first, "d/small") == sample.files["d/small"]
    assert "damaged at byte" in sample.only().what  # the old bytes, which nothing names any more


def test_a_missing_pack(sample: Sample) -> None:
    (pack,) = sample.sealed()
    pack.unlink()
    lost, again = sample.check()[0]
    assert re.fullmatch(
        f"pack {pack.name} is missing: [0-9]+ chunks can't be read there and there is no other copy: "
        "put the same content again to restore it",
        lost.what,
    )
    expected = sample.places("/copied", sample.derived)
    for path in ("/big", "/d/e/mid", "/d/small"):
        expected |= sample.places(path, sample.first, sample.second)
    assert set(lost.touches) == expected | sample.places("/other", sample.first)
    assert lost.touched == len(lost.touches)
    assert again.touches == (f"in/{sample.first.id}",)
    assert "can be made again: it is the tree object of a commit" in again.what
    assert [problem.fixed for problem in sample.check(fix=True)[0]] == [False, True]
    assert sample.read(sample.second, "late") == b"l" * 50_000


def test_a_truncated_pack_in_the_spool(sample: Sample) -> None:
    (pack,) = (sample.directory / "spool").iterdir()
    os.truncate(pack, 400_000)
    problems, _ = sample.check()
    touched = {place for problem in problems for place in problem.touches}
    assert sample.places("/late", sample.second) | sample.places("/x", sample.derived) <= touched
    assert sample.places("/big", sample.first).isdisjoint(touched)
    assert all("can't be read there" in problem.what for problem in problems)
    assert sample.read(sample.second, "big") == sample.files["big"]


def test_a_flipped_bit_in_a_growing_pack_costs_only_its_own_chunk(sample: Sample) -> None:
    (pack,) = (sample.directory / "spool").iterdir()
    flip(pack, 8 + RECORD.size + 1000)
    kept, lost = sample.check()[0]
    assert kept.fixed
    assert re.match(f"pack {pack.name}, which was still growing, is damaged at byte [0-9]+, before [0-9]+ ", kept.what)
    assert lost.touches == tuple(sample.places("/other", sample.second))
    assert sample.read(sample.second, "late") == b"l" * 50_000


def test_a_missing_index_entry_is_found_in_the_packs(sample: Sample) -> None:
    name = sample.chunk_of("big")
    row = sample.row("chunks", name)
    sample.put_row("chunks", name, None)
    found = sample.only()
    assert found.what == f"chunk {name.hex()} is missing from the chunk index, but intact in a pack"
    assert set(found.touches) == sample.places("/big", sample.first, sample.second)
    assert sample.only(fix=True).fixed
    assert sample.row("chunks", name) == row
    assert sample.is_clean()
    assert sample.read(sample.first, "big") == sample.files["big"]


def test_an_empty_index_is_made_again_from_the_packs(sample: Sample) -> None:
    before: dict[bytes, bytes] = {}

    def clear(database: Database) -> None:
        before.update(database.scan("chunks", b""))
        batch = database.batch()
        for key in before:
            batch.delete("chunks", key)
        database.write(batch, sync=True)

    for path in list((sample.directory / "spool").iterdir()):  # a growing pack is entered again at every start
        target = sample.directory / "objects" / pack_object(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    sample.edit(clear)
    problems, _ = sample.check(fix=True)
    assert problems
    assert all(problem.fixed for problem in problems)
    assert sample.is_clean()
    after: dict[bytes, bytes] = {}
    sample.edit(lambda database: after.update(database.scan("chunks", b"")))
    assert after == before


@pytest.mark.parametrize("row", [index_row("ab" * 16, 8, 100, False), b"short"], ids=["elsewhere", "malformed"])
def test_a_wrong_index_entry_is_replaced(sample: Sample, row: bytes) -> None:
    name = sample.chunk_of("d/e/mid")
    sample.put_row("chunks", name, row)
    found = sample.only()
    assert found.what.endswith(f"chunk {name.hex()} can't be read there, but intact in a pack")
    assert set(found.touches) == sample.places("/d/e/mid", sample.first, sample.second)
    assert sample.only(fix=True).fixed
    assert sample.is_clean()
    assert sample.read(sample.second, "d/e/mid") == sample.files["d/e/mid"]


def test_an_intact_copy_takes_the_place_of_a_damaged_one(sample: Sample) -> None:
    name = sample.chunk_of("d/small")
    pack, offset, size = where(sample, name)
    data = pack.read_bytes()[offset : offset + size]
    other = "cd" * 16
    target = sample.directory / "objects" / pack_object(other)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"PFSPACK1" + RECORD.pack(name, size, 0) + data)
    flip(pack, offset)
    assert sample.only(fix=True).fixed
    assert sample.read(sample.first, "d/small") == sample.files["d/small"]
    assert [problem.what for problem in sample.check()[0]] == [
        f"pack {pack.name} is damaged at byte {offset - RECORD.size}, "
        "and every chunk that the index names in it is intact"
    ]


def test_an_index_entry_that_nothing_uses_and_that_is_wrong_is_removed(sample: Sample) -> None:
    name = blake3(b"nowhere").digest()
    sample.put_row("chunks", name, index_row("ab" * 16, 8, 7, False))
    found = sample.only()
    assert found.what.endswith("; nothing uses it")
    assert found.touched == 0
    assert sample.only(fix=True).fixed
    assert sample.is_clean()


def test_only_the_first_places_are_named_and_all_are_counted(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    data = random.Random(1).randbytes(9000)
    made = finished(store, "r", {f"f{number:03}": data for number in range(50)})
    (spool,) = store.root.spool.iterdir()
    store.close()
    sample = Sample(tmp_path / "root", {}, made, made, made)
    sample.edit(empty_journal)
    flip(spool, 8 + RECORD.size)
    lost = sample.check()[0][-1]
    assert lost.touched == 50
    assert len(lost.touches) == 20


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


# --- the root and its metadata


def test_a_lost_or_wrong_format_file_is_restored(sample: Sample) -> None:
    path = sample.directory / "FORMAT"
    words = path.read_text()
    path.unlink()
    assert sample.only().what == "the file FORMAT is missing or damaged"
    assert not path.exists()
    assert sample.only(fix=True).fixed
    assert path.read_text() == words
    path.write_text("rubbish\n")
    assert sample.only(fix=True).fixed
    assert path.read_text() == words
    assert sample.is_clean()


def tables(sample: Sample, family: str) -> list[pathlib.Path]:
    """The table files of a column family, whose name is in their properties."""
    found = sorted((sample.directory / "meta").glob("*.sst"))
    return [path for path in found if b"name" + family.encode() in path.read_bytes()[-4096:]]


def test_a_truncated_table_file_loses_its_rows_and_what_follows_from_others_is_made_again(sample: Sample) -> None:
    for path in tables(sample, "history"):
        os.truncate(path, path.stat().st_size // 2)
    unopened, consequence = sample.check()[0]
    assert unopened.what.startswith(f"the metadata in {sample.directory}/meta can't be opened: Corruption")
    assert consequence.what.startswith("the metadata was not opened, so nothing else was checked")
    problems, _ = sample.check(fix=True)
    assert all(problem.fixed for problem in problems)
    assert sum("missing from its repo's list" in problem.what for problem in problems) == 3
    assert sample.is_clean()
    assert sample.read(sample.first, "big") == sample.files["big"]
    assert list(sample.directory.glob("meta.damaged-*/*.sst"))


def test_a_truncated_table_file_of_the_chunk_index_is_made_again_from_the_packs(sample: Sample) -> None:
    for path in tables(sample, "chunks"):
        os.truncate(path, 100)
    problems, _ = sample.check(fix=True)
    assert problems
    assert all(problem.fixed for problem in problems)
    assert sample.is_clean()
    assert sample.read(sample.derived, "copied") == sample.files["d/small"]


def test_a_flipped_bit_in_a_table_file_is_reported(sample: Sample) -> None:
    (path, *_) = tables(sample, "branches")
    flip(path, 3)
    found = sample.only()
    assert found.what.startswith("the metadata of branches can't be read: Corruption: block checksum mismatch")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_manifest_is_repaired(sample: Sample, share: float) -> None:
    (manifest,) = (sample.directory / "meta").glob("MANIFEST-*")
    os.truncate(manifest, int(manifest.stat().st_size * share))
    problems, _ = sample.check()
    what = f"the metadata's list of files, {manifest.name}, is damaged or cut short at byte [0-9]+"
    assert re.fullmatch(what, problems[0].what)
    assert "the metadata was not opened" in problems[1].what
    problems, _ = sample.check(fix=True)
    assert all(problem.fixed for problem in problems)
    assert sample.is_clean()
    assert sample.read(sample.second, "late") == b"l" * 50_000


def killed_copy(sample: Sample) -> Sample:
    """A root as a kill leaves it: the newest rows are only in the log."""
    store = Store(sample.directory)
    last = finished(store, "in", {"last": b"z" * 20_000})
    copy = sample.directory.parent / "copy"
    shutil.copytree(sample.directory, copy)
    store.close()
    return dataclasses.replace(sample, directory=copy, derived=last)


def test_rows_that_are_only_in_the_log_survive_the_repair_of_a_manifest(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    made = finished(store, "r", {"f": b"f" * 10_000})
    shutil.copytree(tmp_path / "root", tmp_path / "copy")  # no family has a table file yet
    store.close()
    sample = Sample(tmp_path / "copy", {}, made, made, made)
    (manifest,) = (sample.directory / "meta").glob("MANIFEST-*")
    os.truncate(manifest, manifest.stat().st_size - 40)
    flip(manifest, 20)
    problems, _ = sample.check(fix=True)
    assert problems
    assert all(problem.fixed for problem in problems)
    assert sample.is_clean()
    assert sample.read(made, "f") == b"f" * 10_000


def test_a_log_that_ends_in_a_torn_record_is_no_problem(sample: Sample) -> None:
    copy = killed_copy(sample)
    (path,) = (copy.directory / "meta").glob("*.log")
    with path.open("ab") as file:
        file.write(struct.pack("<IHB", 1, 500, 1) + b"torn")
    assert copy.is_clean()
    assert copy.read(copy.derived, "last") == b"z" * 20_000


def test_a_log_damaged_in_its_middle_keeps_what_follows(sample: Sample) -> None:
    store = Store(sample.directory)
    made = [finished(store, "in", {f"n{number}": b"%d" % number * 30_000}) for number in range(60)]
    copy = sample.directory.parent / "copy"
    shutil.copytree(sample.directory, copy)
    store.close()
    damaged = dataclasses.replace(sample, directory=copy)
    (path,) = (copy / "meta").glob("*.log")
    flip(path, fsck_wal.BLOCK_BYTES + 20)
    first, consequence = damaged.check()[0]
    assert re.fullmatch(f"the metadata's log {path.name} is damaged at byte [0-9]+", first.what)
    assert "was not opened" in consequence.what
    problems, _ = damaged.check(fix=True)
    assert problems[0].fixed
    assert damaged.read(made[-1], "n59") == b"59" * 30_000
    assert damaged.read(sample.first, "big") == sample.files["big"]


# --- while the store is used


def test_no_problem_is_seen_while_others_write_and_collect_garbage(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", "--no-pipelines") as daemon:
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        stop = threading.Event()
        failures: list[BaseException] = []

        def write(number: int) -> None:
            chosen = random.Random(number)
            try:
                while not stop.is_set():
                    opened = daemon.start_commit(f"r{number}")
                    daemon.put(opened, f"d/{chosen.randrange(9)}", chosen.randbytes(chosen.choice((10, 9000, 900_000))))
                    if chosen.random() < 0.3:
                        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=opened))
                    else:
                        daemon.finish_commit(opened)
            except BaseException as error:
                failures.append(error)
                raise

        def collect() -> None:
            try:
                while not stop.is_set():
                    admin.CollectGarbage(Empty())
            except BaseException as error:
                failures.append(error)
                raise

        for number in range(3):
            daemon.create_repo(f"r{number}")
        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        threads.append(threading.Thread(target=collect))
        for thread in threads:
            thread.start()
        try:
            for fix in (False, True, False, True):
                *problems, last = list(admin.Fsck(pfsd_pb2.FsckRequest(fix=fix), timeout=60))
                assert problems == []
                assert last.summary.repos == 3
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []


def test_a_served_store_is_checked_and_repaired(sample: Sample) -> None:
    name = sample.chunk_of("big")
    sample.put_row("chunks", name, None)
    with running(sample.directory, "--no-pipelines") as daemon:
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        found, last = list(admin.Fsck(pfsd_pb2.FsckRequest(fix=True)))
        assert found.problem.fixed
        assert found.problem.touched == 2
        assert last.summary.fixed == 1
        assert daemon.get(commit("in", sample.first.id), "big") == sample.files["big"]
        (last,) = list(admin.Fsck(pfsd_pb2.FsckRequest()))
        assert last.summary.problems == 0


def test_the_compact_set_behaves_like_a_set() -> None:
    chosen = random.Random(5)
    names = [chosen.randbytes(32) for _ in range(20_000)] + [bytes(32)]
    compact = HashSet()
    assert all(compact.add(name) for name in names)
    assert not any(compact.add(name) for name in names)
    assert all(name in compact for name in names)
    assert not any(chosen.randbytes(32) in compact for _ in range(20_000))
    assert len(compact) == len(names)
