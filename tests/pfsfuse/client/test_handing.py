"""Open files that are handed over to a daemon: by a client of its own kind, and by a mount."""

from __future__ import annotations

import os
import pathlib
import random
import secrets
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.local.handedfiles import MOST_FILES, SOCKET
from pfsfuse.client.handing import Handed, Handing
from tests.support.daemons import Daemon
from tests.support.mounts import mounting
from tests.support.openwrites import finish, stored

MiB = 1 << 20
SIZE = 5 * MiB + 17
DEADLINE_SECONDS = 30

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


@pytest.fixture
def opened(daemon: Daemon) -> pfs_pb2.Commit:
    """An open commit on master in the repo r."""
    daemon.create_repo("r")
    return daemon.start_commit("r")


@pytest.fixture
def handing(daemon: Daemon) -> Handing:
    made = Handing()
    made.directory = daemon.store.Describe(Empty()).handing
    return made


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of random bytes."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@contextmanager
def handed_over(handing: Handing, path: pathlib.Path, flags: int = os.O_RDONLY) -> Iterator[Handed]:
    fd = os.open(path, flags)
    try:
        handed = handing.hand_over(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    assert handed is not None
    try:
        yield handed
    finally:
        handed.close()


def ranges(handed: Handed, start: int = 0, end: int = SIZE) -> list[pfsd_pb2.HandedRange]:
    return [part for _, part in handed.ranges(start, end)]


def put(daemon: Daemon, at: pfs_pb2.Commit, holder: bytes, parts: Sequence[pfsd_pb2.HandedRange]) -> None:
    """Put /file, of which these are the parts."""
    puts = [pfsd_pb2.FilePut(path="/file", overwrite=True, more=True)]
    puts += [pfsd_pb2.FilePut(handed=part, more=True) for part in parts]
    puts.append(pfsd_pb2.FilePut())
    daemon.store.PutFiles(iter([pfsd_pb2.PutFilesRequest(commit=at, holder=holder, files=puts)]))


def refused(call: Callable[[], None], text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert text in (caught.value.details() or "")


def descriptors(daemon: Daemon, path: pathlib.Path) -> int:
    """How many descriptors of a file the daemon has."""
    assert daemon.process is not None
    found = 0
    for each in pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            found += os.readlink(each) == str(path)
        except FileNotFoundError:
            continue
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_content_is_that_of_the_file(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    daemon.put(opened, "/sent", file.read_bytes())
    with handed_over(handing, file) as handed:
        put(daemon, opened, handing.holder, ranges(handed))
        assert handed.progress() == SIZE
    assert stored(daemon)["/file"] == file.read_bytes()
    found = [
        daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=opened, path=path))).hash
        for path in ("/file", "/sent")
    ]
    assert found[0] == found[1]
    until(lambda: descriptors(daemon, file) == 0)


def test_the_socket_is_for_the_daemons_user_alone(daemon: Daemon, handing: Handing) -> None:
    directory = pathlib.Path(handing.directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / SOCKET).stat().st_mode) == 0o600
    assert daemon.stop() == 0
    assert not (directory / SOCKET).exists()


