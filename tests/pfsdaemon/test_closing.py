"""Closing under whoever uses it, and threads of the background that fail: everybody is told, nobody waits for ever."""

from __future__ import annotations

import logging
import pathlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.chunks.sealing import ROOM_BESIDE, Sealing
from pfsd.errors import FullError, PfsError, RefusedError, StateError, UnavailableError
from pfsd.filesystem.store import Store
from pfsd.local.kv import Database
from pfsd.upkeep.collect import collect_garbage
from tests.support.daemons import Daemon
from tests.support.stores import put

WAIT = 60.0


def until_refused(use: Callable[[int], object]) -> Exception:
    """The error that ends `use`, called again and again."""
    for number in range(1_000_000):
        try:
            use(number)
        except Exception as error:  # noqa: BLE001 (the test looks at what it is)
            return error
    raise AssertionError("it was never closed")


# --- the metadata


def test_a_database_is_closed_under_whoever_uses_it(tmp_path: pathlib.Path) -> None:
    database = Database(tmp_path / "meta")
    began = threading.Barrier(7)

    def write(number: int) -> None:
        batch = database.batch()
        batch.put("meta", b"%08d" % number, b"x" * 1000)
        database.write(batch, sync=number % 100 == 0)

    def scan(_number: int) -> None:
        for _ in database.scan("meta", b"", reverse=bool(_number % 2)):
            pass

    write(0)
    uses = (
        write,
        write,
        scan,
        scan,
        lambda number: database.get("meta", b"%08d" % number),
        lambda _: database.compact(),
    )

    def run(use: Callable[[int], object]) -> Exception:
        use(1)
        began.wait(WAIT)
        return until_refused(use)

    suspended = database.scan("meta", b"")
    assert next(suspended)[0] == b"%08d" % 0
    with ThreadPoolExecutor(6) as pool:
        ended = [pool.submit(run, use) for use in uses]
        began.wait(WAIT)
        database.close()
        errors = [each.result(WAIT) for each in ended]
    assert {type(error) for error in errors} == {UnavailableError}
    with pytest.raises(UnavailableError, match="pfsd is being stopped"):
        next(suspended)
    with pytest.raises(UnavailableError, match="pfsd is being stopped"):
        database.batch().put("meta", b"", b"")
    database.close()
    again = Database(tmp_path / "meta")  # nothing has the former one open
    assert again.get("meta", b"%08d" % 0) == b"x" * 1000
    again.close()


# --- the store


