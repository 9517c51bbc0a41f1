"""A daemon over S3, its readers and its block cache: real servers, mounts, and a network of their own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.clouds import s3
from pfsd.objectstores.blockfiles import statistics
from pfsd.statuses import is_said
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from tests.support.daemons import Daemon, commit, running
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server
from tools.s3server import gateway_path

MIB = 1 << 20
URL = "s3://data/root"
ON_S3 = ("--no-pipelines", "--object-store", URL)


@pytest.fixture
def server(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """moto's server, where the environment finds it, with an empty bucket."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    s3.client.cache_clear()
    yield moto
    s3.client.cache_clear()
    client = s3servers.client(moto)
    for item in client.list_objects_v2(Bucket="data").get("Contents", ()):
        client.delete_object(Bucket="data", Key=item["Key"])


def packs(server: S3Server) -> dict[str, int]:
    """The packs in the bucket, with their sizes."""
    listed = s3servers.client(server).list_objects_v2(Bucket="data", Prefix="root/v1/packs/")
    return {item["Key"].rpartition("/")[2]: item["Size"] for item in listed.get("Contents", ())}


def sample(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@contextlib.contextmanager
def mounted(command: list[str], point: pathlib.Path, address: str, **environment: str) -> Iterator[pathlib.Path]:
    """The repository view, mounted by a process that `command` begins."""
    point.mkdir()
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "pfsfuse.mount", "--mountpoint", str(point), "--address", address],
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the mount did not come up"
        yield point
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()  # type: ignore[union-attr]


def test_a_finished_commit_is_in_the_bucket_and_survives_the_loss_of_spool_and_cache(
    server: S3Server, tmp_path: pathlib.Path
) -> None:
    large = sample(1, 40 * MIB)
    with running(tmp_path / "root", *ON_S3) as daemon:
        daemon.create_repo("images")
        at = daemon.commit_files("images", {"large": large, "small": b"small"})
        assert sum(packs(server).values()) > len(large)
        assert daemon.get(at, "large") == large
        daemon.kill()
        shutil.rmtree(tmp_path / "root" / "cache")
        for left in (tmp_path / "root" / "spool").iterdir():
            left.unlink()
        daemon.options = ("--no-pipelines",)  # the root knows where its packs are
        daemon.start()
        assert daemon.get(at, "large") == large
        assert daemon.get(at, "small") == b"small"


def test_fsck_and_garbage_collection_over_s3(server: S3Server, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", *ON_S3) as daemon:
        daemon.create_repo("kept")
        daemon.create_repo("gone")
        kept = {f"{number}": sample(number, 3000) for number in range(10)}
        for path, data in kept.items():  # each commit leaves a small pack
            daemon.commit_files("kept", {path: data})
        daemon.commit_files("gone", {"large": sample(99, 40 * MIB)})
        before = packs(server)
        daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="gone"), force=True))
        daemon.pachctl("garbage-collect")
        after = packs(server)
        assert sum(after.values()) < sum(before.values()) / 10
        assert len(after) < len(kept)
        assert b"Problems: 0" in daemon.pachctl("fsck").stdout
        for path, data in kept.items():
            assert daemon.get(commit("kept", "master"), path) == data
        daemon.stop()
        assert [found for found in fsck.check_root(tmp_path / "root", False) if isinstance(found, Problem)] == []
        name = max(after, key=lambda pack: after[pack])
        client = s3servers.client(server)
        client.delete_object(Bucket="data", Key=f"root/v1/packs/{name[:2]}/{name}")
        shutil.rmtree(tmp_path / "root" / "cache")
        found = [each for each in fsck.check_root(tmp_path / "root", False) if isinstance(each, Problem)]
        assert any(name in each.what and "missing" in each.what for each in found)


def test_another_root_and_another_store_are_refused_in_a_sentence(server: S3Server, tmp_path: pathlib.Path) -> None:
    def refused(root: str, *options: str) -> str:
        command = [sys.executable, "-m", "pfsdaemon.main", "--root", str(tmp_path / root), "--listen", "127.0.0.1:0"]
        result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    with running(tmp_path / "root", *ON_S3):
        pass
    assert "has the packs of another root" in refused("other", *ON_S3)
    assert "leave --object-store out" in refused("root", "--object-store", "s3://data/elsewhere")
    assert "there is no such bucket" in refused("third", "--object-store", "s3://nothing/x")
    with running(tmp_path / "local", "--no-pipelines") as daemon:
        daemon.create_repo("images")
        daemon.commit_files("images", {"large": sample(1, 40 * MIB)})
    assert "pachctl migrate --root" in refused("local", "--object-store", "s3://data/local")
    with running(tmp_path / "other", *ON_S3, "--take-over"):
        pass


