"""The process behind `pachctl mount` and `pfsd --mount`: the repository view, served until it is unmounted.

`python -m fuse.mount --mountpoint DIR --address HOST:PORT` prints one line once it is mounted.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

import trio

from fuse.content import open_content
from fuse.daemon import Daemon
from fuse.groups import ungrouped
from fuse.mounts import source_options, unmount, unmount_all
from fuse.repoview import RepositoryView
from fuse.serve import check_device, check_mountpoint, mounted
from pfsd.errors import PfsError
from pfsd.rpc import DEFAULT_ADDRESS

__all__ = ["main", "mount_command", "run_repository_view", "unmount", "unmount_all"]

_START_PATIENCE = 3.0
"""Seconds for which the daemon is waited for before mounting."""


def run_repository_view(
    mountpoint: str,
    address: str,
    *,
    all_commits: bool = False,
    debug: bool = False,
    ready: Callable[[], None] | None = None,
    parent: int | None = None,
) -> None:
    """Mount the repository view of the daemon at `address`; returns once it is unmounted.

    SIGTERM and SIGINT end it, and so does the end of the process `parent`; the mount point is always left
    unmounted. `ready` is called once the mount answers. Raises UnavailableError when the daemon does not
    answer or this user may not mount, StateError when `mountpoint` is not a directory or is mounted already.
    """
    check_mountpoint(mountpoint)
    check_device()
    serve = functools.partial(_serve, mountpoint, address, all_commits, debug, ready, parent)
    trio.run(serve)


def mount_command(mountpoint: str, address: str) -> list[str]:
    """The command that mounts the view in a process which ends with this one."""
    command = [sys.executable, "-m", "fuse.mount", "--mountpoint", mountpoint, "--address", address]
    return [*command, "--parent", str(os.getpid())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuse.mount", description="Mount the repository view.")
    parser.add_argument("--mountpoint", required=True, help="an existing directory")
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="the daemon (default: %(default)s)")
    parser.add_argument("--all-commits", action="store_true", help="list every commit beside the branches")
    parser.add_argument("--parent", type=int, help="end with the process of this id")
    parser.add_argument("--debug", action="store_true", help="print each request")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.WARNING)

    def ready() -> None:
        sys.stdout.write(f"mounted {options.address} at {options.mountpoint}\n")
        sys.stdout.flush()

    try:
        run_repository_view(
            options.mountpoint,
            options.address,
            all_commits=options.all_commits,
            debug=options.debug,
            ready=ready,
            parent=options.parent,
        )
    except PfsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _serve(
    mountpoint: str,
    address: str,
    all_commits: bool,
    debug: bool,
    ready: Callable[[], None] | None,
    parent: int | None,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, ungrouped():
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            async def end_with_parent(pidfd: int) -> None:
                await trio.lowlevel.wait_readable(pidfd)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_on_signal)
            if parent is not None:
                try:
                    nursery.start_soon(end_with_parent, os.pidfd_open(parent))
                except ProcessLookupError:
                    return
            await _mounted_view(mountpoint, address, all_commits, debug, ready)
            nursery.cancel_scope.cancel()


async def _mounted_view(
    mountpoint: str, address: str, all_commits: bool, debug: bool, ready: Callable[[], None] | None
) -> None:
    daemon = Daemon(address)
    try:
        await daemon.describe(_START_PATIENCE)
        async with open_content(daemon) as content:
            view = RepositoryView(content, daemon, all_commits=all_commits)
            # Nothing is writable yet, so the kernel itself may refuse. Whoever sees the mount at all may read
            # all of it: without default_permissions the kernel need not ask for attributes to check that.
            options = {"ro", *source_options(address)}
            with ungrouped():
                async with (
                    trio.open_nursery() as nursery,
                    mounted(view, mountpoint, options=options, debug=debug) as ended,
                ):
                    nursery.start_soon(view.watch)
                    if ready is not None:
                        ready()
                    await ended.wait()
                    nursery.cancel_scope.cancel()
    finally:
        daemon.close()


if __name__ == "__main__":
    sys.exit(main())
