"""Processes that mount the repository view, for the tests."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

from pfsfuse.kernel.mounts import mount_at
from pfsfuse.mount import mount_command, unmount
from tests.support.daemons import Daemon
from tests.support.ending import end

WAIT_SECONDS = 15


class Mounted:
    """A mount process and its mount point."""

    def __init__(self, process: subprocess.Popen[bytes], path: pathlib.Path) -> None:
        self.process = process
        self.path = path

    def run(self, *command: str, cwd: str = ".") -> bytes:
        return subprocess.run(command, cwd=self.path / cwd, check=True, capture_output=True, timeout=60).stdout


@contextlib.contextmanager
def mounting(daemon: Daemon, path: pathlib.Path, *options: str, program: str = "pfsfuse.mount") -> Iterator[Mounted]:
    """The view of `daemon`, mounted at `path`, unmounted at the end whatever happens."""
    path.mkdir(exist_ok=True)
    command = [program if word == "pfsfuse.mount" else word for word in mount_command(str(path), daemon.address)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"mounted {daemon.address} at {path}\n".encode()
        yield Mounted(process, path)
    finally:
        try:
            end(process, WAIT_SECONDS)
        finally:
            if mount_at(str(path)) is not None:
                unmount(str(path))
            if process.stdout is not None:
                process.stdout.close()
