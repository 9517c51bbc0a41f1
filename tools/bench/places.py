"""Places from which the same files can be read: a directory on the disk, our mount, other programs' mounts."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pfsfuse.kernel.mounts import CALLS, REQUESTS, mount_at
from tools.bench.measure import Bench, Sample, Server, peak_memory, processor_seconds, run_command

START_SECONDS = 120
"""For which a program that mounts is waited for: some read all they have first."""
STOP_SECONDS = 10
REPO = "bench"
PFSD = "pfsd"
DISK = "ext4, or what is below"

_DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")
_PROGRAMS = f"for each in ls cat cp rm tar find sync; do $each --version; done; {sys.executable} -c 'import os, random'"


@dataclass(frozen=True, slots=True)
class Opened:
    """A place that can be read now."""

    path: pathlib.Path
    pid: int | None = None
    """The process that serves it."""
    counts: str = ""
    """The mount point, where it counts requests, and calls to a daemon."""
    server: int | None = None
    """The daemon behind it."""

    def run(self, command: Sequence[str], lines: int | None = None) -> Sample:
        """The cost of a command in it; `daemon` is the peak of the process that serves it."""
        before = self._spent()
        sample = run_command(command, lines=lines, directory=self.path)
        after = self._spent()
        return replace(
            sample,
            daemon=peak_memory(self.pid) if self.pid is not None else None,
            calls=after.calls - before.calls if self.counts else None,
            requests={kind: count - before.requests.get(kind, 0) for kind, count in after.requests.items()},
            mount_seconds=after.mount - before.mount if self.pid is not None else None,
            server_seconds=after.server - before.server if self.server is not None else None,
        )

    def _spent(self) -> _Spent:
        words = os.getxattr(self.counts, REQUESTS).decode().split() if self.counts else []
        return _Spent(
            int(os.getxattr(self.counts, CALLS)) if self.counts else 0,
            {kind: int(count) for kind, count in zip(words[::2], words[1::2], strict=True)},
            processor_seconds(self.pid) if self.pid is not None else 0.0,
            processor_seconds(self.server) if self.server is not None else 0.0,
        )


@dataclass(frozen=True, slots=True)
class _Spent:
    """What a place has cost so far."""

    calls: int
    requests: Mapping[str, int]
    mount: float
    server: float


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere that holds a copy of the files."""

    name: str
    backing: pathlib.Path
    """Where their bytes lie on the disk."""
    mount: Sequence[str] = ()
    """The command that mounts them, but for the mount point, and serves them until it is unmounted; none for a plain
    directory.
    """
    inside: str = "."
    """Where the files stand below the mount point."""
    environment: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False
    """Whether the mount counts requests and its calls to a daemon."""
    server: int | None = None
    """The daemon behind the mount."""

    @contextlib.contextmanager
    def opened(self, bench: Bench) -> Iterator[Opened]:
        """Mount it anew for the block, with nothing of it in memory."""
        if not self.mount:
            drop_memory(self.backing)
            yield Opened(self.backing)
            return
        with bench.scratch() as scratch:
            target = str(scratch / "mount")
            os.mkdir(target)
            command = [word.replace("MOUNTPOINT", target) for word in self.mount]
            output = (scratch / "output").open("wb")
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}
            )
            try:
                _await_mount(process, target, scratch / "output")
                drop_memory(self.backing)
                path = pathlib.Path(target) / self.inside
                yield Opened(path, _serving(process.pid), target if self.counts else "", self.server)
            finally:
                if mount_at(target) is not None:
                    run_command(["fusermount3", "-u", target])
                end(process)
                output.close()


def _await_mount(process: subprocess.Popen[bytes], target: str, output: pathlib.Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while mount_at(target) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not mount: {output.read_text(errors='replace')}")
        time.sleep(0.02)
    os.listdir(target)  # answered once it serves


def _serving(pid: int) -> int:
    """The process that serves a mount: the one that was started, or the one that this watches over."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process whose mount is gone. Some take long over what they hold, which is not what is measured."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def drop_memory(directory: pathlib.Path) -> None:
    """Have the files below a directory read from the disk again.

    As root, all that the kernel keeps of any file is dropped, but for the programs that are run next; otherwise the
    pages of those files: names and attributes stay in memory then.
    """
    os.sync()
    try:
        _DROP_CACHES.write_text("3")
    except OSError:
        _drop_pages(directory)
    run_command(["sh", "-c", _PROGRAMS])


def _drop_pages(directory: pathlib.Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                fd = os.open(os.path.join(parent, name), os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:  # a database's, which has just replaced it, or a socket
                continue
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def pfsd_place(server: Server) -> Place:
    """The mount of a daemon that has the files at the top of `bench/master`."""
    command = [sys.executable, "-m", "pfsfuse.mount", "--mountpoint", "MOUNTPOINT", "--address", server.address]
    return Place(PFSD, server.root, command, f"{REPO}/master", counts=True, server=server.pid)
