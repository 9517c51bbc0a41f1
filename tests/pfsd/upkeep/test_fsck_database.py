"""Damage to the root and to the files of its metadata is found, and repaired where that can be."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import struct

import pytest

from pfsd.filesystem.store import Store
from pfsd.upkeep.checks import wal as fsck_wal
from tests.support.faulty.damagedstores import Sample, finished, flip, tables


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
    cut_within = f"the metadata's list of files, {manifest.name}, is damaged or cut short at byte [0-9]+"
    cut_between = f"the metadata in .* can't be opened: .*{manifest.name}.*"  # where two of its records meet
    assert re.fullmatch(f"{cut_within}|{cut_between}", problems[0].what)
    assert re.fullmatch(cut_between, problems[0].what) or "the metadata was not opened" in problems[1].what
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
