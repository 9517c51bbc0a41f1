"""A daemon over S3 behind a network that breaks: nothing finished is lost, nothing wrong is served."""

from __future__ import annotations

import os
import pathlib
import random
import re
import shutil
import threading
from collections.abc import Iterator

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.clouds import s3
from pfsd.objectstores.blockfiles import BLOCK_BYTES, statistics
from tests.pfsfuse.content.test_remote import mounted
from tests.support.daemons import Daemon, commit, running
from tests.support.faulty.faults import KINDS, Choice, Faults, faulty
from tests.support.pipelines import spec, until
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server

MIB = 1 << 20
ON_S3 = ("--object-store", "s3://data/root")
GONE_SECONDS = float(os.environ.get("PFSD_TEST_GONE_SECONDS", "2"))
"""For which the store is away while a job runs."""


@pytest.fixture
def faults(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A proxy, where the environment finds the store, in front of an empty bucket."""
    with faulty(moto.endpoint) as proxy:
        for name, value in {**moto.environment, "AWS_ENDPOINT_URL": proxy.endpoint}.items():
            monkeypatch.setenv(name, value)
        s3.client.cache_clear()
        yield proxy
        s3.client.cache_clear()
    client = s3servers.client(moto)
    for item in client.list_objects_v2(Bucket="data").get("Contents", ()):
        client.delete_object(Bucket="data", Key=item["Key"])


def sample(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def every_third(kind: str) -> Choice:
    """Does it to every third request."""
    return lambda number, method: kind if number % 3 == 0 else None


def nothing(number: int, method: str) -> str | None:
    """Lets every request through."""
    return None


def drop_cache(daemon: Daemon, root: pathlib.Path) -> None:
    """Start again with nothing at hand but what is in the store."""
    daemon.kill()
    shutil.rmtree(root / "cache")
    daemon.start()


@pytest.mark.parametrize("kind", KINDS)
def test_what_breaks_now_and_then_is_not_noticed(faults: Faults, tmp_path: pathlib.Path, kind: str) -> None:
    large = sample(1, 20 * MIB)
    with running(tmp_path / "root", "--no-pipelines", *ON_S3) as daemon:
        daemon.create_repo("images")
        faults.choose = every_third(kind)
        at = daemon.commit_files("images", {"large": large, "small": b"small"})
        written = len(faults.done)
        assert written > 0
        faults.choose = nothing
        drop_cache(daemon, tmp_path / "root")
        faults.choose = every_third(kind)
        assert daemon.get(at, "large") == large
        assert daemon.get(at, "small") == b"small"
        assert len(faults.done) > written
        faults.choose = nothing
        assert b"Problems: 0" in daemon.pachctl("fsck").stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_mount_reads_through_what_breaks_now_and_then(faults: Faults, tmp_path: pathlib.Path, kind: str) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this needs /dev/fuse")
    files = {"large": sample(1, 40 * MIB), **{f"small-{number:03}": sample(number, 3000) for number in range(60)}}
    with running(tmp_path / "root", "--no-pipelines", *ON_S3) as daemon:
        daemon.create_repo("images")
        daemon.commit_files("images", files)
        faults.choose = every_third(kind)
        with mounted([], tmp_path / "pfs", daemon.address, PFS_CACHE_DIR=str(tmp_path / "cache")) as point:
            for path, data in files.items():
                assert (point / "images/master" / path).read_bytes() == data
        assert kind in faults.done
        # A request that breaks again and again for PATIENCE_SECONDS goes on through the daemon, which depends on when
        # the others come; the first ones do not.
        assert statistics(tmp_path / "cache").fetched >= BLOCK_BYTES


def test_a_store_that_is_gone_for_a_while_does_not_fail_a_job(faults: Faults, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", *ON_S3) as daemon:
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(spec())
        faults.away.set()
        back = threading.Timer(GONE_SECONDS, faults.away.clear)
        started = daemon.start_commit("in")
        files = {f"{number}": b"text %d\n" % number for number in range(20)}
        for path, data in files.items():
            daemon.put(started, path, data)
        back.start()
        try:
            daemon.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=started), timeout=GONE_SECONDS + 60)
            faults.away.set()  # and again, now that the job runs
            again = threading.Timer(GONE_SECONDS, faults.away.clear)
            again.start()
            output = computed(daemon, started)
        finally:
            back.join()
        again.join()
        assert "drop" in faults.done
        assert re.search("waits.*s3://data/root", daemon.log())
        drop_cache(daemon, tmp_path / "root")
        for path, data in files.items():
            assert daemon.get(output, path) == data.upper()


def test_a_job_waits_for_input_that_only_the_store_has(faults: Faults, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", *ON_S3) as daemon:
        daemon.create_repo("in")
        files = {f"{number}": sample(number, 300_000).hex().encode() for number in range(4)}
        given = daemon.commit_files("in", files)
        drop_cache(daemon, tmp_path / "root")
        faults.away.set()
        daemon.pps.CreatePipeline(spec())
        until(lambda: "drop" in faults.done)
        back = threading.Timer(GONE_SECONDS, faults.away.clear)
        back.start()
        output = computed(daemon, given)
        back.join()
        for path, data in files.items():
            assert daemon.get(output, path) == data.upper()


def computed(daemon: Daemon, given: pfs_pb2.Commit) -> pfs_pb2.Commit:
    """The output commit that the pipeline computes of one, however long the store is away."""
    request = pfs_pb2.FlushCommitRequest(commits=[given])
    found = list(daemon.pfs.FlushCommit(request, timeout=GONE_SECONDS + 60))
    output: pfs_pb2.Commit
    (output,) = [info.commit for info in found if info.commit.repo.name == "upper"]
    return output


def test_a_daemon_starts_while_its_store_is_away(faults: Faults, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", "--no-pipelines", *ON_S3) as daemon:
        daemon.create_repo("images")
        at = daemon.commit_files("images", {"a": sample(1, MIB)})
        gone = daemon.commit_files("images", {"b": sample(2, MIB)})
        daemon.stop()
        faults.away.set()
        daemon.start()
        assert "starting without it" in daemon.log()
        assert daemon.get(at, "a") == sample(1, MIB)  # cached
        shutil.rmtree(tmp_path / "root" / "cache")
        (tmp_path / "root" / "cache").mkdir()
        with pytest.raises(grpc.RpcError) as failure:
            daemon.get(gone, "b")
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "s3://data/root" in (failure.value.details() or "")
        opened = daemon.start_commit("images")
        daemon.put(opened, "c", b"meanwhile")
        assert daemon.get(opened, "c") == b"meanwhile"
        waiting = daemon.pfs.FinishCommit.future(pfs_pb2.FinishCommitRequest(commit=opened))
        until(lambda: "waits for" in daemon.log())
        faults.away.clear()
        waiting.result(60)
        drop_cache(daemon, tmp_path / "root")
        assert daemon.get(commit("images", "master"), "c") == b"meanwhile"
        assert daemon.get(gone, "b") == sample(2, MIB)
