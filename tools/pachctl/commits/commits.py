"""The commands about commits."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError, add_raw_option, not_negative
from pachctl.terminal.connection import connect
from pachctl.terminal.output import ago, between, print_raw, print_table
from pachproto import pfs_pb2
from pfsd.errors import InvalidError

HEADER = ("REPO", "ID", "PARENT", "STARTED", "DURATION", "SIZE")

_EXAMPLE_ROW = ("", "0" * 32, "0" * 32, "Less than a second ago", "Less than a second", "")
"""As wide as columns get whose rows are printed before all of them are known."""


def commit(repo: str, reference: str) -> pfs_pb2.Commit:
    """The commit that `reference`, an id or a branch, names in a repo."""
    return pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=reference)


def parse_commit(text: str) -> pfs_pb2.Commit:
    """The commit written as REPO/ID or REPO/BRANCH; raises InvalidError."""
    repo, slash, reference = text.partition("/")
    if not (repo and slash and reference):
        raise InvalidError(f"{text!r} names no commit: write it as REPO/COMMIT, with the id or a branch")
    return commit(repo, reference)


def row(info: pfs_pb2.CommitInfo) -> tuple[str, ...]:
    """A commit's line of the table: duration and size are `-` while it is open."""
    parent = info.parent_commit.id if info.HasField("parent_commit") else "<none>"
    if info.HasField("finished"):
        end = (between(info.started, info.finished), format.size(info.size_bytes))
    else:
        end = ("-", "-")
    return info.commit.repo.name, info.commit.id, parent, ago(info.started), *end


def block(info: pfs_pb2.CommitInfo) -> list[str]:
    """A commit's lines when it is inspected."""
    lines = [f"Commit: {info.commit.repo.name}/{info.commit.id}"]
    if info.HasField("parent_commit"):
        lines.append(f"Parent: {info.parent_commit.id}")
    lines.append(f"Started: {ago(info.started)}")
    if info.HasField("finished"):
        lines.append(f"Finished: {ago(info.finished)}")
    lines.append(f"Size: {format.size(info.size_bytes)}")
    if info.provenance:
        lines.append("Provenance:" + "".join(f"  {one.repo.name}/{one.id}" for one in info.provenance))
    return lines


def start_commit(arguments: Arguments) -> None:
    """Starts a commit and prints its id."""
    repo, branch = arguments.operands
    if branch and arguments.branch and branch != arguments.branch:
        raise UsageError(f"the branch is given twice, as {branch!r} and as {arguments.branch!r}")
    request = pfs_pb2.StartCommitRequest(parent=commit(repo, arguments.parent), branch=branch or arguments.branch)
    with connect() as daemon:
        print(daemon.pfs.StartCommit(request).id)


def finish_commit(arguments: Arguments) -> None:
    """Finishes a commit."""
    with connect() as daemon:
        daemon.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit(*arguments.operands)))


def inspect_commit(arguments: Arguments) -> None:
    """Prints one commit."""
    with connect() as daemon:
        info = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit(*arguments.operands)))
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def list_commit(arguments: Arguments) -> None:
    """Prints commits, newest first."""
    repo, reference = arguments.operands
    request = pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo), number=arguments.number)
    if reference:
        request.to.CopyFrom(commit(repo, reference))
    if arguments.start:
        # `from` is no name that Python lets one write.
        getattr(request, "from").CopyFrom(commit(repo, arguments.start))
    with connect() as daemon:
        infos = daemon.pfs.ListCommit(request).commit_info
    if arguments.raw:
        print_raw(infos)
    else:
        print_table([HEADER, *map(row, infos)])


def flush_commit(arguments: Arguments) -> None:
    """Waits for what follows from commits, then prints the commits that it led to."""
    request = pfs_pb2.FlushCommitRequest(
        commits=[parse_commit(text) for text in arguments.operands],
        to_repos=[pfs_pb2.Repo(name=name) for name in arguments.repos],
    )
    with connect() as daemon:
        infos = daemon.pfs.FlushCommit(request)
        if arguments.raw:
            print_raw(infos)
            return
        rows: list[tuple[str, ...]] = []
        try:
            rows.extend(map(row, infos))
        finally:
            # Those that did finish are shown even where a later one fails.
            if rows:
                print_table([HEADER, *rows])


