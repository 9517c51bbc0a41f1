"""The repository view when things go wrong: daemons killed, stopped or gone, limits reached, users who hold on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pachproto import pfs_pb2
from pfsfuse.kernel.mounts import CALLS, mount_at
from pfsfuse.mount import unmount
from tests.pfsfuse.repository.test_mount_ends import alone
from tests.pfsfuse.repository.test_repository import errno_of, put_many
from tests.pfsfuse.repository.test_write import rename2
from tests.support.daemons import Daemon
from tests.support.faulty import defects
from tests.support.mounts import WAIT_SECONDS, Mounted, mounting
from tests.support.openwrites import finish, stored
from tests.support.places import TREE

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

PATIENCE = ("--patience", "3")


@pytest.fixture
def impatient(daemon: Daemon, tmp_path: pathlib.Path) -> Iterator[Mounted]:
    """A mount that does not wait long for its daemon."""
    with mounting(daemon, tmp_path / "mnt", *PATIENCE) as made:
        yield made


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str] | None) -> Iterator[None]:
    """The process does nothing for the block."""
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def files_of(daemon: Daemon) -> tuple[pfs_pb2.Commit, dict[str, bytes]]:
    """A commit with one file of 24 MiB among 300 small ones."""
    chosen = random.Random(5)
    files = {f"/d{number % 7}/{number:03}": chosen.randbytes(chosen.randrange(3000)) for number in range(300)}
    files["/d3/big"] = chosen.randbytes(24 << 20)
    daemon.create_repo("r")
    return put_many(daemon, "r", files), files


def contents(top: pathlib.Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {f"/{path.relative_to(top)}": path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_tar_goes_on_over_a_kill_and_restart_of_the_daemon(daemon: Daemon, mounted: Mounted) -> None:
    at, files = files_of(daemon)
    with subprocess.Popen(["tar", "c", "-C", f"r/{at.id}", "."], cwd=mounted.path, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        made = tar.stdout.read(1 << 20)
        daemon.kill()
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.append(tar.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        daemon.start()
        reader.join(WAIT_SECONDS)
    assert tar.returncode == 0
    made += rest[0]
    assert made == mounted.run("tar", "c", "-C", f"r/{at.id}", ".")
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        found = {
            member.name[1:]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    assert found == files


def test_reads_wait_for_a_daemon_that_was_stopped_and_what_is_cached_does_not(daemon: Daemon, mounted: Mounted) -> None:
    at, files = files_of(daemon)
    commit = mounted.path / "r" / at.id
    assert (commit / "d1/001").read_bytes() == files["/d1/001"]
    with stopped(daemon.process), subprocess.Popen(["md5sum", commit / "d3/big"], stdout=subprocess.PIPE) as waiting:
        assert (commit / "d1/001").read_bytes() == files["/d1/001"]
        assert (commit / "d1/008").stat().st_size == len(files["/d1/008"])
        assert waiting.poll() is None
        daemon.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        assert waiting.communicate(timeout=WAIT_SECONDS)[0].startswith(
            hashlib.md5(files["/d3/big"]).hexdigest().encode()
        )


def test_without_a_daemon_what_is_cached_is_read_and_the_rest_fails_and_heals(
    daemon: Daemon, impatient: Mounted
) -> None:
    at, files = files_of(daemon)
    commit, master = impatient.path / "r" / at.id, impatient.path / "r/master"
    for path in (commit, master):
        assert (path / "d1/001").read_bytes() == files["/d1/001"]
    with (commit / "d3/big").open("rb") as opened:
        daemon.kill()
        assert (commit / "d1/001").read_bytes() == files["/d1/001"]
        assert len(os.listdir(commit)) == 7
        with pytest.raises(TimeoutError):
            opened.read()
        assert errno_of(master) == errno.ETIMEDOUT
        assert errno_of(impatient.path / "other") == errno.ETIMEDOUT
        assert (commit / "d1/001").read_bytes() == files["/d1/001"]
        daemon.start()
        opened.seek(0)
        assert opened.read() == files["/d3/big"]
    assert (master / "d1/001").read_bytes() == files["/d1/001"]


def test_many_readers_of_a_cold_file_fetch_it_about_once(daemon: Daemon, mounted: Mounted) -> None:
    _, files = files_of(daemon)
    big = mounted.path / "r/master/d3/big"
    size = big.stat().st_size
    before = bytes_read(mounted.process.pid)
    readers = [subprocess.Popen(["md5sum", big], stdout=subprocess.PIPE) for _ in range(32)]
    want = hashlib.md5(files["/d3/big"]).hexdigest().encode()
    assert all(reader.communicate(timeout=60)[0].startswith(want) for reader in readers)
    assert bytes_read(mounted.process.pid) - before < 1.5 * size


def bytes_read(pid: int) -> int:
    """Bytes that a process has read: of packs, and of requests and answers."""
    fields = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"])


def test_find_is_consistent_while_the_head_moves(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    commits = {
        name: put_many(daemon, "r", {f"/d{number % 20}/{name}{number}": b"" for number in range(400)}, name)
        for name in "ab"
    }
    want = {
        name: sorted(mounted.run("find", ".", "-type", "f", cwd=f"r/{at.id}").splitlines())
        for name, at in commits.items()
    }
    assert len(want["a"]) == len(want["b"]) == 400
    ended, moves = threading.Event(), 0

    def move() -> None:
        nonlocal moves
        began = time.monotonic()
        while not ended.wait(max(began + moves / 100 - time.monotonic(), 0)):
            at = commits["ab"[moves % 2]]
            daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=at, branch="master"))
            moves += 1

    daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=commits["a"], branch="master"))
    mover = threading.Thread(target=move)
    mover.start()
    try:
        seen: set[str] = set()
        until = time.monotonic() + 60
        while (moves < 100 or len(seen) < 2) and time.monotonic() < until:
            found = mounted.run("find", "master/", "-type", "f", cwd="r").splitlines()
            lines = sorted(b"." + line.removeprefix(b"master") for line in found)
            seen.add(next(name for name in want if lines == want[name]))
    finally:
        ended.set()
        mover.join()
    assert seen == {"a", "b"}


# --- unmounting ----------------------------------------------------------------------------------------------


def test_unmounting_works_with_a_stuck_daemon_open_files_and_a_waiting_reader(
    daemon: Daemon, impatient: Mounted
) -> None:
    at, files = files_of(daemon)
    commit = impatient.path / "r" / at.id
    with (
        (commit / "d1/001").open("rb") as small,
        (commit / "d3/big").open("rb") as big,
        subprocess.Popen(["cat"], cwd=commit, stdin=subprocess.PIPE) as inside,
    ):
        assert small.read() == files["/d1/001"]
        with stopped(daemon.process):
            failed: list[int | None] = []

            def read() -> None:
                try:
                    big.read()
                except OSError as error:
                    failed.append(error.errno)

            waiting = threading.Thread(target=read)
            waiting.start()
            unmount(str(impatient.path))
            assert mount_at(str(impatient.path)) is None
            assert os.listdir(impatient.path) == []
            small.seek(0)
            assert small.read() == files["/d1/001"]
            waiting.join(WAIT_SECONDS)
            assert failed == [errno.ETIMEDOUT]
        inside.communicate()
    assert impatient.process.wait(WAIT_SECONDS) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a mount namespace")
def test_pachctl_unmount_all_works_with_a_daemon_that_is_stuck(daemon: Daemon, mounted: Mounted) -> None:
    files_of(daemon)
    script = (
        'exec 5<"$1/r/master/d1/001"; cd "$1/r/master/d2"; kill -STOP "$2";'
        '"$3" -P -m pachctl.main unmount -a; status=$?; kill -CONT "$2"; cat <&5 | wc -c; exit $status'
    )
    assert daemon.process is not None
    arguments = [str(mounted.path), str(daemon.process.pid), sys.executable]
    result = subprocess.run(
        [*alone(mounted.path), "bash", "-c", script, "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=4 * WAIT_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    assert result.returncode == 0, result.stderr
    assert str(mounted.path) in result.stdout
    assert mount_at(str(mounted.path)) is not None


# --- limits --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_more_files(pid: int) -> Iterator[None]:
    """The process can't open anything for the block."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("whose", ["mount", "daemon"])
