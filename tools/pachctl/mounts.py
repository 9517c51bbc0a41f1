"""The commands that mount and unmount the repository view."""

from __future__ import annotations

import argparse

from tools.pachctl.command import Arguments, Command, UsageError


def mount(arguments: Arguments) -> None:
    """Mounts the repository view until it is unmounted or the process ends."""
    # Kept out of the other commands' way: the FUSE library is slow to load and needs libfuse3.
    from fuse.mount import run_repository_view
    from tools.pachctl.connection import default_address

    (path,) = arguments.operands
    run_repository_view(
        path,
        default_address(),
        all_commits=arguments.all_commits,
        allow_other=arguments.allow_other,
        debug=arguments.debug,
    )


def unmount(arguments: Arguments) -> None:
    """Unmounts one view, or all."""
    from fuse.mount import unmount, unmount_all

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
    parser.add_argument("--allow-other", action="store_true", help="let other users read what is mounted")
    parser.add_argument("-d", "--debug", action="store_true", help="log each request of the kernel")


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