def test_finishing_waits_for_a_store_that_is_away_and_says_so(
    server: S3Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stoppable(server) as (endpoint, cut, mend):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with running(tmp_path / "root", *ON_S3) as daemon:
            daemon.create_repo("images")
            at = daemon.start_commit("images")
            cut()
            daemon.put(at, "a", sample(1, 40 * MIB))  # the spool takes it
            with pytest.raises(grpc.RpcError) as failure:
                daemon.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=at), timeout=8)
            assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
            assert is_said(failure.value)
            assert re.search(
                rf"commit images/{at.id} is not finished, and stays open: . packs are not in the object store yet, "
                r"because s3://data/root .*: try again",
                failure.value.details() or "",
            )
            daemon.put(at, "b", b"more")  # it is open and usable
            assert daemon.get(at, "a", 5, 7) == sample(1, 40 * MIB)[5:12]
            waiting = daemon.pfs.FinishCommit.future(pfs_pb2.FinishCommitRequest(commit=at))
            followed(daemon, rf"finishing commit images/{at.id} waits for . packs: s3://data/root")
            mend()
            waiting.result(60)
            assert daemon.get(at, "b") == b"more"
            assert sum(packs(server).values()) > 40 * MIB


def followed(daemon: Daemon, pattern: str) -> None:
    """Return once the daemon's log says it."""
    deadline = time.monotonic() + 30
    while not re.search(pattern, daemon.log()):
        assert time.monotonic() < deadline, f"the log does not say {pattern}"
        time.sleep(0.05)


@contextlib.contextmanager
def stoppable(server: S3Server) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """An endpoint that passes connections to a server, until it is cut, and again once it is mended."""
    import socket

    host, port = server.endpoint.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    is_cut = threading.Event()
    open_now: set[socket.socket] = set()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if is_cut.is_set():
                client.close()
                continue
            behind = socket.create_connection((host, int(port)))
            open_now.update((client, behind))
            threading.Thread(target=pump, args=(client, behind), daemon=True).start()
            threading.Thread(target=pump, args=(behind, client), daemon=True).start()

    def cut() -> None:
        is_cut.set()
        for end in open_now:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", cut, is_cut.clear
    finally:
        listener.close()
        cut()
        for end in open_now:
            end.close()


def test_a_mount_shares_the_daemons_cache_and_says_how_it_fares(server: S3Server, tmp_path: pathlib.Path) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this needs /dev/fuse")
    with running(tmp_path / "root", *ON_S3, "--cache-dir", str(tmp_path / "cache"), "--cache-size", "64M") as daemon:
        daemon.create_repo("images")
        files = {f"{number:03}": sample(number, 1000) for number in range(100)}
        daemon.commit_files("images", {**files, "large": sample(1, 20 * MIB)})
        with mounted([], tmp_path / "pfs", daemon.address) as point:
            for path, data in files.items():
                assert (point / "images/master" / path).read_bytes() == data
            assert (point / "images/master/large").read_bytes() == sample(1, 20 * MIB)
        assert statistics(tmp_path / "cache").requests == 0  # all was kept when it was stored
        printed = daemon.pachctl("inspect-cache").stdout.decode()
        assert f"Directory: {tmp_path / 'cache'}" in printed
        assert "100.0% of them here" in printed


