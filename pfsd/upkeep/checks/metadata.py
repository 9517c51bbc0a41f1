"""Checking that the metadata database can be opened and read, and repairing it where it can't."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from rocksdict import AccessType, DBRecoveryMode, Options, Rdict

from pfsd.errors import CorruptError, DiskError
from pfsd.local.disk import sync_tree
from pfsd.local.kv import FAMILIES, Database
from pfsd.upkeep.checks import wal as fsck_wal
from pfsd.upkeep.checks.findings import Problem, problem
from pfsd.upkeep.checks.wal import Log

T = TypeVar("T")

NOT_OPENED = "the metadata was not opened, so nothing else was checked: opening it might lose what can be repaired"

READ_TRIES = 3
"""A database that is written to removes files now and then, also from under a reader."""


def check(directory: pathlib.Path, fix: bool) -> Generator[Problem, None, bool]:
    """Check the database of a root that nobody serves; returns whether all of it can be read.

    Raises CorruptError when it can't be opened even so.
    """
    meta = directory / "meta"
    found = [] if _opens(meta) else fsck_wal.logs(meta)
    damaged = [log for log in found if log.damage is not None]
    for log in damaged:
        yield problem(f"the metadata's log {log.path.name} is damaged at byte {log.damage}", fixed=fix)
    if damaged:
        if not fix:
            raise CorruptError(NOT_OPENED)
        _salvage(directory, found)
    if what := _list_of_files(meta):
        yield problem(what, fixed=fix)
        if not fix:
            raise CorruptError(NOT_OPENED)
        repair(directory)
    try:
        Database(meta).close()
    except CorruptError as error:
        yield problem(" ".join(str(error).split()), fixed=fix)
        if not fix:
            raise CorruptError(NOT_OPENED) from error
        repair(directory)
    found_unreadable = unreadable(meta)
    yield from found_unreadable
    return not found_unreadable


def repair(directory: pathlib.Path) -> None:
    """Rebuild the database from the files that can be read. What was there is kept beside it."""
    meta = directory / "meta"
    aside = keep_copy(directory)
    found = fsck_wal.logs(aside)
    names = fsck_wal.family_names(aside)
    _guarded("the metadata can't be repaired", lambda: Rdict.repair(str(meta), Options(raw_mode=True)))
    present = set(_guarded("the metadata can't be repaired", lambda: Rdict.list_cf(str(meta))))
    database = Database(meta)
    try:
        fsck_wal.replay(found, names, database, set(FAMILIES) - present)  # RocksDB's repair drops these
    finally:
        database.close()


def keep_copy(directory: pathlib.Path) -> pathlib.Path:
    """A durable copy of the database directory, beside it; raises DiskError, and leaves what there is of it."""
    aside = directory / f"meta.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 1_000_000_000:09d}"
    try:
        shutil.copytree(directory / "meta", aside)
        sync_tree(aside)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DiskError(f"the metadata can't be kept in {aside}, and are not repaired: {reason}") from error
    return aside


def _salvage(directory: pathlib.Path, found: list[Log]) -> None:
    """Open a database whose log is damaged, and apply what RocksDB drops: the changes behind the damage."""
    meta = directory / "meta"
    names = fsck_wal.family_names(meta)
    keep_copy(directory)
    try:
        database = Database(meta)
    except CorruptError:
        repair(directory)
        database = Database(meta)
    try:
        fsck_wal.replay(found, names, database, FAMILIES)
    finally:
        database.close()


def unreadable(meta: pathlib.Path) -> list[Problem]:
    """Read every row of the database in a directory, which may be in use; a problem for each family that fails."""
    for attempt in range(READ_TRIES):
        try:
            with _reader(meta) as database:
                return [found for name in FAMILIES if (found := _read_through(database, name))]
        except CorruptError:
            if attempt == READ_TRIES - 1:
                raise
    return []


def _opens(meta: pathlib.Path) -> bool:
    """Whether RocksDB can read everything up to a torn end of its log."""
    try:
        with _reader(meta):
            return True
    except CorruptError:
        return False


def _list_of_files(meta: pathlib.Path) -> str | None:
    """What is wrong with the MANIFEST of a database that RocksDB would open all the same, without what is lacking."""
    try:
        manifest = fsck_wal.read_log(meta / (meta / "CURRENT").read_text().strip())
    except FileNotFoundError:  # then RocksDB would begin a new database
        return (
            "the metadata's list of files is missing" if list(meta.glob("*.sst")) + list(meta.glob("*.log")) else None
        )
    broken = manifest.end if manifest.damage is None else manifest.damage
    if broken is not None:
        return f"the metadata's list of files, {manifest.path.name}, is damaged or cut short at byte {broken}"
    try:
        with _reader(meta) as database:
            live = {pathlib.PurePath(file["name"]).name for file in database.live_files()}
            newest = database.latest_sequence_number()
    except CorruptError as error:
        return " ".join(str(error).split())
    strangers = [path for path in sorted(meta.glob("*.sst")) if path.name not in live]
    lost = [path.name for path in strangers if _largest_sequence(path) > newest]
    return f"the metadata's list of files lacks {lost[0]}, which holds newer rows than it knows" if lost else None


_LARGEST = b"key.largest.seqno"
"""In a table file: the name of the property, whose beginning it shares with the one before, and then its value."""


def _largest_sequence(path: pathlib.Path) -> int:
    """The sequence number of the newest row in a table file; 0 where the file does not say."""
    data = path.read_bytes()[-(64 << 10) :]
    at = data.find(_LARGEST)
    if at < 0:
        return 0
    at += len(_LARGEST)
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value
        at, shift = at + 1, shift + 7
    return 0


def _read_through(database: Rdict, name: str) -> Problem | None:
    rows = database.get_column_family(name).iter()
    rows.seek_to_first()
    while rows.valid():
        rows.next()
    try:
        rows.status()
    except Exception as error:
        if "No such file" in str(error):
            raise CorruptError(str(error)) from error
        return problem(f"the metadata of {name} can't be read: {' '.join(str(error).split())}")
    return None


@contextlib.contextmanager
def _reader(meta: pathlib.Path) -> Iterator[Rdict]:
    """The database of a directory, opened to be read only."""
    with tempfile.TemporaryDirectory() as logs:
        options = Options(raw_mode=True)
        options.set_db_log_dir(logs)
        options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
        options.set_max_open_files(256)
        families = {name: Options(raw_mode=True) for name in FAMILIES}
        database = _guarded(
            f"the metadata in {meta} can't be opened",
            lambda: Rdict(str(meta), options, families, AccessType.read_only(False)),
        )
        try:
            yield database
        finally:
            database.close()


def _guarded(what: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception as error:
        raise CorruptError(f"{what}: {error}") from error