def subscribe_commit(arguments: Arguments) -> None:
    """Prints a branch's finished commits, and new ones for ever."""
    repo, branch = arguments.operands
    if arguments.start and arguments.new:
        raise UsageError("--new and --from can't be used together")
    request = pfs_pb2.SubscribeCommitRequest(repo=pfs_pb2.Repo(name=repo), branch=branch)
    start = arguments.start or (_head(repo, branch) if arguments.new else "")
    if start:
        getattr(request, "from").CopyFrom(commit(repo, start))
    with connect() as daemon:
        infos = daemon.pfs.SubscribeCommit(request)
        if arguments.raw:
            print_raw(infos)
        else:
            _print_as_they_come(repo, infos)


def delete_commit(arguments: Arguments) -> None:
    """Deletes an open commit."""
    with connect() as daemon:
        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=commit(*arguments.operands)))


def _head(repo: str, branch: str) -> str:
    request = pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name=repo))
    with connect() as daemon:
        branches = daemon.pfs.ListBranch(request).branch_info
    heads: list[str] = [info.head.id for info in branches if info.name == branch]
    return heads[0] if heads else ""


def _print_as_they_come(repo: str, infos: Iterable[pfs_pb2.CommitInfo]) -> None:
    columns = format.widths([HEADER, (repo, *_EXAMPLE_ROW[1:])])
    print(format.line(HEADER, columns), flush=True)
    for info in infos:
        print(format.line(row(info), columns), flush=True)


def _start_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--parent",
        metavar="COMMIT",
        default="",
        help="the parent of the new commit: an id or a branch; not needed to go on from the branch's head",
    )
    parser.add_argument("-b", "--branch", metavar="BRANCH", default="", help="the branch, as the second argument")


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--from",
        dest="start",
        metavar="COMMIT",
        default="",
        help="list only the commits since this one",
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=not_negative,
        default=0,
        help="list at most N commits; 0: all of them",
    )
    add_raw_option(parser)


def _flush_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r",
        "--repos",
        metavar="REPO",
        action="append",
        default=[],
        help="wait only for commits that lead to REPO; may be given several times",
    )
    add_raw_option(parser)


def _subscribe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="start", metavar="COMMIT", default="", help="begin after this commit of the branch"
    )
    parser.add_argument("--new", action="store_true", help="leave out the commits that are there already")
    add_raw_option(parser)


COMMANDS = {
    "start-commit": Command(
        run=start_commit,
        operands=("REPO", "[BRANCH]"),
        options=_start_options,
        description="Start a new commit, on a branch (made if it is not there) or on none, and print its id.",
        examples=(
            "# on no branch",
            "pachctl start-commit images",
            "# on the branch master",
            "pachctl start-commit images master",
            "# on a new branch patch that forks from master",
            "pachctl start-commit images patch -p master",
        ),
    ),
    "finish-commit": Command(
        run=finish_commit,
        operands=("REPO", "COMMIT"),
        description="Finish a started commit, after which it never changes. COMMIT is an id or a branch.",
        examples=("pachctl finish-commit images master",),
    ),
    "inspect-commit": Command(
        run=inspect_commit,
        operands=("REPO", "COMMIT"),
        options=add_raw_option,
        description="Return info about a commit. COMMIT is an id or a branch.",
        examples=("pachctl inspect-commit images master",),
    ),
    "list-commit": Command(
        run=list_commit,
        operands=("REPO", "[COMMIT]"),
        options=_list_options,
        description="Return the commits of a repo, newest first: all, or a commit (an id or a branch) and\n"
        "its ancestors.",
        examples=(
            "pachctl list-commit images",
            "# the last 20 commits of the branch master",
            "pachctl list-commit images master -n 20",
            "# the commits of master since another",
            "pachctl list-commit images master --from aeebff4dc3174e7f98c7faac0d9a84f5",
        ),
    ),
    "flush-commit": Command(
        run=flush_commit,
        operands=("COMMIT...",),
        options=_flush_options,
        description="Wait for all commits caused by the specified commits to finish and return them.\n"
        "A commit is written as REPO/ID or REPO/BRANCH.",
        examples=(
            "pachctl flush-commit images/master",
            "# only what leads to edges and montage",
            "pachctl flush-commit images/master -r edges -r montage",
        ),
    ),
    "subscribe-commit": Command(
        run=subscribe_commit,
        operands=("REPO", "BRANCH"),
        options=_subscribe_options,
        description="Print the finished commits of a branch, oldest first, and each new one as it finishes.\n"
        "Runs until it is interrupted.",
        examples=("pachctl subscribe-commit images master", "pachctl subscribe-commit images master --new"),
    ),
    "delete-commit": Command(
        run=delete_commit,
        operands=("REPO", "COMMIT"),
        description="Delete a commit that is not finished; its branch goes back to the parent.",
        examples=("pachctl delete-commit images master",),
    ),
}
