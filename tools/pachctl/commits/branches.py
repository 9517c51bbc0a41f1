"""The commands about branches."""

from __future__ import annotations

from pachctl.terminal.command import Arguments, Command, add_raw_option
from pachctl.terminal.connection import connect
from pachctl.terminal.output import print_raw, print_table
from pachproto import pfs_pb2

HEADER = ("BRANCH", "HEAD")


def row(info: pfs_pb2.BranchInfo) -> tuple[str, ...]:
    """A branch's line of the table."""
    return info.name, info.head.id or "-"


def list_branch(arguments: Arguments) -> None:
    """Prints the branches of a repo."""
    (repo,) = arguments.operands
    with connect() as daemon:
        infos = daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name=repo))).branch_info
    if arguments.raw:
        print_raw(infos)
    else:
        print_table([HEADER, *map(row, infos)])


def set_branch(arguments: Arguments) -> None:
    """Points a branch at a commit."""
    repo, reference, branch = arguments.operands
    commit = pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=reference)
    with connect() as daemon:
        daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=commit, branch=branch))


def delete_branch(arguments: Arguments) -> None:
    """Deletes a branch, not its commits."""
    repo, branch = arguments.operands
    with connect() as daemon:
        daemon.pfs.DeleteBranch(pfs_pb2.DeleteBranchRequest(repo=pfs_pb2.Repo(name=repo), branch=branch))


COMMANDS = {
    "list-branch": Command(
        run=list_branch,
        operands=("REPO",),
        options=add_raw_option,
        description="Return all branches of a repo.",
        examples=("pachctl list-branch images",),
    ),
    "set-branch": Command(
        run=set_branch,
        operands=("REPO", "COMMIT", "BRANCH"),
        description="Set a commit (an id or a branch) and its ancestors to a branch, made if need be.",
        examples=("# both branches then point to the same commit", "pachctl set-branch images test master"),
    ),
    "delete-branch": Command(
        run=delete_branch,
        operands=("REPO", "BRANCH"),
        description="Delete a branch, while leaving the commits intact.",
        examples=("pachctl delete-branch images patch",),
    ),
}
