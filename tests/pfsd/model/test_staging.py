"""Staged writes against a plain model of files and directories."""

from __future__ import annotations

import pathlib
import random
import uuid
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfsd.chunks import content
from pfsd.errors import IsADirectoryPfsError, NotADirectoryPfsError
from pfsd.model.root import Root
from pfsd.model.staging import Staging, Write
from pfsd.names.paths import Path
from pfsd.trees import dirs, entries, tree
from pfsd.trees.entries import Chunk, FileEntry
from tests.support.memory import MemoryNodes

MIB = 1 << 20

NAMES = st.sampled_from(["a", "b", "a.b", "\x01", "\U0010ffff"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
PIECES = st.lists(st.binary(max_size=3), max_size=2)
PUT = st.builds(Write, PATHS, PIECES, st.booleans())
REMOVE = st.builds(Write, st.just(()) | PATHS, remove=st.just(True))
BATCHES = st.lists(st.lists(PUT | PUT | PUT | REMOVE, max_size=6), max_size=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """An open root."""
    opened = Root(tmp_path_factory.mktemp("staging") / "root")
    yield opened
    opened.close()


class Model:
    """What a staging area stands for: files with their bytes, and directories."""

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.directories: set[Path] = {()}

    def copy(self) -> Model:
        other = Model()
        other.files, other.directories = dict(self.files), set(self.directories)
        return other

    def write(self, write: Write) -> None:
        path = write.path
        if write.remove:
            self.files = {other: data for other, data in self.files.items() if other[: len(path)] != path}
            self.directories = {other for other in self.directories if other[: len(path)] != path} | {()}
            return
        for depth in range(1, len(path)):
            if path[:depth] in self.files:
                raise NotADirectoryPfsError
            self.directories.add(path[:depth])
        if path in self.directories:
            raise IsADirectoryPfsError
        before = b"" if write.overwrite else self.files.get(path, b"")
        self.files[path] = before + b"".join(piece for piece in write.pieces if isinstance(piece, bytes))


def staged(root: Root, base: bytes = tree.EMPTY, area: bytes | None = None) -> Staging:
    """A staging area: a new one, or the one of that id as a new run of the daemon finds it."""
    return Staging(root.db, root.nodes, root.chunks, area or uuid.uuid4().bytes, base)


def settle(root: Root, staging: Staging, base: bytes) -> None:
    """What follows a fold: the rows go, the new tree is the base."""
    batch = root.db.batch()
    staging.discard(batch)
    root.db.write(batch)
    staging.rebase(base)


def found(root: Root, top: bytes) -> tuple[dict[Path, bytes], set[Path]]:
    files, directories = {}, set()
    for path, entry in dirs.walk(root.nodes, entries.dir_entry(root.nodes, top)):
        if isinstance(entry, FileEntry):
            files[path] = b"".join(content.read(root.nodes, root.chunks, entry))
        else:
            directories.add(path)
    return files, directories


def apply_both(staging: Staging, model: Model, batch: Sequence[Write]) -> Model:
    """The model after a batch, which is applied whole or not at all."""
    changed = model.copy()
    try:
        for write in batch:
            changed.write(write)
    except (IsADirectoryPfsError, NotADirectoryPfsError) as error:
        with pytest.raises(type(error)):
            staging.apply(batch)
        return model
    staging.apply(batch)
    return changed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, events=st.lists(st.sampled_from(["", "", "fold", "restart"]), min_size=6, max_size=6))
def test_folded_writes_are_those_of_the_model(root: Root, batches: list[list[Write]], events: list[str]) -> None:
    base, area = tree.EMPTY, uuid.uuid4().bytes
    staging, model = staged(root, base, area), Model()
    for batch, event in zip(batches, events, strict=False):
        model = apply_both(staging, model, batch)
        if event == "fold":
            base = staging.fold()
            settle(root, staging, base)
        elif event == "restart":
            staging = staged(root, base, area)
    top = staging.fold()
    assert found(root, top) == (model.files, model.directories)
    scratch = staged(root)
    scratch.apply([Write(path, (data,)) for path, data in model.files.items()])
    if model.directories == {path[:depth] for path in model.files for depth in range(len(path))} | {()}:
        assert scratch.fold() == top
    for used in (staging, scratch):
        settle(root, used, tree.EMPTY)


def test_one_batch_may_name_more_files_than_are_remembered(root: Root) -> None:
    staging = staged(root)
    names = [f"d{number % 7}/{number}".split("/") for number in range(6000)]
    staging.apply([Write((a, b), (b"%d" % turn,)) for turn in range(2) for a, b in names])
    staging.apply([Write((a, b), (b"2",)) for a, b in names])
    staging.apply([Write((a, b), (b"3",)) for a, b in reversed(names)])
    top = entries.dir_entry(root.nodes, staging.fold())
    assert (top.size, top.files, top.directories) == (24_000, 6000, 7)
    files, _ = found(root, top.root)
    assert set(files.values()) == {b"0123"}


def test_many_deletes_and_overwrites_leave_what_was_put_last(root: Root) -> None:
    base = staged(root)
    base.apply([Write((f"{number}",), (b"base",)) for number in range(2000)])
    staging = staged(root, base.fold())
    staging.apply([Write((f"{number}",), [b"x"] * (number // 10)) for number in range(1500)])
    staging.apply([Write((f"{number}",), (b"new",), overwrite=True) for number in range(1000)])
    staging.apply([Write((f"{number}",), remove=True) for number in range(0, 2000, 2)])
    staging.apply([Write((f"{number}",), (b"again",)) for number in range(0, 2000, 4)])
    files, _ = found(root, staging.fold())
    assert files == {(f"{number}",): b"again" for number in range(0, 2000, 4)} | {
        (f"{number}",): b"new" if number < 1000 else b"base" + b"x" * (number // 10 if number < 1500 else 0)
        for number in range(1, 2000, 2)
    }


def test_many_rows_of_a_directory_give_the_tree_built_from_scratch(root: Root) -> None:
    numbers = list(range(5000))
    random.Random(1).shuffle(numbers)
    first = staged(root)
    first.apply([Write((f"{number:05d}",), (b"x",)) for number in numbers[:3000]])
    second = staged(root, first.fold())
    second.apply([Write((f"{number:05d}",), (b"x",)) for number in numbers[3000:]])
    whole = staged(root)
    whole.apply([Write((f"{number:05d}",), (b"x",)) for number in numbers])
    assert second.fold() == whole.fold()


@pytest.mark.parametrize("depth", [256, 512])
def test_paths_may_be_deep(root: Root, depth: int) -> None:
    path = tuple(f"{number}" for number in range(depth - 1))
    staging = staged(root)
    staging.apply([Write((*path, "file"), (b"x",)), Write((*path[:100], "other"), (b"yy",))])
    top = staging.fold()
    entry = entries.dir_entry(root.nodes, top)
    assert (entry.size, entry.files, entry.directories) == (3, 2, depth - 1)
    assert dirs.lookup(root.nodes, entry, (*path, "file")) == entries.decode(
        entries.encode_chunk(root.chunks.add(b"x"))
    )
    assert len(list(dirs.walk(root.nodes, entry))) == depth + 2
    copy = staged(root)
    copy.apply([Write((), directory=entry)])
    assert copy.fold() == top
    again = staged(root, top)
    again.delete(path)
    again.delete((*path[:100], "other"))
    assert entries.dir_entry(root.nodes, again.fold()).files == 0


def test_a_directory_is_merged_into_what_is_there(root: Root) -> None:
    source = staged(root)
    source.apply([Write(("d", "new"), (b"n",)), Write(("d", "both"), (b"2",)), Write(("e", "f", "g"), (b"g",))])
    directory = entries.dir_entry(root.nodes, source.fold())
    target = staged(root)
    target.apply([Write(("t", "d", "both"), (b"1",))])
    target = staged(root, target.fold())
    target.apply([Write(("t",), directory=directory)])
    files, _ = found(root, target.fold())
    assert files == {
        ("t", "d", "both"): b"12",
        ("t", "d", "new"): b"n",
        ("t", "e", "f", "g"): b"g",
    }


# --- appends


def test_the_order_of_appends_survives_a_restart(root: Root) -> None:
    area = uuid.uuid4().bytes
    staging = staged(root, area=area)
    for number in range(300):
        staging.apply([Write(("f",), (b"%d " % number,))])
        if number % 50 == 0:
            staging = staged(root, area=area)
    files, _ = found(root, staging.fold())
    assert files[("f",)] == b"".join(b"%d " % number for number in range(300))


def test_small_appends_become_the_chunks_of_the_whole(root: Root) -> None:
    data = random.Random(2).randbytes(3 * MIB)
    staging = staged(root)
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    for start in range(0, len(pieces), 100):
        staging.apply([Write(("f",), (piece,)) for piece in pieces[start : start + 100]])
    at_once = staged(root)
    at_once.apply([Write(("f",), (data,))])
    assert staging.fold() == at_once.fold()


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 14 * MIB), min_size=2, max_size=4), seed=st.integers(0, 3))
def test_content_joined_is_content_written_at_once(root: Root, sizes: list[int], seed: int) -> None:
    nodes = MemoryNodes()
    parts = [random.Random(seed * 10 + number).randbytes(size) for number, size in enumerate(sizes)]
    pieces = [content.concatenate(nodes, root.chunks, [part]) for part in parts]
    whole = content.concatenate(nodes, root.chunks, [b"".join(parts)])
    assert content.concatenate(nodes, root.chunks, pieces) == whole
    assert content.concatenate(nodes, root.chunks, [pieces[0], *parts[1:]]) == whole


def test_appending_to_a_long_chunk_list_reads_and_writes_only_its_end(root: Root) -> None:
    nodes = MemoryNodes()
    end = root.chunks.add(b"the end")
    listed = [Chunk(number.to_bytes(32, "big"), MIB) for number in range(10_240)]
    long = entries.file_entry(nodes, [*listed, end])
    nodes.reads = nodes.writes = 0
    longer = content.concatenate(nodes, root.chunks, [long, b" and ", b"more"])
    assert nodes.reads <= 20
    assert nodes.writes <= 4
    assert longer == entries.file_entry(MemoryNodes(), [*listed, root.chunks.add(b"the end and more")])


def test_a_changed_tail_may_have_fewer_or_more_chunks(root: Root) -> None:
    nodes = MemoryNodes()
    chunks = [Chunk(number.to_bytes(32, "big"), number + 1) for number in range(400)]
    entry = entries.file_entry(nodes, chunks)
    for kept, tail in ((399, []), (300, chunks[:50]), (300, chunks[:200]), (10, chunks[300:303]), (390, chunks[390:])):
        size = sum(chunk.size for chunk in chunks[:kept])
        expected = entries.file_entry(MemoryNodes(), [*chunks[:kept], *tail])
        assert entries.replace_tail(nodes, entry, size, tail) == expected


# --- areas


def test_an_area_is_clean_until_something_is_staged(root: Root) -> None:
    staging = staged(root)
    assert staging.is_clean
    staging.apply([Write(("f",), (b"x",))])
    assert not staging.is_clean
    staging.delete(())
    assert staging.fold() == tree.EMPTY


def test_staged_writes_survive_closing_the_root(tmp_path: pathlib.Path) -> None:
    area = uuid.uuid4().bytes
    first = Root(tmp_path / "root")
    staged(first, area=area).apply([Write(("d", "f"), (b"one ",))])
    first.close()
    second = Root(tmp_path / "root")
    again = staged(second, area=area)
    again.apply([Write(("d", "f"), (b"two",))])
    assert found(second, again.fold())[0] == {("d", "f"): b"one two"}
    second.close()
