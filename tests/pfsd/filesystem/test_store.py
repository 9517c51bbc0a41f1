"""The store, without a daemon around it: staged writes, chunks, recovery."""

from __future__ import annotations

import os
import pathlib
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfsd._core import MAX_CHUNK, MIN_CHUNK
from pfsd.chunks import content
from pfsd.errors import CorruptError, IsADirectoryPfsError, NotADirectoryPfsError, NotFoundError, PfsError, StateError
from pfsd.filesystem.store import Store
from pfsd.model.staging import Write
from pfsd.trees import entries
from pfsd.trees.entries import FileEntry
from tests.support.stores import contents, put


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    opened = Store(tmp_path / "root")
    yield opened
    opened.close()


# --- any sequence of writes against a model

NAMES = st.sampled_from(["a", "b", "a-", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "append", "delete", "read", "finish"]), PATHS, st.integers(0, 255)),
    max_size=30,
)


class Model:
    """What a commit holds, as plain Python."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.directories: set[str] = set()

    def put(self, path: str, data: bytes, overwrite: bool) -> bool:
        """Whether it is allowed; done if so."""
        above = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if path in self.directories or any(name in self.files for name in above):
            return False
        self.directories.update(above)
        self.files[path] = data if overwrite else self.files.get(path, b"") + data
        return True

    def delete(self, path: str) -> None:
        self.files = {name: data for name, data in self.files.items() if not (name + "/").startswith(path + "/")}
        self.directories = {name for name in self.directories if not (name + "/").startswith(path + "/")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_sequence_of_writes_gives_what_a_dict_would(store: Store, steps: list[tuple[str, str, int]]) -> None:
    store.delete_all()
    store.repos.create("r")
    model = Model()
    commit = store.commits.start("r", branch="master")
    for action, path, number in steps:
        data = bytes([number]) * (number * 40)  # from nothing to beyond what waits inline
        if action in ("put", "append"):
            allowed = model.put(path, data, action == "put")
            try:
                put(store, commit, path, data, overwrite=action == "put")
            except (IsADirectoryPfsError, NotADirectoryPfsError):
                assert not allowed, (action, path)
            else:
                assert allowed, (action, path)
        elif action == "delete":
            model.delete(path)
            store.files.delete(commit, path)
        elif action == "read":
            assert contents(store, commit) == (model.files, model.directories)
        else:
            store.commits.finish("r", commit.id)
            commit = store.commits.start("r", branch="master")
    finished = store.commits.finish("r", commit.id)
    assert contents(store, finished) == (model.files, model.directories)
    assert finished.size == sum(map(len, model.files.values()))
    scratch = store.commits.start("r")
    for directory in model.directories:
        put(store, scratch, f"{directory}/x", b"")
        store.files.delete(scratch, f"{directory}/x")
    for path in sorted(model.files, reverse=True):
        put(store, scratch, path, model.files[path])
    assert store.commits.finish("r", scratch.id).root == finished.root


# --- chunks


def joined(store: Store, pieces: list[bytes]) -> FileEntry:
    nodes, chunks = store.root.nodes, store.root.chunks
    parts = [content.concatenate(nodes, chunks, [piece]) for piece in pieces]
    return content.concatenate(nodes, chunks, parts)


@pytest.mark.parametrize("seed", range(8))
def test_the_same_bytes_give_the_same_chunks_however_they_were_appended(store: Store, seed: int) -> None:
    chosen = random.Random(seed)
    data = chosen.randbytes(12 << 20)
    nodes, chunks = store.root.nodes, store.root.chunks
    whole = content.concatenate(nodes, chunks, [data])
    cuts = sorted(chosen.randrange(len(data)) for _ in range(chosen.randrange(1, 9)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert joined(store, pieces) == whole
    assert b"".join(content.read(nodes, chunks, whole)) == data
    sizes = [chunk.size for _, chunk in entries.chunks_from(nodes, whole)]
    assert max(sizes) <= MAX_CHUNK
    assert min(sizes[:-1]) >= MIN_CHUNK


def test_zeros_are_cut_as_if_they_were_written(store: Store) -> None:
    chunks, rng = store.root.chunks, random.Random(3)
    data = rng.randbytes(3 * MAX_CHUNK)
    for before in (0, 1, MIN_CHUNK, len(data)):
        for count in (0, 1, MIN_CHUNK, MAX_CHUNK, 3 * MAX_CHUNK + 17):
            written, told = content.ChunkWriter(chunks), content.ChunkWriter(chunks)
            want = [*written.write(data[:before] + bytes(count) + data[:MAX_CHUNK]), *written.finish()]
            found = [*told.write(data[:before]), *told.zeros(count), *told.write(data[:MAX_CHUNK]), *told.finish()]
            assert found == want


def test_ranges_of_a_file_of_many_chunks(store: Store) -> None:
    data = random.Random(1).randbytes(15_000_000)
    nodes, chunks = store.root.nodes, store.root.chunks
    entry = content.concatenate(nodes, chunks, [data])
    assert entry.chunk_root is not None
    for offset, size in [(0, 1), (14_999_999, 10), (3_000_000, 5_000_000), (15_000_000, 1), (99_000_000, 1)]:
        assert b"".join(content.read(nodes, chunks, entry, offset, size)) == data[offset : offset + size]


def test_appending_to_a_long_file_stores_only_its_end_anew(store: Store, tmp_path: pathlib.Path) -> None:
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    put(store, commit, "f", random.Random(2).randbytes(40 << 20))
    store.commits.finish("r", commit.id)
    before = stored_bytes(tmp_path)
    commit = store.commits.start("r", branch="master")
    put(store, commit, "f", b"one more line\n")
    store.commits.finish("r", commit.id)
    assert stored_bytes(tmp_path) - before <= 2 * MAX_CHUNK


def test_content_that_is_there_is_not_stored_again(store: Store, tmp_path: pathlib.Path) -> None:
    data = random.Random(3).randbytes(10 << 20)
    store.repos.create("r")
    for branch in ("a", "b"):
        commit = store.commits.start("r", branch=branch)
        for name in ("x", "y"):
            put(store, commit, name, data)
        store.commits.finish("r", commit.id)
    assert stored_bytes(tmp_path) < len(data) + (1 << 20)


def stored_bytes(tmp_path: pathlib.Path) -> int:
    """Bytes in packs."""
    root = tmp_path / "root"
    packs = [*(root / "spool").iterdir(), *(path for path in (root / "objects").rglob("*") if path.is_file())]
    return sum(path.stat().st_size for path in packs)


def test_full_packs_are_sealed_and_read_back(tmp_path: pathlib.Path) -> None:
    data = random.Random(4).randbytes(80 << 20)
    store = Store(tmp_path / "root")
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    put(store, commit, "f", data)
    store.commits.finish("r", commit.id)
    store.close()
    assert len([path for path in (tmp_path / "root/objects").rglob("*") if path.is_file()]) >= 2
    store = Store(tmp_path / "root")
    assert b"".join(store.files.read(store.commits.resolve("r", "master"), "f", 0, 0)) == data
    store.close()


def test_a_torn_pack_is_cut_at_start_up_and_what_was_synced_stays(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    put(store, commit, "kept", b"k" * 100_000)
    store.commits.finish("r", commit.id)
    torn = store.commits.start("r", branch="master")
    put(store, torn, "torn", b"t" * 100_000)
    store.close()
    (pack,) = (tmp_path / "root/spool").iterdir()
    os.truncate(pack, pack.stat().st_size - 10)
    store = Store(tmp_path / "root")
    assert b"".join(store.files.read(commit, "kept", 0, 0)) == b"k" * 100_000
    store.close()


def test_a_flipped_bit_is_noticed_when_it_is_read(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    put(store, commit, "f", b"f" * 100_000)
    store.commits.finish("r", commit.id)
    (pack,) = (tmp_path / "root/spool").iterdir()
    with pack.open("r+b") as file:
        file.seek(5000)
        file.write(b"F")
    with pytest.raises(CorruptError, match="does not match its hash"):
        list(store.files.read(commit, "f", 0, 0))
    store.close()


# --- commits


def test_what_a_refused_upload_brought_leaves_no_trace(store: Store) -> None:
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    put(store, commit, "file", b"x")
    upload = store.files.upload(commit)
    upload.begin("good")
    upload.write(b"y")
    upload.begin("file/below")
    upload.write(b"z")
    with pytest.raises(NotADirectoryPfsError, match="/file is a file"):
        upload.finish()
    assert contents(store, commit) == ({"file": b"x"}, set())


def test_an_upload_that_outlives_its_commit_is_refused(store: Store) -> None:
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    upload = store.files.upload(commit)
    upload.begin("late")
    upload.write(b"x")
    store.commits.finish("r", commit.id)
    with pytest.raises(StateError, match="is finished"):
        upload.finish()


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_staged_goes_with_its_repo_even_while_it_is_being_staged(store: Store, everything: bool) -> None:
    store.repos.create("r")
    opened = store.commits.start("r", branch="master")
    finished = store.commits.start("r", branch="other")
    put(store, opened, "before", b"x")
    store.commits.finish("r", finished.id)
    for refused in (store.commits.finish, store.commits.delete):
        with pytest.raises(StateError):
            refused("r", finished.id)
    area = store.commits.open_staging(opened)

    def writes() -> Iterator[Write]:
        yield Write(("a",), (b"x",))
        if everything:
            store.delete_all()
        else:
            store.repos.delete("r")
        yield Write(("b",), (b"x",))

    with area.lock, pytest.raises(NotFoundError, match="the commit was deleted"):
        area.apply(writes())
    for late in (store.commits.open_staging, store.commits.staging, store.commits.tree):
        with pytest.raises(NotFoundError, match="was deleted meanwhile"):
            late(opened)
    assert list(store.root.db.scan("staging", b"")) == []
    assert len(store.repos.areas) == 0


def test_ancestors_can_be_named_from_a_branch(store: Store) -> None:
    store.repos.create("r")
    made = []
    for number in range(4):
        commit = store.commits.start("r", branch="master")
        put(store, commit, f"f{number}", b"")
        made.append(store.commits.finish("r", commit.id))
    for name, place in [
        ("master^", 2),
        ("master^^", 1),
        ("master~3", 0),
        ("master~1^", 1),
        (f"{made[3].id}^", 2),
    ]:
        assert store.commits.resolve("r", name).id == made[place].id
    with pytest.raises(PfsError, match="master~4 not found in repo r"):
        store.commits.resolve("r", "master~4")


def test_damage_in_a_growing_pack_costs_only_the_chunk_that_it_hit(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    commit = store.commits.start("r", branch="master")
    for number in range(10):
        put(store, commit, f"f{number}", bytes([number]) * 50_000)
    commit = store.commits.finish("r", commit.id)
    store.close()
    (pack,) = (tmp_path / "root/spool").iterdir()
    with pack.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    store = Store(tmp_path / "root")
    with pytest.raises(CorruptError, match="does not match its hash"):
        list(store.files.read(commit, "f0", 0, 0))
    for number in range(1, 10):
        assert b"".join(store.files.read(commit, f"f{number}", 0, 0)) == bytes([number]) * 50_000
    store.close()