def test_reading_goes_on_when_no_more_files_can_be_opened(daemon: Daemon, mounted: Mounted, whose: str) -> None:
    at, files = files_of(daemon)
    commit = mounted.path / "r" / at.id
    assert (commit / "d1/001").read_bytes() == files["/d1/001"]
    assert daemon.process is not None
    with no_more_files(mounted.process.pid if whose == "mount" else daemon.process.pid):
        assert contents(commit) == files
    daemon.commit_files("r", {"/new": b"new"})
    assert (mounted.path / "r/master/new").read_bytes() == b"new"


def test_a_program_opens_as_many_files_as_it_may(daemon: Daemon, mounted: Mounted) -> None:
    at, files = files_of(daemon)
    path = mounted.path / "r" / at.id / "d1/001"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(hard, 5000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (many, hard))
    opened: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            opened.extend(os.open(path, os.O_RDONLY) for _ in range(many))
        assert os.read(opened[-1], 5000) == files["/d1/001"]
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(opened) > many // 2
    assert path.read_bytes() == files["/d1/001"]


# --- a daemon whose files can't be reached -------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a mount namespace")
def test_a_daemon_elsewhere_is_asked_for_nodes_in_batches_and_for_bytes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    # Its root is on a file system that only its own namespace has.
    wrapper = f'mount -t tmpfs none {tmp_path}/elsewhere && exec "$0" "$@"'
    daemon = Daemon(tmp_path / "elsewhere/root", wrapper=("unshare", "--mount", "sh", "-c", wrapper))
    try:
        daemon.start()
        files = {f"/d{number % 30:02}/{number:04}": b"%d" % number * 50 for number in range(3000)}
        files["/big"] = random.Random(6).randbytes(20 << 20)
        daemon.create_repo("r")
        at = put_many(daemon, "r", files)
        with mounting(daemon, tmp_path / "mnt") as mounted:
            assert not daemon.root.exists()
            made, top = [calls_of(mounted)], mounted.path / "r" / at.id
            assert len(mounted.run("find", "r/master", "-ls").splitlines()) == 3032
            made.append(calls_of(mounted))
            assert {
                f"/{path.relative_to(top)}": path.read_bytes() for path in top.rglob("*") if path.is_file()
            } == files
            made.append(calls_of(mounted))
            mounted.run("find", "r/master", "-ls")
            made.append(calls_of(mounted))
            walk, reading, again = (after - before for before, after in itertools.pairwise(made))
            assert walk <= 12
            assert reading <= 150
            assert again <= 5
    finally:
        daemon.end()


