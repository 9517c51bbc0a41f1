"""What the disk says is heard: syncs, writes and reads that fail, directories that are synced, room that comes back."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from tests.support.daemons import Daemon, commit
from tests.support.faulty.diskfaults import Disk
from tests.support.pipelines import until

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

LARGE = random.Random(1).randbytes(300_000)
"""More than the journal takes: it is synced with its pack."""


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Disk:
    return Disk.make(tmp_path / "disk")


@pytest.fixture
def served(disk: Disk, tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A daemon of the file system alone, over that disk."""
    daemon = disk.daemon(tmp_path / "root", "--no-pipelines")
    try:
        yield daemon.start()
    finally:
        disk.heal()
        daemon.end()


def body(number: int, size: int = len(LARGE)) -> bytes:
    return random.Random(number).randbytes(size)


def refusal(call: object, *arguments: object) -> tuple[grpc.StatusCode, str]:
    """The status and the sentence of a call that fails."""
    assert callable(call)
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), caught.value.details() or ""


def check(root: pathlib.Path) -> None:
    """A root that nobody serves has no problems."""
    assert [found for found in fsck.check_root(root, False) if isinstance(found, Problem)] == []


# --- syncs


def test_a_pack_whose_sync_failed_is_written_anew(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    before = served.commit_files("r", {"before": LARGE})
    disk.fail("sync", served.root / "spool/", mode="keep")
    after = served.commit_files("r", {f"{number}": body(number) for number in range(2, 5)})
    assert [path for word, path in disk.events() if word == "failed"], "a sync has failed"
    served.kill()
    disk.cut_power(served.root)
    served.start()
    assert served.get(before, "before") == LARGE
    assert all(served.get(after, f"{number}") == body(number) for number in range(2, 5))
    assert served.stop() == 0
    check(served.root)


def test_what_a_failed_sync_has_dropped_stops_the_writing_and_can_be_put_again(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    before = served.commit_files("r", {"before": LARGE})
    opened = served.start_commit("r")
    served.put(opened, "lost", body(2))
    disk.fail("sync", served.root / "spool/", mode="drop")
    for _ in range(2):  # a second sync would succeed
        code, sentence = refusal(served.finish_commit, opened)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "can't be synced: Input/output error" in sentence
        assert "check the disk that holds the root, start pfsd again" in sentence
    assert refusal(served.put, opened, "more", b"x" * 100_000) == (code, sentence)
    assert served.get(before, "before") == LARGE, "reading goes on"
    disk.heal()
    assert served.stop() == 0
    assert "Traceback" not in served.log()
    served.start()
    code, sentence = refusal(served.finish_commit, opened)
    assert code is grpc.StatusCode.DATA_LOSS
    served.put(opened, "lost", body(2), overwrite=True)
    served.finish_commit(opened)
    assert served.get(opened, "lost") == body(2)
    assert served.stop() == 0
    check(served.root)


@pytest.mark.parametrize("restart", ["stop", "kill"])
def test_a_disk_that_takes_nothing_stops_the_writing(disk: Disk, served: Daemon, restart: str) -> None:
    served.create_repo("r")
    before = served.commit_files("r", {"before": LARGE})
    opened = served.start_commit("r")
    served.put(opened, "a", body(2))
    disk.fail("sync", served.root / "spool/", times=1_000_000)
    code, sentence = refusal(served.finish_commit, opened)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "nothing is taken any more" in sentence
    disk.heal()
    assert refusal(served.finish_commit, opened) == (code, sentence), "it may be lost, although syncs succeed now"
    if restart == "kill":
        served.kill()
    else:
        assert served.stop() == 0
    served.start()
    served.finish_commit(opened)  # what was read at the start was written once more
    synced = [path for word, path in disk.events() if word == "sync" and "/spool/" in path]
    assert synced
    assert served.get(opened, "a") == body(2)
    assert served.get(before, "before") == LARGE


def test_a_start_writes_once_more_what_no_sync_has_written(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    opened = served.start_commit("r")
    served.put(opened, "a", body(2))
    disk.fail("sync", served.root / "spool/", times=1_000_000)
    refusal(served.finish_commit, opened)
    served.kill()
    (pack,) = (served.root / "spool").iterdir()
    before = pack.stat().st_mtime_ns
    disk.heal()
    served.start()
    assert pack.stat().st_mtime_ns > before
    served.finish_commit(opened)
    assert served.get(opened, "a") == body(2)


def test_metadata_that_can_not_be_synced_stop_the_writing(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    before = served.commit_files("r", {"before": b"small"})
    opened = served.start_commit("r")
    served.put(opened, "a", b"small too")
    disk.fail("sync", served.root / "meta/", mode="keep")
    code, sentence = refusal(served.finish_commit, opened)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "the metadata can't be written" in sentence
    assert "start pfsd again" in sentence
    code, sentence = refusal(served.create_repo, "other")
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "start pfsd again" in sentence
    assert served.get(before, "before") == b"small", "reading goes on"
    disk.heal()
    assert served.stop() == 0
    served.start()
    served.create_repo("other")
    assert served.get(before, "before") == b"small"


def test_every_directory_of_a_root_is_synced_when_it_is_made(disk: Disk, tmp_path: pathlib.Path) -> None:
    daemon = disk.daemon(tmp_path / "above" / "root", "--no-pipelines")
    (tmp_path / "above").mkdir()
    daemon.start()
    try:
        daemon.create_repo("r")
        daemon.commit_files("r", {"a": random.Random(5).randbytes(40 << 20)})
        until(lambda: list(daemon.root.glob("objects/packs/??/*")))
    finally:
        daemon.end()
    events = disk.events()
    made = [
        (at, path) for at, (word, path) in enumerate(events) if word == "mkdir" and path.startswith(str(daemon.root))
    ]
    names = {str(pathlib.Path(path).relative_to(daemon.root)) for _, path in made}
    assert {".", "meta", "spool", "objects", "objects/packs"} < names
    for at, path in made:
        above = str(pathlib.Path(path).parent)
        assert ("sync", above) in events[at:], f"{path} was made, and {above} not synced"


def test_what_a_repair_keeps_of_the_metadata_is_synced_before_they_are_changed(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    assert served.stop() == 0
    (manifest,) = (served.root / "meta").glob("MANIFEST-*")
    os.truncate(manifest, manifest.stat().st_size // 2)
    environment = {**os.environ, "LD_PRELOAD": str(disk.library), "DISK_FAULTS": str(disk.directory)}
    command = [sys.executable, "-m", "pachctl.main", "fsck", "--root", str(served.root), "--fix"]
    begun = len(disk.events())
    disk.fail("sync", "meta.damaged-")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "can't be kept in" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    disk.heal()
    subprocess.run(command, env=environment, timeout=120, check=False)
    (aside,) = (path for path in served.root.glob("meta.damaged-*") if ("sync", str(path)) in disk.events())
    events = disk.events()[begun:]
    assert ("sync", str(served.root)) in events
    assert {("sync", str(path)) for path in (aside, *aside.iterdir())} <= set(events)
    served.start()
    assert served.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="r")))


# --- sealing


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_pack_that_can_not_be_sealed_stays_and_is_tried_again(disk: Disk, served: Daemon, number: int) -> None:
    served.create_repo("r")
    disk.fail("rename", served.root / "spool/", times=1_000_000, number=number)
    at = served.start_commit("r")
    code, sentence = refusal(served.put, at, "large", body(3, 140 << 20))
    assert code is (grpc.StatusCode.FAILED_PRECONDITION if number == errno.EIO else grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert "packs wait to be stored, and no more are taken until they are" in sentence
    assert {errno.EIO: "Input/output", errno.ENOSPC: "full", errno.EMFILE: "Too many"}[number] in sentence
    assert not list(served.root.glob("objects/packs/??/*"))
    disk.heal()
    until(lambda: len(list(served.root.glob("objects/packs/??/*"))) >= 2)
    served.put(at, "small", body(4))
    served.finish_commit(at)
    assert served.get(at, "small") == body(4)


# --- reading


def test_a_pack_that_can_not_be_read_is_data_loss(disk: Disk, served: Daemon) -> None:
    served.create_repo("r")
    at = served.commit_files("r", {"a": body(5, 40 << 20)})
    until(lambda: list(served.root.glob("objects/packs/??/*")))
    for place in ("objects/", "spool/"):
        disk.fail("pread", served.root / place, times=1_000_000)
        code, sentence = refusal(served.get, at, "a")
        assert code is grpc.StatusCode.DATA_LOSS
        assert "can't be read: Input/output error: check the disk" in sentence
        disk.heal()
        assert served.get(at, "a") == body(5, 40 << 20)


def test_too_many_open_files_are_no_data_loss(served: Daemon) -> None:
    served.create_repo("r")
    at = served.commit_files("r", {"a": body(5, 40 << 20)})
    until(lambda: list(served.root.glob("objects/packs/??/*")))
    assert served.process is not None
    assert served.get(at, "a", 39 << 20, 10)  # so that what is needed besides is open
    subprocess.run(["prlimit", f"--pid={served.process.pid}", "--nofile=3:"], check=True)
    code, sentence = refusal(served.get, at, "a", 0, 10)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Too many open files: give pfsd more (ulimit -n" in sentence
    subprocess.run(["prlimit", f"--pid={served.process.pid}", "--nofile=1000:"], check=True)
    assert served.get(at, "a", 0, 10) == body(5, 40 << 20)[:10]


# --- room


def fill(path: pathlib.Path) -> None:
    """Take all the room that a file system has."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(1 << 16)):
            pass


def create_many(daemon: Daemon) -> None:
    for number in range(10_000):
        daemon.create_repo(f"{number}-" + "x" * 50)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_metadata_go_on_once_a_full_disk_has_room_again(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(place)], check=True)
    daemon = Daemon(place / "root", "--no-pipelines")
    try:
        daemon.start()
        daemon.create_repo("r")
        at = daemon.commit_files("r", {"a": b"small"})
        fill(place / "filler")
        assert refusal(create_many, daemon)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal(daemon.create_repo, "again")[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert daemon.get(at, "a") == b"small"
        (place / "filler").unlink()
        daemon.create_repo("again")
        assert daemon.get(daemon.commit_files("again", {"b": LARGE}), "b") == LARGE
        assert daemon.stop() == 0
        daemon.start()
        assert daemon.get(commit("again", "master"), "b") == LARGE
        assert daemon.get(at, "a") == b"small"
    finally:
        daemon.end()
        subprocess.run(["umount", str(place)], check=True)
