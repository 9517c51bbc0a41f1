"""Where a worker's user code runs: on the worker's own machine, or in a container beside it.

On the worker's machine it is a stranger: it gets a plain environment, and sees neither the directories of the store and
of the pipeline service nor any process but its own (`Runner.enclose`).

Beside it means: the user's container runs `pfs-runner --socket`, shares its PID namespace with the worker's, and has at
/pfs a slave of the directory in which the worker mounts (`--mountpoint`). What the worker mounts shows there, and goes
there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from pfsd.errors import UnavailableError
from pfsd.runtime.groups import ungrouped
from pfsfuse.job.jobview import MOUNT_OPTIONS, OUT, JobView
from pfsfuse.kernel.namespace import PFS, bind
from pfsfuse.kernel.serve import mounted
from ppsd.worker.cgroups import Group
from ppsd.worker.options import Options
from ppsd.worker.runner import Runner, RunnerError

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""What user code on this machine gets, beside HOME, TMPDIR and what its datum adds: nothing of the daemon's."""

_POLL_SECONDS = 0.1
"""How often a runner is asked for that is not there yet: its container may still be on its way."""


class GoneError(RunnerError):
    """The user's container has ended, or can't be used any more; the cluster starts another one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where user code runs."""

    runner: Runner
    group: Group
    """In which its processes are."""
    env: Mapping[str, str]
    """What its environment has beside what a datum adds."""
    cwd: str
    root: str
    """Where this process finds the root directory that user code sees."""
    user: int
    """Who runs the commands."""
    emptied: tuple[Path, ...] = ()
    """Directories of its own that are empty when a datum begins."""
    refused: str = ""
    """What of this the system did not allow, for people to read."""


def open_place(options: Options, view: JobView) -> AbstractAsyncContextManager[Place]:
    """A place in which `view` is what user code sees at /pfs, for the block.

    Raises UnavailableError or StateError when it can't be had, GoneError when it may be had if tried again.
    """
    return _beside(options, view) if options.runner else _here(options, view)


@asynccontextmanager
async def _here(options: Options, view: JobView) -> AsyncIterator[Place]:
    async with _mounted(options, view, MOUNT_OPTIONS), Runner.open() as runner:
        group = Group(options.groups)
        group.add(runner.pid)
        enclosure = await runner.enclose([*map(str, options.hidden), *view.content.directories])
        home, temporary = options.private / "home", options.private / "tmp"
        for directory in (home, temporary):
            directory.mkdir(exist_ok=True)
        env = {**ENVIRONMENT, "HOME": str(home), "TMPDIR": str(temporary)}
        root = f"/proc/{enclosure.pid}/root"
        emptied = (temporary, *_own_memory(Path(root)))
        yield Place(runner, group, env, "/", root, os.getuid(), emptied, enclosure.refused)


def _own_memory(root: Path) -> Iterator[Path]:
    """The directory of shared memory below the root that user code sees, where it is not the machine's."""
    own, all_share = root / "dev/shm", Path("/dev/shm")
    if own.is_dir() and own.stat().st_dev != all_share.stat().st_dev:
        yield own


@asynccontextmanager
async def _beside(options: Options, view: JobView) -> AsyncIterator[Place]:
    # First the runner, then the mount: a container that starts over a mount has that one at /pfs, and none later.
    async with _connected(options.runner) as runner:
        pid = runner.pid
        if not pid:
            raise UnavailableError("the runner's process can't be seen: let the pod's containers share their processes")
        user = await trio.to_thread.run_sync(_owner, pid, abandon_on_cancel=True)
        view.show_as(*user)  # so that commands can read what only its owner may
        async with _mounted(options, view, {*MOUNT_OPTIONS, "allow_other"}):
            await trio.to_thread.run_sync(_check_sees, pid, options.mountpoint, abandon_on_cancel=True)
            with ungrouped():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_watch, runner)
                    yield Place(runner, Group(()), {}, "", f"/proc/{pid}/root", user[0])
                    nursery.cancel_scope.cancel()


@asynccontextmanager
async def _mounted(options: Options, view: JobView, mount_options: frozenset[str] | set[str]) -> AsyncIterator[None]:
    where = options.mountpoint
    # In a namespace of one's own, what others have there is only a copy.
    shown_as = {"fsname=pfsd", *mount_options}
    async with mounted(view, where, options=shown_as, over=not options.runner), view.pipes.running(where):
        await trio.to_thread.run_sync(bind, str(options.scratch), os.path.join(where, OUT))
        yield


@asynccontextmanager
async def _connected(path: str) -> AsyncIterator[Runner]:
    """The runner that listens on `path`, as soon as there is one."""
    while True:
        try:
            connection = Runner.connect(path)
            runner = await connection.__aenter__()
            break
        except RunnerError:
            await trio.sleep(_POLL_SECONDS)
    try:
        yield runner
    finally:
        with trio.CancelScope(shield=True):
            await connection.__aexit__(None, None, None)


async def _watch(runner: Runner) -> None:
    await runner.gone()
    raise GoneError("the user's container has ended")


def _owner(pid: int) -> tuple[int, int]:
    """The user and the group of a process. Raises GoneError."""
    try:
        found = os.stat(f"/proc/{pid}")
    except OSError:
        raise GoneError("the user's container has ended") from None
    return found.st_uid, found.st_gid


def _check_sees(pid: int, mountpoint: str) -> None:
    """See to it that the container whose runner is process `pid` has at /pfs what this process has mounted.

    A container that was started while a former worker's mount was there has only that: its runner is ended, so that it
    starts anew. Raises GoneError then, UnavailableError when mounts do not get from here to there at all.
    """
    try:
        if os.stat(f"/proc/{pid}/root{PFS}").st_dev == os.stat(mountpoint).st_dev:
            return
    except ProcessLookupError:
        raise GoneError("the user's container has ended") from None
    except OSError:  # what is mounted there is dead
        pass
    else:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            if not any(line.split()[4] == PFS and " - fuse" in line for line in file):
                raise UnavailableError(
                    f"what is mounted at {mountpoint} does not show at {PFS} in the user's container: "
                    "let the directories of the node's pods be on a shared mount (mount --make-rshared /)"
                )
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    raise GoneError(f"the user's container has a former worker's {PFS}: it is started anew")
