"""Damage to packs and to the chunk index is found with what it touches, and repaired from what is left."""

from __future__ import annotations

import os
import pathlib
import random
import re

import pytest
from blake3 import blake3

from pfsd.errors import CorruptError
from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.local.packs import RECORD, index_row, pack_object
from tests.support.faulty.damagedstores import Sample, empty_journal, finished, flip, where


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
