"""The commands that mount and unmount the repository view."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from google.protobuf.empty_pb2 import Empty

from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError
from pfsd.names import sizes


def mount(arguments: Arguments) -> None:
    """Mounts the repository view until it is unmounted or the process ends."""
    # Kept out of the other commands' way: the FUSE library is slow to load and needs libfuse3.
    from pachctl.terminal.connection import default_address
    from pfsfuse.content.remotepacks import options_from_environment
    from pfsfuse.mount import run_repository_view

    (path,) = arguments.operands
    reading = options_from_environment()
    if arguments.read_from:
        reading = dataclasses.replace(reading, way=arguments.read_from)
    if arguments.cache_dir:
        reading = dataclasses.replace(reading, cache_directory=pathlib.Path(arguments.cache_dir))
    if arguments.cache_size:
        reading = dataclasses.replace(reading, cache_bytes=_size(arguments.cache_size))
    run_repository_view(
        path,
        default_address(),
        all_commits=arguments.all_commits,
        allow_other=arguments.allow_other,
        stored_owners=arguments.owners == "stored",
        debug=arguments.debug,
        reading=reading,
    )


def _size(text: str) -> int:
    try:
        return sizes.parse(text)
    except ValueError as error:
        raise UsageError(f"--cache-size: {error}") from None


def inspect_cache(arguments: Arguments) -> None:
    """Prints what the block cache of this machine holds and did."""
    from pachctl.terminal.connection import connect
    from pfsd.objectstores.blockfiles import statistics
    from pfsfuse.content.remotepacks import cache_directory, options_from_environment

    chosen = arguments.cache_dir or options_from_environment().cache_directory
    if not chosen:
        with connect() as daemon:
            chosen = cache_directory(daemon.store.Describe(Empty()))
    found = statistics(pathlib.Path(chosen))
    reads = found.hits + found.misses
    print(f"Directory: {chosen}")
    print(f"Holds: {format.size(found.bytes)}")
    print(f"Reads of blocks: {reads}, {100 * found.hits / reads if reads else 0:.1f}% of them here")
    print(f"Requests: {found.requests}, for {format.size(found.fetched)}")
    print(f"Waited for another reader's request: {found.waits}")
    print(f"Removed: {found.evicted} to make room, {found.damaged} damaged")


def unmount(arguments: Arguments) -> None:
    """Unmounts one view, or all."""
    from pfsfuse.mount import unmount, unmount_all

    (path,) = arguments.operands
    if arguments.all == bool(path):
        raise UsageError("give either a mount point or --all\nusage: pachctl unmount [OPTIONS] [PATH]")
    if path:
        unmount(path)
    else:
        for unmounted in unmount_all():
            print(unmounted)


def _mount_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-a", "--all-commits", action="store_true", help="show every commit beside the branches of each repo"
    )
    parser.add_argument(
        "--allow-other", action="store_true", help="let other users in, as the files' permission bits allow"
    )
    parser.add_argument(
        "--owners",
        choices=("mounter", "stored"),
        default="mounter",
        help="whose files show as: the user's who mounts (default), or the owners that commits keep",
    )
    parser.add_argument("-d", "--debug", action="store_true", help="log each request of the kernel")
    parser.add_argument(
        "--read-from",
        choices=("signed", "own", "daemon"),
        help="how bytes in S3 are read: at addresses that the daemon signs (default), with the AWS settings here, or "
        "through the daemon",
    )
    parser.add_argument("--cache-dir", metavar="DIR", default="", help="keep blocks read from S3 there")
    parser.add_argument("--cache-size", metavar="SIZE", default="", help="how much to keep there at most, as in 20G")


def _cache_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache-dir", metavar="DIR", default="", help="look at the cache there")


def _unmount_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="unmount all mounts of pachctl, and print them")


COMMANDS = {
    "mount": Command(
        run=mount,
        operands=("PATH",),
        options=_mount_options,
        description="""\
Mount the file system on a local directory, as PATH/REPO/BRANCH-OR-COMMIT/FILE. Open commits can be written.
This command blocks until the directory is unmounted or it is interrupted.""",
        examples=("mkdir ~/pfs", "pachctl mount ~/pfs &", "ls -l ~/pfs/images/master"),
    ),
    "inspect-cache": Command(
        run=inspect_cache,
        options=_cache_options,
        description="""\
Say what the block cache of this machine holds, and how often it saved a request. Daemon, mounts and workers of a
machine share one. There is none while the daemon keeps its packs in its own directory.""",
        examples=("pachctl inspect-cache", "pachctl inspect-cache --cache-dir /var/cache/pfs"),
    ),
    "unmount": Command(
        run=unmount,
        operands=("[PATH]",),
        options=_unmount_options,
        description="""\
Unmount the file system from a local directory, once what was written is sent. What can't be sent is kept in a
directory that the error names.""",
        examples=("pachctl unmount ~/pfs", "pachctl unmount --all"),
    ),
}
