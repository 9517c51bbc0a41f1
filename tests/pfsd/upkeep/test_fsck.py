"""Checking: a sound store has no problems, also while it is used, and a daemon checks its own."""

from __future__ import annotations

import pathlib
import random
import threading

import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import FormatError, StateError
from pfsd.filesystem.store import Store
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import HashSet
from tests.support.daemons import commit, running
from tests.support.faulty.damagedstores import Sample
from tests.support.stores import put

# --- a sound store


def test_a_sound_store_has_no_problems_and_is_counted(sample: Sample) -> None:
    problems, summary = sample.check()
    assert problems == []
    assert (summary.repos, summary.commits, summary.packs) == (2, 3, 2)
    assert summary.chunks >= 8
    assert summary.bytes == sum(path.stat().st_size for path in [*sample.sealed(), *sample.directory.glob("spool/*")])
    assert summary.nodes == 5  # three roots, d and d/e


def test_an_open_commit_with_writes_is_no_problem(sample: Sample) -> None:
    store = Store(sample.directory)
    opened = store.commits.start("in", branch="master")
    put(store, opened, "d/new", b"x" * 100_000)
    put(store, opened, "tiny", b"x")
    store.close()
    assert sample.is_clean()


def test_a_root_that_a_daemon_serves_is_left_to_the_daemon(sample: Sample) -> None:
    with running(sample.directory, "--no-pipelines"), pytest.raises(StateError, match="served by another pfsd"):
        list(fsck.check_root(sample.directory, False))


def test_what_is_not_a_root_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FormatError, match="not a root of pfsd"):
        list(fsck.check_root(tmp_path, False))


# --- while the store is used


def test_no_problem_is_seen_while_others_write_and_collect_garbage(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", "--no-pipelines") as daemon:
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        stop = threading.Event()
        failures: list[BaseException] = []

        def write(number: int) -> None:
            chosen = random.Random(number)
            try:
                while not stop.is_set():
                    opened = daemon.start_commit(f"r{number}")
                    daemon.put(opened, f"d/{chosen.randrange(9)}", chosen.randbytes(chosen.choice((10, 9000, 900_000))))
                    if chosen.random() < 0.3:
                        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=opened))
                    else:
                        daemon.finish_commit(opened)
            except BaseException as error:
                failures.append(error)
                raise

        def collect() -> None:
            try:
                while not stop.is_set():
                    admin.CollectGarbage(Empty())
            except BaseException as error:
                failures.append(error)
                raise

        for number in range(3):
            daemon.create_repo(f"r{number}")
        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        threads.append(threading.Thread(target=collect))
        for thread in threads:
            thread.start()
        try:
            for fix in (False, True, False, True):
                *problems, last = list(admin.Fsck(pfsd_pb2.FsckRequest(fix=fix), timeout=60))
                assert problems == []
                assert last.summary.repos == 3
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []


def test_a_served_store_is_checked_and_repaired(sample: Sample) -> None:
    name = sample.chunk_of("big")
    sample.put_row("chunks", name, None)
    with running(sample.directory, "--no-pipelines") as daemon:
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        found, last = list(admin.Fsck(pfsd_pb2.FsckRequest(fix=True)))
        assert found.problem.fixed
        assert found.problem.touched == 2
        assert last.summary.fixed == 1
        assert daemon.get(commit("in", sample.first.id), "big") == sample.files["big"]
        (last,) = list(admin.Fsck(pfsd_pb2.FsckRequest()))
        assert last.summary.problems == 0


def test_the_compact_set_behaves_like_a_set() -> None:
    chosen = random.Random(5)
    names = [chosen.randbytes(32) for _ in range(20_000)] + [bytes(32)]
    compact = HashSet()
    assert all(compact.add(name) for name in names)
    assert not any(compact.add(name) for name in names)
    assert all(name in compact for name in names)
    assert not any(chosen.randbytes(32) in compact for _ in range(20_000))
    assert len(compact) == len(names)
