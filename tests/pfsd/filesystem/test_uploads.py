"""Uploads of more files than memory holds."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator

import pytest

from pfsd.chunks.split import Delimiter
from pfsd.errors import NotADirectoryPfsError
from pfsd.filesystem import uploadsteps
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from tests.support.stores import contents


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[Store]:
    opened = Store(tmp_path / "root")
    opened.repos.create("r")
    yield opened
    opened.close()


def upload_many(store: Store, at: Commit, *last: str) -> dict[str, bytes]:
    """Put more than memory holds in one upload; what the commit then has."""
    upload = store.files.upload(at)
    expected: dict[str, bytes] = {"log": b"before "}
    try:
        for number in range(uploadsteps.STEPS_HELD + 1000):
            for path, data, overwrite in (
                (f"d{number % 3}/{number}", b"%d" % number, False),
                *((("log", b"%d " % number, number == 500),) if number % 100 == 0 else ()),
            ):
                upload.begin(path, overwrite=overwrite)
                upload.write(data)
                expected[path] = data if overwrite else expected.get(path, b"") + data
        for path in last:
            upload.begin(path)
        upload.finish()
    finally:
        upload.close()
    return expected


def test_more_files_than_memory_holds_are_put_as_one(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    before = store.files.upload(at)
    before.begin("log")
    before.write(b"before ")
    before.finish()
    with pytest.raises(NotADirectoryPfsError, match="/log is a file"):
        upload_many(store, at, "log/below")
    assert contents(store, at)[0] == {"log": b"before "}
    expected = upload_many(store, at)
    assert contents(store, at)[0] == expected
    finished = store.commits.finish("r", at.id)
    assert contents(store, finished)[0] == expected
    assert not list(store.root.db.scan("staging", b""))


def test_a_split_into_more_files_than_memory_holds_goes_on_after_the_last_one(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    lines = [b"%d\n" % number for number in range(uploadsteps.STEPS_HELD + 100)]
    for _ in range(2):
        upload = store.files.upload(at)
        for part in (lines[:50], lines[50:]):
            upload.begin("s", delimiter=Delimiter.LINE)
            upload.write(b"".join(part))
        upload.finish()
        upload.close()
    found = contents(store, at)[0]
    assert found == {f"s/{number:016x}": line for number, line in enumerate(lines * 2)}


def test_a_file_that_comes_bit_by_bit_is_the_file_it_would_be_at_once(store: Store) -> None:
    at = store.commits.start("r", branch="master")
    data = random.Random(9).randbytes(30_000_000)
    for path, step in (("one", len(data)), ("many", 1 << 20)):
        upload = store.files.upload(at)
        upload.begin(path)
        for start in range(0, len(data), step):
            upload.write(data[start : start + step])
        upload.finish()
    finished = store.commits.finish("r", at.id)
    assert store.files.inspect(finished, "one") == store.files.inspect(finished, "many")
