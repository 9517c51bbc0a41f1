"""The end of a mount: by signals, kills, unmounting, and where it can't begin."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys

import pytest

from pfsd.errors import NotFoundError, StateError
from pfsfuse.kernel.mounts import mount_at, present
from pfsfuse.mount import mount_command, unmount
from tests.support.daemons import Daemon
from tests.support.mounts import WAIT_SECONDS, Mounted

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


def test_sigterm_leaves_no_mount(daemon: Daemon, mounted: Mounted) -> None:
    mounted.process.terminate()
    assert mounted.process.wait(WAIT_SECONDS) == 0
    assert mount_at(str(mounted.path)) is None
    assert os.listdir(mounted.path) == []


def test_a_mount_whose_process_was_killed_can_be_unmounted(daemon: Daemon, mounted: Mounted) -> None:
    mounted.process.kill()
    mounted.process.wait()
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.listdir(mounted.path)
    again = subprocess.run(
        mount_command(str(mounted.path), daemon.address), capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "is a mount already: unmount it first" in again.stderr
    unmount(str(mounted.path))
    assert os.listdir(mounted.path) == []


def test_unmounting_ends_the_process_also_with_a_working_directory_inside(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    with subprocess.Popen(["cat"], cwd=mounted.path / "r", stdin=subprocess.PIPE) as inside:
        unmount(str(mounted.path))
        assert mount_at(str(mounted.path)) is None
        inside.communicate()
    assert mounted.process.wait(WAIT_SECONDS) == 0
    with pytest.raises(NotFoundError, match="is not mounted"):
        unmount(str(mounted.path))


def alone(path: pathlib.Path) -> list[str]:
    """What runs a command in a mount namespace in which the mount at `path` is the only one of ours.

    Another one there may belong to a daemon that does not answer, which takes time.
    """
    program = (
        "import os, sys; from pfsfuse.kernel.mounts import detach, present\n"
        "for mount in reversed(present()):\n"
        "    if mount.is_ours and mount.target != sys.argv[1]: detach(mount.target)\n"
        "os.execvp(sys.argv[2], sys.argv[2:])"
    )
    return ["unshare", "--mount", sys.executable, "-c", program, str(path)]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a mount namespace")
def test_unmount_all_ends_every_mount_of_ours_that_this_namespace_has(daemon: Daemon, mounted: Mounted) -> None:
    program = (
        "from pfsfuse.mount import unmount_all; from pfsfuse.kernel.mounts import present; "
        "print(*unmount_all(), sep='\\n'); assert not any(mount.is_ours for mount in present())"
    )
    command = [*alone(mounted.path), sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=4 * WAIT_SECONDS)
    assert str(mounted.path) in result.stdout.splitlines()
    assert mount_at(str(mounted.path)) is not None


def test_unmount_leaves_what_is_not_ours() -> None:
    other = next(mount.target for mount in present() if not mount.is_ours)
    with pytest.raises(StateError, match="not by this program"):
        unmount(other)


def test_the_mount_ends_with_the_process_that_asked_for_it(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    program = (
        "import subprocess, sys; from pfsfuse.mount import mount_command; "
        f"process = subprocess.Popen(mount_command({str(path)!r}, {daemon.address!r}), stdout=subprocess.PIPE); "
        "process.stdout.readline(); print(process.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert mount_at(str(path)) is not None
            parent.kill()
            parent.wait()
            assert select.select([child], [], [], WAIT_SECONDS)[0]
            assert mount_at(str(path)) is None
        finally:
            if mount_at(str(path)) is not None:
                signal.pidfd_send_signal(child, signal.SIGKILL)
                unmount(str(path))
            os.close(child)


@pytest.mark.parametrize(
    ("mountpoint", "address", "words"),
    [
        ("missing", None, "can't be mounted on: no such file or directory"),
        ("file", None, "can't be mounted on: it is not a directory"),
        ("dir", "127.0.0.1:1", "the daemon at 127.0.0.1:1 does not answer: start it, or set ADDRESS"),
    ],
)
def test_what_can_not_be_mounted_is_said_in_a_sentence(
    tmp_path: pathlib.Path, mountpoint: str, address: str | None, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    command = mount_command(str(tmp_path / mountpoint), address or "127.0.0.1:1")
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
