"""The commands that look at files and delete them; what moves contents is in files_put and files_get."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from pachctl.files import keeping, listing
from pachctl.files.sources import typed_path
from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError, add_raw_option
from pachctl.terminal.connection import connect
from pachctl.terminal.output import print_long_table, print_raw
from pachproto import pfs_pb2
from pfsd.trees.entries import SpecialEntry, SymlinkEntry

_SPECIAL = {1: "named pipe", 2: "character device", 6: "block device", 12: "socket"}

HEADER = ("NAME", "TYPE", "SIZE")


def file(repo: str, reference: str, path: str) -> pfs_pb2.File:
    """The file at `path` in the commit that `reference`, an id or a branch, names."""
    return pfs_pb2.File(commit=pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=reference), path=typed_path(path))


def row(info: pfs_pb2.FileInfo) -> tuple[str, ...]:
    """A file's or directory's line of the table."""
    return info.file.path, _type(info), format.size(info.size_bytes)


def block(info: pfs_pb2.FileInfo) -> list[str]:
    """A file's or directory's lines when it is inspected: those of 1.5, then what is kept beside its content."""
    return [
        f"Path: {format.printable(info.file.path)}",
        f"Type: {_type(info)}",
        f"Size: {format.size(info.size_bytes)}",
        "Children:" + "".join(f"  {format.printable(name)}" for name in info.children),
        *_attributes(info),
    ]


def _attributes(info: pfs_pb2.FileInfo) -> Iterator[str]:
    kept, other = keeping.of_info(info), keeping.other_of(info)
    if kept is None:
        return
    if isinstance(other, SymlinkEntry):
        yield f"Link to: {format.printable(other.target.decode(errors='backslashreplace'))}"
    if isinstance(other, SpecialEntry):
        yield f"Special: {_SPECIAL.get(other.kind, 'unknown')}"
    if kept.mode is not None:
        yield f"Mode: {kept.mode:04o}"
    if kept.owner is not None:
        yield "Owner: {}:{}".format(*kept.owner)
    if kept.time_ns is not None:
        yield f"Modified: {format.moment(kept.time_ns)}"
    if kept.link:
        yield f"Hard link: {kept.link.hex()}"
    for name, value in kept.xattrs:
        shown = (format.printable(each.decode(errors="backslashreplace")) for each in (name, value))
        yield "Attribute: {}={}".format(*shown)


def inspect_file(arguments: Arguments) -> None:
    """Prints one file or directory."""
    with connect() as daemon:
        info = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=file(*arguments.operands)))
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def list_file(arguments: Arguments) -> None:
    """Prints the entries of a directory."""
    with connect() as daemon:
        _print(listing.listed(daemon, file(*arguments.operands)), arguments.raw)


def glob_file(arguments: Arguments) -> None:
    """Prints what matches a pattern."""
    repo, reference, pattern = arguments.operands
    commit = pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=reference)
    with connect() as daemon:
        _print(listing.globbed(daemon, commit, pattern, recursive=arguments.recursive), arguments.raw)


def diff_file(arguments: Arguments) -> None:
    """Prints the files that differ, new ones first; nothing where there are none."""
    given: list[str] = arguments.operands
    if arguments.given not in (3, 6):
        raise UsageError(f"expected 3 or 6 arguments, got {arguments.given}; see pachctl diff-file --help")
    request = pfs_pb2.DiffFileRequest(new_file=file(*given[:3]), shallow=arguments.shallow)
    if arguments.given == 6:
        request.old_file.CopyFrom(file(*given[3:]))
    with connect() as daemon:
        for is_new, differing in groupby(listing.differing(daemon, request), key=lambda item: item[0]):
            print("New Files:" if is_new else "Old Files:")
            print_long_table(chain([HEADER], (row(info) for _, info in differing)))


def delete_file(arguments: Arguments) -> None:
    """Deletes a file or directory from an open commit."""
    with connect() as daemon:
        daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=file(*arguments.operands)))


def _type(info: pfs_pb2.FileInfo) -> str:
    return "file" if info.file_type == pfs_pb2.FILE else "dir"


def _print(infos: Iterable[pfs_pb2.FileInfo], raw: bool) -> None:
    if raw:
        print_raw(infos)
    else:
        print_long_table(chain([HEADER], map(row, infos)))


def _glob_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-R", "--recursive", action="store_true", help="let ** stand for any number of components, not for one"
    )
    add_raw_option(parser)


def _diff_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-s", "--shallow", action="store_true", help="compare the path's own entries, without descending"
    )


COMMANDS = {
    "inspect-file": Command(
        run=inspect_file,
        operands=("REPO", "COMMIT", "PATH"),
        options=add_raw_option,
        description="Return info about a file or a directory. COMMIT is an id or a branch.",
        examples=("pachctl inspect-file images master liberty.png",),
    ),
    "list-file": Command(
        run=list_file,
        operands=("REPO", "COMMIT", "[PATH]"),
        options=add_raw_option,
        description="Return the files in a directory, or in the root. COMMIT is an id or a branch.",
        examples=("pachctl list-file images master", "pachctl list-file images master statues"),
    ),
    "glob-file": Command(
        run=glob_file,
        operands=("REPO", "COMMIT", "PATTERN"),
        options=_glob_options,
        description="Return the files and directories whose whole paths match a pattern. * and ? stop at\n"
        "slashes, and ** is *, unless -R is given. COMMIT is an id or a branch.",
        examples=("pachctl glob-file images master '/*.png'", "pachctl glob-file images master -R '/**/*.png'"),
    ),
    "diff-file": Command(
        run=diff_file,
        operands=("REPO", "COMMIT", "PATH", "[OLD-REPO", "[OLD-COMMIT", "[OLD-PATH]]]"),
        options=_diff_options,
        description="Return the files that differ between two commits, or between a commit and its parent.",
        examples=(
            "pachctl diff-file images master statues",
            "pachctl diff-file images master statues images v1 statues",
        ),
    ),
    "delete-file": Command(
        run=delete_file,
        operands=("REPO", "COMMIT", "PATH"),
        description="Delete a file, or a directory with all that is in it, from an unfinished commit.",
        examples=("pachctl delete-file images master liberty.png",),
    ),
}