def test_a_damaged_block_and_a_wrong_address_never_show(server: S3Server, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", *ON_S3) as daemon:
        daemon.create_repo("images")
        at = daemon.commit_files("images", {"large": sample(1, 5 * MIB)})
        blocks = [path for path in (tmp_path / "root" / "cache").glob("??/*") if path.stat().st_size > 1000]
        assert blocks
        for block in blocks:
            block.write_bytes(bytes(block.stat().st_size))
        assert daemon.get(at, "large") == sample(1, 5 * MIB)
        assert statistics(tmp_path / "root" / "cache").damaged > 0


def test_files_are_put_from_s3_one_or_all_below_a_prefix(
    server: S3Server, daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    client = s3servers.client(server)
    files = {"a": b"1", "deep/er/b": b"2" * 9_000_000, "deep/c d": b""}
    for path, data in files.items():
        client.put_object(Bucket="data", Key=f"in/{path}", Body=data)
    client.put_object(Bucket="data", Key="in/deep/", Body=b"")  # as consoles mark directories
    daemon.create_repo("images")
    daemon.pachctl("put-file", "images", "master", "-c", "-f", "s3://data/in/deep/er/b")
    assert daemon.get(commit("images", "master"), "in/deep/er/b") == files["deep/er/b"]
    daemon.pachctl("put-file", "images", "all", "to", "-c", "-r", "-f", "s3://data/in")
    for path, data in files.items():
        assert daemon.get(commit("images", "all"), f"to/{path}") == data
    for url, options, says in (
        ("s3://data/in/none", (), b"s3://data/in/none is not there"),
        ("s3://data/none", ("-r",), b"there is nothing below s3://data/none"),
        ("s3://nobody/none", ("-r",), b"there is no such bucket"),
    ):
        failed = daemon.pachctl("put-file", "images", "no", "x", "-c", *options, "-f", url, check=False)
        assert failed.returncode == 1
        assert says in failed.stderr


def test_a_local_root_moves_to_s3(server: S3Server, tmp_path: pathlib.Path) -> None:
    large = sample(1, 40 * MIB)
    with running(tmp_path / "root", "--no-pipelines") as daemon:
        daemon.create_repo("images")
        at = daemon.commit_files("images", {"large": large})
        daemon.stop()
        moved = daemon.pachctl("migrate", "--root", str(tmp_path / "root"), "--object-store", URL)
        assert moved.stdout == b"moved 1 packs\n"
        assert not (tmp_path / "root" / "objects").exists()
        assert len(packs(server)) == 1
        daemon.start()
        assert daemon.get(at, "large") == large
        assert b"is served by another pfsd" in migrated(daemon, "local", check=False).stderr
        daemon.stop()
        assert migrated(daemon, "local").stdout == b"moved 1 packs\n"
        assert packs(server) == {}
        assert "Contents" not in s3servers.client(server).list_objects_v2(Bucket="data", Prefix="root/")
        shutil.rmtree(tmp_path / "root" / "cache")
        daemon.start()
        assert daemon.get(at, "large") == large
        assert b"Problems: 0" in daemon.pachctl("fsck").stdout
        daemon.stop()
        assert migrated(daemon, "local").stdout == b"moved 0 packs\n"  # they are there


def migrated(daemon: Daemon, target: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return daemon.pachctl("migrate", "--root", str(daemon.root), "--object-store", target, check=check)


# --- another machine


class Elsewhere:
    """A network namespace with one link to the daemon and one to the store."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name = f"pfs-test-{os.getpid()}"
        self.daemon_host, self.store_host = f"10.211.{number}.1", f"10.212.{number}.1"
        self.links = (f"pd{os.getpid()}", f"ps{os.getpid()}")

    def __enter__(self) -> Elsewhere:
        run("ip", "netns", "add", self.name)
        for link, host in zip(self.links, (self.daemon_host, self.store_host), strict=True):
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "far", "netns", self.name)
            run("ip", "address", "add", f"{host}/24", "dev", link)
            run("ip", "link", "set", link, "up")
            run("ip", "-n", self.name, "link", "set", "far", "name", f"far-{host.split('.')[1]}")
            far = f"far-{host.split('.')[1]}"
            run("ip", "-n", self.name, "address", "add", f"{host[:-1]}2/24", "dev", far)
            run("ip", "-n", self.name, "link", "set", far, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for link in self.links:
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        run("ip", "netns", "delete", self.name)

    @property
    def command(self) -> list[str]:
        """What begins a command that runs there."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def sent(self) -> tuple[int, int]:
        """Bytes that went there so far: from the daemon, from the store."""
        counters = [pathlib.Path(f"/sys/class/net/{link}/statistics/tx_bytes").read_text() for link in self.links]
        return int(counters[0]), int(counters[1])

    def cut_store(self) -> None:
        """Take the link to the store down."""
        run("ip", "link", "set", self.links[1], "down")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("this needs root, ip and nsenter to make a network namespace")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this needs /dev/fuse")
    with Elsewhere() as made:
        yield made


@pytest.mark.parametrize("way", ["signed", "own", "daemon"])
def test_bytes_go_from_the_store_to_a_reader_on_another_machine(
    elsewhere: Elsewhere, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if gateway_path() is None:
        pytest.skip("versitygw is not here: python -m tools.s3server builds it")
    with s3servers.gateway(tmp_path / "s3", elsewhere.store_host) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        daemon = Daemon(tmp_path / "root", *ON_S3)
        daemon.address = f"{elsewhere.daemon_host}:0"
        try:
            daemon.start()
            daemon.create_repo("images")
            small = {f"{number:03}": sample(number, 4000) for number in range(300)}
            large, last = sample(1, 24 * MIB), sample(2, 3 * MIB)
            daemon.commit_files("images", {"large": large, "last": last})
            daemon.pachctl("start-commit", "images", "master")
            for path, data in small.items():
                daemon.put(commit("images", "master"), path, data)
            daemon.pachctl("finish-commit", "images", "master")
            environment = {"PFS_READ_FROM": way, "PFS_CACHE_DIR": str(tmp_path / "cache")}
            if way != "own":
                environment |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL": ""}
            with mounted(elsewhere.command, tmp_path / "pfs", daemon.address, **environment) as point:
                before = elsewhere.sent()
                for path, data in {**small, "large": large}.items():
                    assert (point / "images/master" / path).read_bytes() == data
                from_daemon, from_store = (now - then for now, then in zip(elsewhere.sent(), before, strict=True))
                if way == "daemon":
                    assert from_daemon > len(large)
                    assert from_store < MIB
                    return
                assert from_daemon < 0.5 * MIB
                assert from_store > len(large)
                elsewhere.cut_store()
                assert (point / "images/master/last").read_bytes() == last  # kept, or through the daemon
            if way == "signed":
                assert statistics(tmp_path / "cache").requests < 30  # 301 files, 25 MiB
        finally:
            daemon.end()