def test_a_store_is_closed_under_whoever_uses_it(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path / "root")
    store.repos.create("r")
    kept = store.commits.start("r", branch="kept")
    put(store, kept, "a", random.Random(0).randbytes(1 << 20))
    store.commits.finish("r", kept.id)
    began = threading.Barrier(6)

    def upload(number: int) -> None:
        at = store.commits.start("r", branch=f"b{threading.get_ident()}")
        put(store, at, "a", random.Random(number).randbytes(2 << 20))
        store.commits.finish("r", at.id)

    def read(_number: int) -> None:
        at = store.commits.resolve("r", "kept")
        assert len(b"".join(store.files.read(at, "a", 0, 0))) == 1 << 20

    def run(use: Callable[[int], object]) -> Exception:
        use(1)
        began.wait(WAIT)
        return until_refused(use)

    uses = (upload, upload, read, read, lambda _: collect_garbage(store.root))
    with ThreadPoolExecutor(5) as pool:
        ended = [pool.submit(run, use) for use in uses]
        began.wait(WAIT)
        store.close()
        errors = [each.result(WAIT) for each in ended]
    assert {type(error) for error in errors} == {UnavailableError}, errors
    open_files = [path.resolve() for path in pathlib.Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [path for path in open_files if path.is_relative_to(tmp_path / "root")]
    again = Store(tmp_path / "root")
    assert len(b"".join(again.files.read(again.commits.resolve("r", "kept"), "a", 0, 0))) == 1 << 20
    again.close()


def test_a_daemon_that_is_stopped_at_work_logs_no_traceback(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {f"{number}": b"x" * 1000 for number in range(100)})
    admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
    began = threading.Barrier(6)

    def upload(number: int) -> None:
        daemon.commit_files("r", {"a": random.Random(number).randbytes(1 << 20)}, f"b{threading.get_ident()}")

    def walk(_number: int) -> None:
        request = pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"))
        daemon.pfs.ListCommit(request)
        daemon.list(pfs_pb2.Commit(repo=pfs_pb2.Repo(name="r"), id="master"))

    def run(use: Callable[[int], object]) -> Exception:
        use(1)
        began.wait(WAIT)
        return until_refused(use)

    uses = (upload, upload, walk, walk, lambda _: admin.CollectGarbage(Empty()))
    with ThreadPoolExecutor(5) as pool:
        ended = [pool.submit(run, use) for use in uses]
        began.wait(WAIT)
        assert daemon.process is not None
        daemon.process.terminate()
        errors = [each.result(WAIT) for each in ended]
        assert daemon.process.wait(WAIT) == 0
    codes = {error.code() if isinstance(error, grpc.RpcError) else error for error in errors}
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "Traceback" not in daemon.log()
    assert "borrowed" not in daemon.log()


# --- packs on their way


class Flaky:
    """Seals what it is given, after it has raised errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.gate = threading.Event()

    def seal(self, _item: str) -> None:
        assert self.gate.wait(WAIT)
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyError("gone"), StateError), (FullError("the disk is full"), FullError), (StateError("no"), StateError)],
)
def test_an_error_while_a_pack_is_sealed_ends_whoever_waits_and_it_is_tried_again(
    error: Exception, told: type[PfsError], caplog: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky(error)
    sealing = Sealing(flaky.seal, threads=1, depth=1)
    with ThreadPoolExecutor(1) as pool:
        first = sealing.submit("pack")
        writer = pool.submit(sealing.wait_for_room)
        flaky.gate.set()
        with pytest.raises(told):
            first.result(WAIT)
        for again in sealing.pending():  # none, where the second attempt was faster
            again.result(WAIT)
        try:
            writer.result(WAIT)
        except told as refusal:
            assert "packs wait to be stored" in str(refusal)  # noqa: PT017 (it may have had room meanwhile)
    sealing.wait_for_room()
    assert sealing.trouble is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING]
    sealing.close()


def test_writers_are_told_at_once_what_is_wrong_here_and_wait_for_what_is_outside() -> None:
    flaky = Flaky(*(RefusedError("wrong key") for _ in range(2)))
    flaky.gate.set()
    sealing = Sealing(flaky.seal, threads=1, depth=1)
    sent = [sealing.submit("pack") for _ in range(1 + ROOM_BESIDE)]
    sealing.wait_for_room()
    assert flaky.errors == []
    for future in sent:
        future.result(WAIT)
    flaky.errors += (FullError("the disk is full") for _ in range(1000))
    with pytest.raises(FullError, match="the disk is full"):
        sealing.submit("pack").result(WAIT)
    with pytest.raises(FullError, match="1 packs wait to be stored, and no more are taken until they are: the disk"):
        sealing.wait_for_room()
    sealing.close()


def test_closing_ends_whoever_waits_for_a_pack() -> None:
    flaky = Flaky(*(UnavailableError("away") for _ in range(1000)))
    sealing = Sealing(flaky.seal, threads=1, depth=1)
    with ThreadPoolExecutor(1) as pool:
        futures = [sealing.submit("pack") for _ in range(1 + ROOM_BESIDE)]
        writer = pool.submit(sealing.wait_for_room)
        flaky.gate.set()
        sealing.close()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(WAIT)
        with pytest.raises(UnavailableError, match="pfsd is being stopped"):
            writer.result(WAIT)
    assert sealing.submit("late").cancelled()
