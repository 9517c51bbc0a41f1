"""Migrating a root: steps in order, each repeatable, on a root of its own."""

from __future__ import annotations

import json
import pathlib

import pytest

from pfsd.errors import FormatError, InvalidError, StateError
from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.model import root
from pfsd.model.root import FORMAT, Identity
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Summary
from pfsd.upkeep.migrate import Step, migrate
from tests.support.daemons import running
from tests.support.faulty.damagedstores import finished
from tests.support.stores import contents, put


def to_format_0(directory: pathlib.Path) -> None:
    """Make the root one of a format in which repos did not say when they were made."""
    database = Database(directory / "meta")
    batch = database.batch()
    for key, row in database.scan("repos", b""):
        fields = json.loads(row)
        del fields["created"]
        batch.put("repos", key, json.dumps(fields).encode())
    database.write(batch, sync=True)
    database.close()
    root.write_identity(directory, Identity(0, root.read_identity(directory).store))


def add_created(directory: pathlib.Path, database: Database) -> None:
    batch = database.batch()
    for key, row in database.scan("repos", b""):
        batch.put("repos", key, json.dumps({"created": 1, **json.loads(row)}).encode())
    database.write(batch)


STEP = Step(0, FORMAT, "repos say when they were made", add_created)


@pytest.fixture
def old(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "root"
    store = Store(directory)
    for name in ("a", "b"):
        store.repos.create(name)
    store.close()
    to_format_0(directory)
    return directory


def test_an_older_root_is_refused_with_the_way_out_and_opens_once_migrated(old: pathlib.Path) -> None:
    with pytest.raises(
        FormatError, match=f"has format 0 and this pfsd reads format {FORMAT}: run pachctl migrate --root {old}"
    ):
        Store(old)
    assert migrate(old, [STEP]) == ["repos say when they were made"]
    store = Store(old)
    assert [repo.created for repo in store.repos.list()] == [1, 1]
    store.close()
    (summary,) = fsck.check_root(old, False)
    assert isinstance(summary, Summary)
    assert migrate(old, [STEP]) == []


def test_the_id_of_the_store_stays(old: pathlib.Path) -> None:
    before = root.read_identity(old)
    migrate(old, [STEP])
    assert root.read_identity(old) == Identity(FORMAT, before.store)


def test_a_step_that_was_cut_off_is_done_again(old: pathlib.Path) -> None:
    class CutOffError(Exception):
        pass

    def half(directory: pathlib.Path, database: Database) -> None:
        batch = database.batch()
        row = database.get("repos", b"a")
        assert row is not None
        batch.put("repos", b"a", json.dumps({"created": 1, **json.loads(row)}).encode())
        database.write(batch)
        raise CutOffError

    with pytest.raises(CutOffError):
        migrate(old, [Step(0, FORMAT, "half", half)])
    assert root.read_identity(old).version == 0
    assert migrate(old, [STEP]) == [STEP.name]
    store = Store(old)
    assert [repo.created for repo in store.repos.list()] == [1, 1]
    store.close()


def test_steps_follow_one_another_and_a_failure_keeps_what_was_reached(old: pathlib.Path) -> None:
    done: list[str] = []

    def note(name: str) -> Step:
        source, target = map(int, name.split("-"))
        return Step(source, target, name, lambda _directory, _database: done.append(name))

    def fail(_directory: pathlib.Path, _database: Database) -> None:
        raise InvalidError("the second step can't be done")

    with pytest.raises(InvalidError):
        migrate(old, [Step(2, 3, "2-3", fail), note("0-2")], present=3)
    assert root.read_identity(old).version == 2
    assert migrate(old, [note("2-3"), note("0-2"), note("3-7")], present=7) == ["2-3", "3-7"]
    assert done == ["0-2", "2-3", "3-7"]


def test_no_way_from_a_format_is_said_before_anything_is_done(old: pathlib.Path) -> None:
    with pytest.raises(FormatError, match=f"the root {old} has format 0: nothing here leads from it to {FORMAT}"):
        migrate(old, [])
    assert root.read_identity(old).version == 0


def test_a_newer_root_is_refused(old: pathlib.Path) -> None:
    root.write_identity(old, Identity(9, "ab" * 16))
    with pytest.raises(FormatError, match=f"has format 9 and this pfsd reads format {FORMAT}: use a newer one"):
        migrate(old)
    with pytest.raises(FormatError, match=f"has format 9 and this pfsd reads format {FORMAT}: use a newer one"):
        Store(old)


def test_a_root_that_a_daemon_serves_is_refused(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", "--no-pipelines"), pytest.raises(StateError, match="served by another pfsd"):
        migrate(tmp_path / "root")


def test_what_is_not_a_root_is_refused_and_left_alone(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FormatError, match="is not a root of pfsd"):
        migrate(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidError, match="is not a directory that is there"):
        migrate(tmp_path / "nowhere")


def test_a_root_without_attributes_reads_the_same_once_migrated(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "root"
    store = Store(directory)
    store.repos.create("r")
    made = finished(store, "r", {"d/big": b"x" * 3_000_000, "d/small": b"s", "top": b""})
    opened = store.commits.start("r", branch="master")
    put(store, opened, "d/staged", b"s")
    before = contents(store, made)
    store.close()
    root.write_identity(directory, Identity(2, root.read_identity(directory).store))
    with pytest.raises(FormatError, match=f"has format 2 and this pfsd reads format {FORMAT}: run pachctl migrate"):
        Store(directory)
    assert migrate(directory) == ["entries may have attributes"]
    store = Store(directory)
    assert contents(store, made) == before
    assert store.commits.resolve("r", made.id) == made
    assert contents(store, store.commits.finish("r", opened.id))[0] == before[0] | {"d/staged": b"s"}
    store.close()
    assert all(isinstance(found, Summary) for found in fsck.check_root(directory, False))
    monkeypatch.setattr(root, "FORMAT", 2)
    with pytest.raises(FormatError, match=f"has format {FORMAT} and this pfsd reads format 2: use a newer one"):
        Store(directory)
