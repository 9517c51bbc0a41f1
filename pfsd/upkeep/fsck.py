"""Checking a store and repairing what can be repaired without losing data.

`check` is for an open store, also one that is served and written to meanwhile; `check_root` for a root that nobody
serves, also one whose metadata can't be opened. What each part looks at is in `pfsd.upkeep.checks`.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Generator, Iterator
from dataclasses import asdict

from pfsd.errors import CorruptError, FormatError, InvalidError
from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.model import root
from pfsd.upkeep.checks import metadata as fsck_meta
from pfsd.upkeep.checks import spool as fsck_spool
from pfsd.upkeep.checks.damage import DamageReport
from pfsd.upkeep.checks.findings import Problem, Summary, Tally, problem
from pfsd.upkeep.checks.packs import PackCheck
from pfsd.upkeep.checks.records import RecordCheck
from pfsd.upkeep.checks.trees import TreeCheck

Finding = Problem | Summary


def check(store: Store, fix: bool) -> Iterator[Finding]:
    """Look at everything in an open store; yields the problems as they are found, and last a summary.

    With `fix`, repairs what can be repaired without losing data. A commit is never removed. Raises FullError.
    """
    tally = Tally()
    yield from _summarized(_check(store, fix, tally, is_alone=False), tally)


def check_root(directory: pathlib.Path, fix: bool) -> Iterator[Finding]:
    """The same for a root that nobody serves, and for its metadata database and FORMAT.

    Where the database has to be repaired, its files are kept beside it, as `meta.damaged-TIME`. Raises StateError while
    a daemon serves the root, FormatError when it is of another format or not a root, InvalidError when it is not there.
    """
    tally = Tally()
    yield from _summarized(_check_root(directory, fix, tally), tally)


def _summarized(problems: Iterator[Problem], tally: Tally) -> Iterator[Finding]:
    count = fixed = 0
    for found in problems:
        count += 1
        fixed += found.fixed
        yield found
    yield Summary(**asdict(tally), problems=count, fixed=fixed)


def _check_root(directory: pathlib.Path, fix: bool, tally: Tally) -> Iterator[Problem]:
    if not directory.is_dir():
        raise InvalidError(f"the root {directory} is not a directory that is there")
    if not (directory / "meta").is_dir():
        raise FormatError(f"{directory} is not a root of pfsd: it has no metadata")
    lock_fd = root.lock(directory)
    try:
        try:
            if not (yield from fsck_meta.check(directory, fix)):
                return
        except CorruptError as error:
            yield problem(str(error))
            return
        if not (yield from _format(directory, fix)):
            return
        yield from fsck_spool.check(directory, fix)
    finally:
        os.close(lock_fd)
    store = Store(directory)
    try:
        yield from _check(store, fix, tally, is_alone=True)
    finally:
        store.close()


def _format(directory: pathlib.Path, fix: bool) -> Generator[Problem, None, bool]:
    """Restore a lost FORMAT from the metadata; returns whether there is one now."""
    try:
        root.read_identity(directory)
        return True
    except (FileNotFoundError, FormatError):
        pass
    database = Database(directory / "meta")
    try:
        kept = root.read_identity_rows(database)
    finally:
        database.close()
    if kept is None:
        yield problem("the file FORMAT is missing or damaged, and the metadata does not say what it read")
        return False
    if fix:
        root.write_identity(directory, kept)
    yield problem("the file FORMAT is missing or damaged", fixed=fix)
    return fix


def _check(store: Store, fix: bool, tally: Tally, *, is_alone: bool) -> Iterator[Problem]:
    if not is_alone:  # else it was looked at before it was opened
        unreadable = fsck_meta.unreadable(store.root.directory / "meta")
        yield from unreadable
        if unreadable:
            return
    records = RecordCheck(store.root, tally, fix=fix, is_alone=is_alone)
    yield from records.run()
    trees = TreeCheck(store.root, tally)
    _walk(records, trees)
    packs = PackCheck(store.root, tally)
    packs.run(trees.missing_chunks)
    yield from DamageReport(store.root, records, trees, packs).run(fix=fix, is_alone=is_alone)
    yield from records.names()
    yield from records.sizes()


def _walk(records: RecordCheck, trees: TreeCheck) -> None:
    """Look at all that something refers to."""
    for commit in records.commits():
        trees.directory(bytes.fromhex(commit.root))
        if commit.tree:
            trees.chunk(bytes.fromhex(commit.tree))
    for _, entry in records.objects():
        trees.file(entry)
    for _, name in records.tags():
        top = records.tree_of(name)
        if top is not None:
            trees.directory(top)
    for _, entry in records.staged_files():
        trees.file(entry)
