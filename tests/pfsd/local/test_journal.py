"""The journal of growing packs: what was finished is whole although its pack never reached the disk."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from pfsd.filesystem.store import Store
from pfsd.local import journal
from pfsd.local.kv import Database
from pfsd.model import root
from pfsd.model.root import Identity
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Summary
from pfsd.upkeep.migrate import migrate


def put(store: Store, path: str, data: bytes) -> None:
    """A finished commit that has the file."""
    commit = store.commits.start("r", branch="master")
    upload = store.files.upload(commit)
    upload.begin(path, overwrite=True)
    upload.write(data)
    upload.finish()
    upload.close()
    store.commits.finish("r", commit.id)


def read(store: Store, path: str) -> bytes:
    return b"".join(store.files.read(store.commits.resolve("r", "master"), path, 0, 0))


def rows(directory: pathlib.Path) -> int:
    """How many rows the journal of a closed root has."""
    database = Database(directory / "meta")
    try:
        return sum(1 for _ in database.scan("journal", b""))
    finally:
        database.close()


def lost(path: pathlib.Path) -> None:
    """Nothing but the name was written."""
    os.truncate(path, 0)


def zeroed(path: pathlib.Path) -> None:
    """The size was written, the bytes were not."""
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def half(path: pathlib.Path) -> None:
    """Some of the bytes were written."""
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("cut", [lost, zeroed, half])
def test_a_power_cut_that_takes_the_unsynced_pack_loses_nothing(
    tmp_path: pathlib.Path, cut: Callable[[pathlib.Path], None]
) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    files = {f"f{number}": os.urandom(3000) for number in range(5)}
    for path, data in files.items():
        put(store, path, data)
    store.close()
    assert rows(directory) == 5
    (pack,) = (directory / "spool").iterdir()
    cut(pack)
    store = Store(directory)
    assert {path: read(store, path) for path in files} == files
    store.close()
    assert [type(found) for found in fsck.check_root(directory, False)] == [Summary]


def test_a_check_takes_the_journal_into_account(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    put(store, "f", b"x" * 3000)
    store.close()
    (pack,) = (directory / "spool").iterdir()
    zeroed(pack)
    assert [type(found) for found in fsck.check_root(directory, False)] == [Summary]


def test_the_journal_of_a_pack_stays_small(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    for number in range(40):
        put(store, f"f{number}", os.urandom(journal.ROW_BYTES - 10_000))
    store.close()
    assert 0 < rows(directory) <= journal.PACK_BYTES // (journal.ROW_BYTES - 10_000)


def test_rows_of_a_pack_that_is_sealed_are_dropped(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    put(store, "f", b"x" * 3000)
    store.close()
    database = Database(directory / "meta")
    kept = list(database.scan("journal", b""))
    database.close()
    store = Store(directory)
    store.root.chunks.seal_if(lambda _name, _size: True)
    store.close()
    database = Database(directory / "meta")
    batch = database.batch()
    for key, data in kept:  # as if their removal had not been synced
        batch.put("journal", key, data)
    database.write(batch, sync=True)
    database.close()
    store = Store(directory)
    assert read(store, "f") == b"x" * 3000
    store.close()
    assert rows(directory) == 0


def test_a_root_of_format_1_is_migrated(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    put(store, "f", b"x" * 3000)
    store.root.chunks.seal_if(lambda _name, _size: True)  # which empties the journal
    store.close()
    root.write_identity(directory, Identity(1, root.read_identity(directory).store))
    assert migrate(directory) == ["small additions to packs have a journal", "entries may have attributes"]
    store = Store(directory)
    assert read(store, "f") == b"x" * 3000
    store.close()
