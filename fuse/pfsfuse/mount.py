"""The process behind `pachctl mount` and `pfsd --mount`: the repository view, served until it is unmounted.

`python -m pfsfuse.mount --mountpoint DIR --address HOST:PORT` prints one line once it is mounted.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from pfsd.errors import PfsError
from pfsd.rpc import DEFAULT_ADDRESS
from pfsd.runtime.groups import ungrouped
from pfsd.runtime.logs import log_to_stderr
from pfsd.runtime.stack import allow_depth
from pfsfuse.client.daemon import PATIENCE, Daemon
from pfsfuse.content.content import open_content
from pfsfuse.content.remotepacks import ReadingOptions
from pfsfuse.kernel.mounts import source_options, unmount, unmount_all
from pfsfuse.kernel.serve import check_device, check_mountpoint, mounted
from pfsfuse.repository.repoview import RepositoryView

__all__ = ["main", "mount_command", "run_repository_view", "unmount", "unmount_all"]

STORED = "stored"
OWNERS = ("mounter", STORED)
OWNERS_HELP = "whose files show as: the user's who mounts, or the owners that commits keep (default: mounter)"
"""Values of `--owners`, the default first."""

_CLOSE_SECONDS = 30.0
"""For which what was written is sent once nothing is mounted any more; the rest is kept on this machine."""

_START_PATIENCE = 3.0
"""Seconds for which the daemon is waited for before mounting."""


def run_repository_view(
    mountpoint: str,
    address: str,
    *,
    all_commits: bool = False,
    allow_other: bool = False,
    stored_owners: bool = False,
    debug: bool = False,
    ready: Callable[[], None] | None = None,
    parent: int | None = None,
    patience: float = PATIENCE,
    reading: ReadingOptions | None = None,
) -> None:
    """Mount the repository view of the daemon at `address`; returns once it is unmounted.

    With `allow_other`, other users may use it as the files' permission bits allow. With `stored_owners`, files show the
    owners that commits keep, else all belong to this process's user. What needs a daemon that is away waits for
    `patience` seconds. `reading` says how bytes are read from a remote object store; without it, the environment says
    so.

    SIGTERM and SIGINT end it, and so does the end of the process `parent`; the mount point is always left
    unmounted. `ready` is called once the mount answers. Raises UnavailableError when the daemon does not
    answer or this user may not mount, StateError when `mountpoint` is not a directory or is mounted already.
    """
    check_mountpoint(mountpoint)
    check_device()
    _raise_file_limit()
    settings = _Settings(
        mountpoint, address, all_commits, allow_other, stored_owners, debug, ready, parent, patience, reading
    )
    trio.run(_serve, settings)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What `run_repository_view` was asked for."""

    mountpoint: str
    address: str
    all_commits: bool
    allow_other: bool
    stored_owners: bool
    debug: bool
    ready: Callable[[], None] | None
    parent: int | None
    patience: float
    reading: ReadingOptions | None


def _raise_file_limit() -> None:
    """Each large file that is written takes a descriptor: allow as many as this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def mount_command(mountpoint: str, address: str) -> list[str]:
    """The command that mounts the view in a process which ends with this one."""
    command = [sys.executable, "-m", "pfsfuse.mount", "--mountpoint", mountpoint, "--address", address]
    return [*command, "--parent", str(os.getpid())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pfsfuse.mount", description="Mount the repository view.")
    parser.add_argument("--mountpoint", required=True, help="an existing directory")
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="the daemon (default: %(default)s)")
    parser.add_argument("--all-commits", action="store_true", help="list every commit beside the branches")
    parser.add_argument("--allow-other", action="store_true", help="let other users in, as permission bits allow")
    parser.add_argument("--owners", choices=OWNERS, default=OWNERS[0], help=OWNERS_HELP)
    parser.add_argument("--parent", type=int, help="end with the process of this id")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="how long to wait for a daemon that is away (default: %(default)g)",
    )
    parser.add_argument("--debug", action="store_true", help="print each request")
    options = parser.parse_args(arguments)
    allow_depth()
    log_to_stderr(logging.DEBUG if options.debug else logging.WARNING)

    def ready() -> None:
        sys.stdout.write(f"mounted {options.address} at {options.mountpoint}\n")
        sys.stdout.flush()

    try:
        run_repository_view(
            options.mountpoint,
            options.address,
            all_commits=options.all_commits,
            allow_other=options.allow_other,
            stored_owners=options.owners == STORED,
            debug=options.debug,
            ready=ready,
            parent=options.parent,
            patience=options.patience,
        )
    except PfsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _serve(settings: _Settings) -> None:
    serving = trio.CancelScope()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, ungrouped():
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for _ in signals:
                    serving.cancel()

            async def end_with_parent(pidfd: int) -> None:
                await trio.lowlevel.wait_readable(pidfd)
                serving.cancel()

            nursery.start_soon(end_on_signal)
            if settings.parent is not None:
                try:
                    nursery.start_soon(end_with_parent, os.pidfd_open(settings.parent))
                except ProcessLookupError:
                    return
            await _mounted_view(settings, serving)
            nursery.cancel_scope.cancel()


async def _mounted_view(settings: _Settings, serving: trio.CancelScope) -> None:
    daemon = Daemon(settings.address, settings.patience)
    try:
        await daemon.describe(_START_PATIENCE)
        with tempfile.TemporaryDirectory(prefix="pfs-mount-") as scratch:
            async with open_content(daemon, settings.reading) as content:
                view = RepositoryView(
                    content,
                    daemon,
                    settings.mountpoint,
                    scratch,
                    all_commits=settings.all_commits,
                    stored_owners=settings.stored_owners,
                )
                try:
                    with serving:
                        await _serve_view(view, settings)
                finally:
                    daemon.patience = _CLOSE_SECONDS / 2
                    await view.close(_CLOSE_SECONDS)
    finally:
        daemon.close()


async def _serve_view(view: RepositoryView, settings: _Settings) -> None:
    options = set(source_options(settings.address))
    if settings.allow_other:
        options.add("allow_other")
    # Root may do everything with files that show as root's: the kernel need not ask for attributes to check that.
    if settings.allow_other or settings.stored_owners or os.geteuid():
        options.add("default_permissions")
    with ungrouped():
        async with (
            trio.open_nursery() as nursery,
            mounted(view, settings.mountpoint, options=options, debug=settings.debug) as ended,
        ):
            nursery.start_soon(functools.partial(view.watch, at_once=not settings.debug))
            if settings.ready is not None:
                settings.ready()
            await ended.wait()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
