"""Places from which the same files can be read: a directory on the disk, our mount, other programs' mounts."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pfsfuse.kernel.mounts import CALLS, mount_at
from tools.bench.measure import Bench, Sample, peak_memory, run_command, serving

START_SECONDS = 120
"""For which a program that mounts is waited for: some read all they have first."""
STOP_SECONDS = 10
REPO = "bench"


@dataclass(frozen=True, slots=True)
class Opened:
    """A place that can be read now."""

    path: pathlib.Path
    pid: int | None = None
    """The process that serves it."""
    counts: str = ""
    """The mount point, where it counts calls to a daemon."""

    @property
    def calls(self) -> int | None:
        """How many calls the mount has made of its daemon."""
        return int(os.getxattr(self.counts, CALLS)) if self.counts else None

    def run(self, command: Sequence[str], lines: int | None = None) -> Sample:
        """The cost of a command in it; `daemon` is the peak of the process that serves it."""
        before = self.calls
        sample = run_command(command, lines=lines, directory=self.path)
        after = self.calls
        calls = after - before if before is not None and after is not None else None
        peak = peak_memory(self.pid) if self.pid is not None else None
        return Sample(sample.seconds, sample.client, peak, calls=calls)


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
    """Whether the mount counts its calls to a daemon."""

    @contextlib.contextmanager
    def opened(self, bench: Bench) -> Iterator[Opened]:
        """Mount it anew for the block, with nothing of it in memory."""
        drop_pages(self.backing)
        if not self.mount:
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
                drop_pages(self.backing)
                yield Opened(pathlib.Path(target) / self.inside, process.pid, target if self.counts else "")
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


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process whose mount is gone. Some take long over what they hold, which is not what is measured."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def drop_pages(directory: pathlib.Path) -> None:
    """Have the files below a directory read from the disk again; names and attributes stay in memory."""
    os.sync()
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


@contextlib.contextmanager
def places(bench: Bench, source: pathlib.Path, peers: bool) -> Iterator[list[Place]]:
    """`source` in every place: ours first, then, if wanted, those of the programs that are installed; itself last."""
    with bench.scratch() as scratch, serving(scratch / "root") as server:
        server.pachctl("create-repo", REPO)
        server.pachctl("put-file", "-c", "-r", REPO, "master", "/", "-f", str(source))
        found = [pfsd_place(server.root, server.address)]
        if peers:
            found += _peers(scratch / "peers", source)
        yield [*found, Place("ext4, or what is below", source)]


def pfsd_place(root: pathlib.Path, address: str) -> Place:
    """The mount of a daemon that has the files at the top of `bench/master`."""
    command = [sys.executable, "-m", "pfsfuse.mount", "--mountpoint", "MOUNTPOINT", "--address", address]
    return Place("pfsd", root, command, f"{REPO}/master", counts=True)


def _peers(scratch: pathlib.Path, source: pathlib.Path) -> Iterator[Place]:
    scratch.mkdir()
    environment = {"HOME": str(scratch), "XDG_CACHE_HOME": str(scratch / "cache"), "RESTIC_PASSWORD": "bench"}
    environment |= {"BORG_BASE_DIR": str(scratch / "borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    if shutil.which("borg") and _borg_mounts(environment):
        repository = scratch / "borg-repository"
        run_command(["borg", "init", "-e", "none", str(repository)], environment)
        run_command(["borg", "create", "-C", "none", f"{repository}::one", "."], environment, directory=source)
        yield Place(
            "borg mount", repository, ["borg", "mount", "-f", f"{repository}::one", "MOUNTPOINT"], ".", environment
        )
    if shutil.which("restic"):
        repository = scratch / "restic-repository"
        restic = ["restic", "-r", str(repository)]
        run_command([*restic, "init"], environment)
        run_command([*restic, "backup", "--quiet", "."], environment, directory=source)
        yield Place("restic mount", repository, [*restic, "mount", "MOUNTPOINT"], "snapshots/latest/", environment)
    if shutil.which("rclone"):
        command = ["rclone", "mount", str(source), "MOUNTPOINT", "--read-only"]
        yield Place("rclone mount", source, command, ".", environment)


def _borg_mounts(environment: Mapping[str, str]) -> bool:
    """Whether borg has found a FUSE library: some packages come without."""
    command = ["borg", "mount", "/nonexistent::one", "/"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return "FUSE" not in done.stderr
