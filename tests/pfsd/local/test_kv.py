"""The metadata store."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator

import pytest

from pfsd.errors import CorruptError
from pfsd.local.kv import Database, successor


@pytest.fixture
def database(tmp_path: pathlib.Path) -> Iterator[Database]:
    opened = Database(tmp_path / "meta")
    batch = opened.batch()
    for key in (b"a\0" + bytes([5]), *(b"b\0" + bytes([number]) for number in range(5)), b"b\1", b"c\0\0"):
        batch.put("history", key, key)
    opened.write(batch, sync=True)
    yield opened
    opened.close()


def test_scans_stay_within_their_prefix_in_both_directions(database: Database) -> None:
    below = [b"b\0" + bytes([number]) for number in range(5)]
    assert [key for key, _ in database.scan("history", b"b\0")] == below
    assert [key for key, _ in database.scan("history", b"b\0", reverse=True)] == below[::-1]
    assert [key for key, _ in database.scan("history", b"b\0", below[2])] == below[2:]
    assert [key for key, _ in database.scan("history", b"b\0", below[2], reverse=True)] == below[1::-1]
    assert [key for key, _ in database.scan("history", b"")][::-1] == [
        key for key, _ in database.scan("history", b"", reverse=True)
    ]
    assert list(database.scan("history", b"d")) == list(database.scan("history", b"d", reverse=True)) == []


def test_removing_a_prefix_leaves_its_neighbours(database: Database) -> None:
    batch = database.batch()
    batch.delete_prefix("history", b"b\0")
    database.write(batch)
    assert [key for key, _ in database.scan("history", b"")] == [b"a\0\5", b"b\1", b"c\0\0"]


def test_the_successor_of_a_prefix_is_above_all_that_begin_with_it() -> None:
    assert successor(b"a") == b"b"
    assert successor(b"a\xff\xff") == b"b"


def test_what_was_written_with_sync_is_there_after_a_reopening(tmp_path: pathlib.Path) -> None:
    for number in range(3):
        database = Database(tmp_path / "meta")
        assert len(list(database.scan("meta", b""))) == number
        batch = database.batch()
        batch.put("meta", b"%d" % number, b"")
        database.write(batch, sync=True)
        database.close()


def test_a_damaged_block_ends_a_scan_and_a_lookup_with_an_error(tmp_path: pathlib.Path) -> None:
    database = Database(tmp_path / "meta")
    batch = database.batch()
    value = random.Random(1).randbytes(100)  # which compression leaves as it is
    for number in range(100):
        batch.put("history", b"%03d" % number, value + b"%d" % number)
    database.write(batch, sync=True)
    database.close()
    reopened = Database(tmp_path / "meta")  # which writes the log's rows to tables
    reopened.close()
    damaged = 0
    for table in (tmp_path / "meta").glob("*.sst"):
        data = bytearray(table.read_bytes())
        at = data.find(value[:50])
        if at >= 0:
            data[at] ^= 1
            table.write_bytes(data)
            damaged += 1
    assert damaged == 1
    database = Database(tmp_path / "meta")
    with pytest.raises(CorruptError, match="can't be read"):
        list(database.scan("history", b""))
    with pytest.raises(CorruptError, match="can't be read"):
        list(database.scan("history", b"", reverse=True))
    with pytest.raises(CorruptError, match="can't be read"):
        database.get("history", b"000")
    database.close()
