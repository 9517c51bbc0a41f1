"""A root with known content that the tests of `fsck` damage and look at."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.local.packs import location, pack_object
from pfsd.model.records import Commit, CommitRef
from pfsd.trees.entries import DirEntry, FileEntry
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem, Summary
from tests.support.stores import put

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


def tables(sample: Sample, family: str) -> list[pathlib.Path]:
    """The table files of a column family, whose name is in their properties."""
    found = sorted((sample.directory / "meta").glob("*.sst"))
    return [path for path in found if b"name" + family.encode() in path.read_bytes()[-4096:]]