def calls_of(mounted: Mounted) -> int:
    return int(os.getxattr(mounted.path, CALLS))


@pytest.mark.parametrize("name", defects.OF_MOUNTS)
def test_a_defect_is_an_error_or_nothing_and_never_ends_the_mount(
    daemon: Daemon, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    at, files = files_of(daemon)
    directory = tmp_path / "defects"
    directory.mkdir()
    monkeypatch.setenv("PFSD_DEFECTS", str(directory))
    with mounting(daemon, tmp_path / "mnt", program="tests.support.faulty.defectivemount") as mounted:
        (directory / name).touch()
        known = "r" if name.endswith(".find") else "no-such-repo"
        assert errno_of(mounted.path / known) in (errno.EIO, errno.ENOENT)
        if not name.endswith(".find"):
            assert contents(mounted.path / "r" / "master") == files
            now = daemon.start_commit("r")
            daemon.put(now, "more", b"more")
            (mounted.path / "r" / now.id / "mine").write_bytes(b"mine")
            daemon.finish_commit(now)
            daemon.commit_files("r", {"last": b"last"})
            subprocess.run(["sync", "-f", str(mounted.path)], check=False)
        (directory / name).unlink()
        deadline = time.monotonic() + WAIT_SECONDS
        while not (mounted.path / "r" / "master" / "d3" / "big").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert contents(mounted.path / "r" / at.id) == files
        assert mounted.process.poll() is None


def test_what_is_moved_while_the_daemon_is_killed_is_moved_once(
    daemon: Daemon, mounted: Mounted, master: pathlib.Path
) -> None:
    for name in ("one", "other", "a/moved", "b/stays"):
        (master / name).parent.mkdir(exist_ok=True)
        (master / name).write_text(name)
    os.setxattr(master, "user.pfs.flush", b"")
    done = {"exchanges": 0, "renames": 0}
    stop = threading.Event()

    def change_places() -> None:
        while not stop.is_set():
            rename2(master / "one", master / "other", 2)
            done["exchanges"] += 1

    def go_to_and_fro() -> None:
        while not stop.is_set():
            source, target = ("a", "b") if done["renames"] % 2 == 0 else ("b", "a")
            os.rename(master / source / "moved", master / target / "moved")
            done["renames"] += 1

    with ThreadPoolExecutor(2) as threads:
        working = [threads.submit(change_places), threads.submit(go_to_and_fro)]
        try:
            for _ in range(4):
                before = dict(done)
                until = time.monotonic() + WAIT_SECONDS
                while not all(done[kind] > before[kind] + 10 for kind in done):
                    assert time.monotonic() < until
                    assert not any(future.done() for future in working), [future.exception(0) for future in working]
                    time.sleep(0.01)
                daemon.kill()
                daemon.start()
        finally:
            stop.set()
        for future in working:
            future.result(WAIT_SECONDS)
    names = ["one", "other"] if done["exchanges"] % 2 == 0 else ["other", "one"]
    finish(master)
    moved = "b/moved" if done["renames"] % 2 else "a/moved"
    expected = {"/one": names[0], "/other": names[1], f"/{moved}": "a/moved", "/b/stays": "b/stays"}
    found = {path: data.decode() for path, data in stored(daemon).items()}
    assert {path: found[path] for path in expected} == expected
    assert set(found) - set(expected) == {"/old", "/dir/a", "/dir/b"}
