"""Mounts of this machine and workers leave each other alone: what is unmounted is gone while workers live."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pachproto import pps_pb2
from tests.pfsfuse.job.test_job import needs_root
from tests.support.daemons import Daemon
from tests.support.pipelines import flush, spec, until, workers

WAIT_SECONDS = 60

pytestmark = [
    needs_root,
    pytest.mark.skipif(not all(map(shutil.which, ("unshare", "nsenter"))), reason="needs unshare and nsenter"),
]


class Host:
    """A mount namespace that stands for a machine: a daemon runs in it, and people mount and unmount."""

    def __init__(self, daemon: Daemon) -> None:
        assert daemon.process is not None
        self.daemon = daemon
        self._enter = ["nsenter", "--target", str(daemon.process.pid), "--mount", f"--wd={os.getcwd()}"]

    def run(self, *command: str) -> str:
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def mount_repositories(self, path: pathlib.Path) -> subprocess.Popen[str]:
        """`pachctl mount`, ready."""
        command = [sys.executable, "-m", "pachctl.main", "mount", str(path)]
        environment = {**os.environ, "ADDRESS": self.daemon.address}
        process = subprocess.Popen([*self._enter, *command], stdout=subprocess.PIPE, text=True, env=environment)
        until(lambda: self.run("stat", "-f", "-c", "%T", str(path)).strip().startswith("fuse"))
        return process

    def work(self) -> list[int]:
        """Have workers compute something; they stay, and what started their user code does."""
        self.daemon.create_repo("in")
        self.daemon.pps.CreatePipeline(spec(parallelism_spec={"constant": 1}))
        flush(self.daemon, self.daemon.commit_files("in", {"a": b"a"}))
        found = workers(self.daemon)
        assert len(found) == 1
        pids = [pid for worker in found for pid in (worker, *below(worker))]
        assert len(pids) == 3  # worker, runner, and the first process of the user code's namespace
        return pids


def below(pid: int) -> list[int]:
    """All processes that descend from one."""
    files = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for file in files for word in file.read_text().split()]
    return [one for child in children for one in (child, *below(child))]


def seen(pids: list[int], path: pathlib.Path) -> list[int]:
    """Those of the processes in whose namespace something is mounted on `path`."""
    return [
        pid
        for pid in pids
        if any(line.split()[4] == str(path) for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    ]


@pytest.fixture(params=["private", "shared"])
def host(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Host]:
    """As containers have their mounts, and as systemd has them."""
    daemon = Daemon(tmp_path / "root", wrapper=("unshare", "--mount", "--propagation", request.param))
    try:
        yield Host(daemon.start())
    finally:
        daemon.end()


def test_a_mount_of_repositories_ends_with_its_process_beside_workers(host: Host, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    process = host.mount_repositories(path)
    try:
        pids = host.work()
        host.run("umount", str(path))
        assert process.wait(WAIT_SECONDS) == 0
        assert not seen(pids, path)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_file_system_that_is_unmounted_is_free_beside_workers(host: Host, tmp_path: pathlib.Path) -> None:
    lower, upper = tmp_path / "lower", tmp_path / "lower/upper"
    lower.mkdir()
    for path in (lower, upper):  # one on the other
        host.run("sh", "-c", f"mkdir -p {path} && mount -t tmpfs tmpfs {path}")
    pids = host.work()
    assert seen(pids, upper) == seen(pids, lower) == pids
    host.run("umount", str(upper))
    until(lambda: not seen(pids, upper))
    assert seen(pids, lower) == pids
    host.run("umount", str(lower))
    until(lambda: not seen(pids, lower))


@pytest.mark.skipif(not all(map(shutil.which, ("mkfs.ext4", "losetup"))), reason="needs mkfs.ext4 and losetup")
def test_a_disk_that_is_unmounted_can_be_taken_away_beside_workers(host: Host, tmp_path: pathlib.Path) -> None:
    image, path = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    path.mkdir()
    host.run("mkfs.ext4", "-q", str(image))
    tried = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("this machine has no loop devices")
    host.run("mount", "-o", "loop", str(image), str(path))
    host.work()
    host.run("umount", str(path))
    until(lambda: not host.run("losetup", "--associated", str(image)))


def test_what_is_mounted_at_pfs_is_neither_in_the_way_nor_kept(host: Host) -> None:
    """Workers mount there themselves, unseen by whoever has something there."""
    host.run("sh", "-c", "mount -t tmpfs tmpfs /pfs && mkdir /pfs/out /pfs/in && mount -t tmpfs tmpfs /pfs/out")
    pids = host.work()
    assert [job.state for job in host.daemon.pps.ListJob(pps_pb2.ListJobRequest()).job_info] == [pps_pb2.JOB_SUCCESS]
    devices = {host.run("stat", "-c", "%d", path).strip() for path in ("/pfs", "/pfs/out")}
    assert host.run("ls", "/pfs").split() == ["in", "out"]
    assert host.run("ls", "-A", "/pfs/out", "/pfs/in").split() == ["/pfs/in:", "/pfs/out:"]
    host.run("umount", "/pfs/out")
    host.run("umount", "/pfs")
    until(lambda: not any(devices & _devices(pid) for pid in pids))
    given = flush(host.daemon, host.daemon.commit_files("in", {"b": b"b"}))
    assert host.daemon.get(given[0].commit, "b") == b"B"


def test_workers_begin_and_go_on_where_repositories_are_mounted_at_pfs(host: Host) -> None:
    process = host.mount_repositories(pathlib.Path("/pfs"))
    try:
        host.work()
        host.run("umount", "/pfs")
        assert process.wait(WAIT_SECONDS) == 0
        given = flush(host.daemon, host.daemon.commit_files("in", {"b": b"b"}))
        assert host.daemon.get(given[0].commit, "b") == b"B"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_workers_mount_shows_nowhere_else(host: Host) -> None:
    before = host.run("cat", "/proc/self/mountinfo")
    host.work()
    assert host.run("cat", "/proc/self/mountinfo") == before


CHROOTED = """
import os, sys
from pfsfuse.kernel.namespace import enter_private_namespace
from pfsd.errors import UnavailableError
os.chroot(sys.argv[1])
os.chdir("/")
try:
    enter_private_namespace()
except UnavailableError as error:
    print(error)
"""


def test_a_chroot_that_is_no_mount_is_told_what_it_lacks(tmp_path: pathlib.Path) -> None:
    (tmp_path / "proc").mkdir()
    lines = f'mount -t proc proc {tmp_path}/proc\nexec {sys.executable} -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", lines, "sh", CHROOTED],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    assert "mount --bind DIR DIR" in done.stdout


def _devices(pid: int) -> set[str]:
    """What is mounted for a process, by numbers as `stat` prints them."""
    lines = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    numbers = [line.split()[2].split(":") for line in lines]
    return {str(os.makedev(int(major), int(minor))) for major, minor in numbers}
