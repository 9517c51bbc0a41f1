"""The commands about repos."""

from __future__ import annotations

import argparse

from pachctl.repos import amounts
from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError, add_raw_option
from pachctl.terminal.connection import connect
from pachctl.terminal.output import ago, confirm, print_raw, print_table, remark
from pachproto import pfs_pb2

HEADER = ("NAME", "CREATED", "SIZE")


def row(info: pfs_pb2.RepoInfo) -> tuple[str, ...]:
    """A repo's line of the table."""
    return info.repo.name, ago(info.created), format.size(info.size_bytes)


def block(info: pfs_pb2.RepoInfo) -> list[str]:
    """A repo's lines when it is inspected."""
    lines = [f"Name: {info.repo.name}"]
    if info.description:
        lines.append(f"Description: {format.printable(info.description)}")
    lines += [f"Created: {ago(info.created)}", f"Size: {format.size(info.size_bytes)}"]
    if info.provenance:
        lines.append("Provenance:" + "".join(f"  {repo.name}" for repo in info.provenance))
    return lines


def create_repo(arguments: Arguments) -> None:
    """Creates a repo."""
    (name,) = arguments.operands
    request = pfs_pb2.CreateRepoRequest(repo=pfs_pb2.Repo(name=name), description=arguments.description)
    with connect() as daemon:
        daemon.pfs.CreateRepo(request)


def inspect_repo(arguments: Arguments) -> None:
    """Prints one repo."""
    (name,) = arguments.operands
    with connect() as daemon:
        info = daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name=name)))
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def list_repo(arguments: Arguments) -> None:
    """Prints the repos, newest first."""
    ancestors = [pfs_pb2.Repo(name=name) for name in arguments.provenance]
    with connect() as daemon:
        infos = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest(provenance=ancestors)).repo_info
    if arguments.raw:
        print_raw(infos)
    else:
        print_table([HEADER, *map(row, infos)])


def delete_repo(arguments: Arguments) -> int:
    """Deletes one repo, or all of them once the user agrees."""
    (name,) = arguments.operands
    if arguments.all == bool(name):
        raise UsageError("give either the name of a repo or --all\nusage: pachctl delete-repo [OPTIONS] [REPO]")
    request = pfs_pb2.DeleteRepoRequest(force=arguments.force, all=arguments.all)
    with connect() as daemon:
        if name:
            request.repo.name = name
        else:
            print(
                f"pfsd at {daemon.address} has {amounts.of_repos(daemon)}: all of it goes, and nothing brings it back."
            )
            if not confirm("Are you sure you want to delete all repos? yN"):
                remark("nothing was deleted")
                return 1
        daemon.pfs.DeleteRepo(request)
    return 0


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--description", metavar="TEXT", default="", help="a description of the repo")


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--provenance",
        metavar="REPO",
        action="append",
        default=[],
        help="list only repos that have REPO in their provenance; several: all of them",
    )
    add_raw_option(parser)


def _delete_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="remove the repo even if other repos or pipelines need it; those pipelines then stand still",
    )
    parser.add_argument("--all", action="store_true", help="remove all repos, after asking on standard input")


COMMANDS = {
    "create-repo": Command(
        run=create_repo,
        operands=("REPO",),
        options=_create_options,
        description="Create a new repo.",
        examples=("pachctl create-repo images -d 'Sample pictures'",),
    ),
    "inspect-repo": Command(
        run=inspect_repo,
        operands=("REPO",),
        options=add_raw_option,
        description="Return info about a repo.",
        examples=("pachctl inspect-repo images",),
    ),
    "list-repo": Command(
        run=list_repo,
        options=_list_options,
        description="Return all repos.",
        examples=("pachctl list-repo", "# only what is computed from images", "pachctl list-repo -p images"),
    ),
    "delete-repo": Command(
        run=delete_repo,
        operands=("[REPO]",),
        options=_delete_options,
        description="Delete a repo with its commits and branches. One that a pipeline writes to or reads is kept.",
        examples=("pachctl delete-repo images", "pachctl delete-repo --all"),
    ),
}
