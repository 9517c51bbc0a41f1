"""Databases in an open commit, written by several processes, and read in the finished one."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess

import pytest

from tests.pfsfuse.programs.work import PYTHON, RUN_SECONDS, Work, need_modules

INSERT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=240)
for number in range(40):
    with database:
        database.execute("INSERT INTO t VALUES (?, ?, ?)", (sys.argv[2], number, "x" * 500))
database.close()
"""

DUCKDB_WRITE = """
import duckdb, sys
for start in (0, 50_000):
    database = duckdb.connect(sys.argv[1])
    database.execute("CREATE TABLE IF NOT EXISTS t (a BIGINT, b VARCHAR)")
    database.execute(f"INSERT INTO t SELECT i, 'row ' || i FROM range({start}, {start} + 50000) r(i)")
    database.execute("UPDATE t SET b = 'changed' WHERE a % 1000 = 7")
    database.close()
"""
DUCKDB_READ = """
import duckdb, sys
database = duckdb.connect(sys.argv[1], read_only=True)
print(database.execute("SELECT count(*), sum(a), count(*) FILTER (b = 'changed') FROM t").fetchone())
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite(work: Work, mode: str) -> None:
    need_modules("sqlite3")
    path = work.top / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        database.execute("CREATE TABLE t (who TEXT, number INTEGER, text TEXT)")
        database.commit()
        writers = [subprocess.Popen([PYTHON, "-c", INSERT, str(path), who]) for who in "abc"]
        try:
            assert [writer.wait(RUN_SECONDS) for writer in writers] == [0, 0, 0]
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        assert database.execute("SELECT count(*) FROM t").fetchone() == (120,)
        database.execute("DELETE FROM t WHERE number >= 30")
        database.rollback()
        with database:
            database.execute("DELETE FROM t WHERE number < 10")
    assert sorted(found.name for found in work.top.iterdir()) == ["x.db"]
    with work.finished() as top:
        # A log needs a file beside the database, unless nothing can change that.
        how = "immutable=1" if mode == "wal" else "mode=ro"
        with contextlib.closing(sqlite3.connect(f"file:{top}/x.db?{how}", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = database.execute("SELECT who, count(*), min(number), max(number) FROM t GROUP BY who").fetchall()
    assert rows == [(who, 30, 10, 39) for who in "abc"]


def test_duckdb(work: Work) -> None:
    need_modules("duckdb")
    work.python(DUCKDB_WRITE, work.top / "x.duckdb")
    expected = f"({100_000}, {sum(range(100_000))}, {100})\n"
    assert work.python(DUCKDB_READ, work.top / "x.duckdb") == expected
    with work.finished() as top:
        assert work.python(DUCKDB_READ, top / "x.duckdb") == expected