def test_a_ticket_is_used_once_by_who_has_it(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    with handed_over(handing, file) as handed:
        parts = ranges(handed)
        wrong = pfsd_pb2.HandedRange(ticket=secrets.token_bytes(16), size=SIZE)
        refused(lambda: put(daemon, opened, handing.holder, [wrong]), "no file waits under this ticket")
        refused(lambda: put(daemon, opened, Handing().holder, parts), "another client's")
        put(daemon, opened, handing.holder, parts)
        refused(lambda: put(daemon, opened, handing.holder, parts), "it was used")
    assert stored(daemon) == {"/file": file.read_bytes()}


def test_no_more_can_be_read_than_was_handed_over(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    with handed_over(handing, file) as handed:
        part = ranges(handed)[0]
        part.offset = 1
        with pytest.raises(grpc.RpcError, match="were handed over"):
            put(daemon, opened, handing.holder, [part])
    assert stored(daemon) == {}


def test_a_file_that_is_cut_is_an_error_and_nothing_is_put(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    with handed_over(handing, file) as handed:
        os.truncate(file, SIZE // 2)
        refused(lambda: put(daemon, opened, handing.holder, ranges(handed)), "was cut while it was read")
    assert stored(daemon) == {}
    until(lambda: descriptors(daemon, file) == 0)


def test_a_file_that_is_written_is_taken_as_it_is_when_it_is_read(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    with handed_over(handing, file) as handed:
        with file.open("r+b") as writing:
            writing.seek(SIZE - 10)
            writing.write(b"other bytes, and more")
        put(daemon, opened, handing.holder, ranges(handed))
    assert stored(daemon) == {"/file": file.read_bytes()[:SIZE]}


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket", "write-only", "path", "proc"])
def test_only_a_readable_file_of_a_local_file_system_is_taken(
    handing: Handing, file: pathlib.Path, kind: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    makers: dict[str, Callable[[], tuple[int, ...]]] = {
        "directory": lambda: (os.open(tmp_path, os.O_RDONLY),),
        "pipe": os.pipe,
        "socket": lambda: (socket.socket().detach(),),
        "write-only": lambda: (os.open(file, os.O_WRONLY),),
        "path": lambda: (os.open(file, os.O_PATH),),
        "proc": lambda: (os.open("/proc/kallsyms", os.O_RDONLY),),
    }
    fds = makers[kind]()
    try:
        assert handing.hand_over(fds[0], SIZE) is None
    finally:
        for fd in fds:
            os.close(fd)
    assert "is not taken" in caplog.text


def test_a_client_that_is_gone_leaves_no_descriptor(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path
) -> None:
    program = (
        "import os, sys, time\nfrom pfsfuse.client.handing import Handing\nhanding = Handing()\n"
        "handing.directory = sys.argv[1]\nfd = os.open(sys.argv[2], os.O_RDONLY)\n"
        f"handed = handing.hand_over(fd, {SIZE})\nprint(handing.holder.hex(), handed._ticket.hex(), flush=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", program, handing.directory, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            holder, ticket = map(bytes.fromhex, process.stdout.readline().split())
            assert descriptors(daemon, file) == 1
        finally:
            process.kill()
    until(lambda: descriptors(daemon, file) == 0)
    part = pfsd_pb2.HandedRange(ticket=ticket, size=SIZE)
    refused(lambda: put(daemon, opened, holder, [part]), "no file waits under this ticket")


def test_only_so_many_are_held(daemon: Daemon, handing: Handing, file: pathlib.Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    found = [handing.hand_over(fd, SIZE) for _ in range(MOST_FILES + 1)]
    os.close(fd)
    assert [handed is None for handed in found] == [False] * MOST_FILES + [True]
    for handed in found:
        if handed is not None:
            handed.close()
    until(lambda: descriptors(daemon, file) == 0)


# --- a mount -----------------------------------------------------------------------------------------------------


def sparse(path: pathlib.Path) -> bytes:
    """Write a file with a hole through a mount; returns what it holds."""
    data = random.Random(2).randbytes(3 * MiB)
    with path.open("wb") as writing:
        writing.write(data)
        writing.seek(40 * MiB, os.SEEK_CUR)
        writing.write(data)
    return data + bytes(40 * MiB) + data


@needs_fuse
def test_a_mount_hands_large_files_over(daemon: Daemon, opened: pfs_pb2.Commit, tmp_path: pathlib.Path) -> None:
    with mounting(daemon, tmp_path / "mnt") as mounted:
        master = mounted.path / "r/master"
        data = sparse(master / "file")
        assert daemon.log().count("a file was handed over") == 1
        with (master / "file").open("r+b") as patching:
            patching.seek(MiB)
            patching.write(bytes(range(256)) * 4096)
        assert daemon.log().count("a file was handed over") == 2
        finish(master)
    patched = data[:MiB] + bytes(range(256)) * 4096 + data[2 * MiB :]
    assert stored(daemon) == {"/file": patched}


@needs_fuse
@pytest.mark.parametrize("hindrance", ["no socket", "nobody listens", "no directory"])
def test_a_mount_goes_on_without(
    daemon: Daemon,
    opened: pfs_pb2.Commit,
    handing: Handing,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    hindrance: str,
) -> None:
    directory = pathlib.Path(handing.directory)
    (directory / SOCKET).unlink()
    if hindrance == "nobody listens":
        monkeypatch.chdir(directory)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
            silent.bind(SOCKET)
    elif hindrance == "no directory":
        directory.rmdir()
    with mounting(daemon, tmp_path / "mnt") as mounted:
        data = sparse(mounted.path / "r/master/file")
        finish(mounted.path / "r/master")
    assert "a file was handed over" not in daemon.log()
    assert stored(daemon) == {"/file": data}


@needs_fuse
def test_a_mount_hands_over_again_to_a_daemon_that_was_killed(
    daemon: Daemon, opened: pfs_pb2.Commit, handing: Handing, file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with mounting(daemon, tmp_path / "mnt") as mounted, handed_over(handing, file) as handed:
        master = mounted.path / "r/master"
        (master / "before").write_bytes(file.read_bytes())
        daemon.kill()
        daemon.start()
        refused(lambda: put(daemon, opened, handing.holder, ranges(handed)), "no file waits under this ticket")
        (master / "after").write_bytes(file.read_bytes())
        assert daemon.log().count("a file was handed over") == 3
        finish(master)
    assert stored(daemon) == {"/before": file.read_bytes(), "/after": file.read_bytes()}
