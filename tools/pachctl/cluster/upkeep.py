"""The commands that look after a store: garbage-collect, fsck, migrate."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Iterator

from google.protobuf.empty_pb2 import Empty

from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command, UsageError
from pachctl.terminal.connection import Daemon, UnimplementedError, connect
from pachproto import pfsd_pb2, pps_pb2
from pfsd.errors import CorruptError
from pfsd.upkeep.checks.findings import Problem, Summary


def garbage_collect(arguments: Arguments) -> None:
    """Removes what nothing refers to any more, and prints what was freed."""
    try:
        with connect() as daemon:
            report = daemon.admin.CollectGarbage(Empty())
    except UnimplementedError:
        with connect() as daemon:  # of Pachyderm 1.5, which does not say what it freed
            daemon.pps.GarbageCollect(pps_pb2.GarbageCollectRequest())
        return
    print(f"Chunks: {report.chunks_removed} removed, {report.chunks_kept} kept")
    print(f"Tree nodes: {report.nodes_removed} removed, {report.nodes_kept} kept")
    print(f"Packs: {report.packs_removed} removed, {report.packs_rewritten} of them rewritten")
    print(f"Freed: {format.size(report.bytes_freed)}")


def fsck(arguments: Arguments) -> int:
    """Prints what is wrong with a store; the status is 1 where something stays wrong."""
    if arguments.root:
        from pfsd.upkeep.fsck import check_root

        return _print_findings(check_root(pathlib.Path(arguments.root), arguments.fix))
    with connect() as daemon:
        return _print_findings(_findings(daemon, arguments.fix))


def _findings(daemon: Daemon, fix: bool) -> Iterator[Problem | Summary]:
    for message in daemon.admin.Fsck(pfsd_pb2.FsckRequest(fix=fix)):
        if message.HasField("summary"):
            fields = {field.name: getattr(message.summary, field.name) for field in dataclasses.fields(Summary)}
            yield Summary(**fields)
        else:
            found = message.problem
            yield Problem(found.what, tuple(found.touches), found.touched, found.fixed)


def _print_findings(findings: Iterable[Problem | Summary]) -> int:
    summary = None
    for found in findings:
        if isinstance(found, Summary):
            summary = found
            continue
        print(format.printable(f"{found.what} (repaired)" if found.fixed else found.what))
        for place in found.touches:
            print(f"  touches {format.printable(place)}")
        if found.touched > len(found.touches):
            print(f"  and {found.touched - len(found.touches)} more")
        sys.stdout.flush()
    if summary is None:
        raise CorruptError("the check ended before its end: start it again")
    print(
        f"Checked {summary.repos} repos, {summary.commits} commits, {summary.nodes} tree nodes, "
        f"{summary.chunks} chunks, {summary.packs} packs of {format.size(summary.bytes)}"
    )
    print(f"Problems: {summary.problems}, repaired: {summary.fixed}")
    return 1 if summary.problems > summary.fixed else 0


def migrate(arguments: Arguments) -> None:
    """Brings a root to the present on-disk format, and prints what was done."""
    if arguments.source or arguments.target:
        raise UsageError(
            "--from and --to are for roots of Pachyderm, which this can't read: copy from a running daemon with "
            "pachctl put-file -c -r REPO BRANCH / -f pfs://HOST:PORT/REPO/COMMIT/"
        )
    if not arguments.root:
        raise UsageError("say which root to migrate with --root DIR; the daemon that serves it has to be stopped")
    from pfsd.upkeep.migrate import migrate

    done = migrate(pathlib.Path(arguments.root))
    if arguments.object_store:
        from pfsd.upkeep.relocate import move_packs

        done.append(f"moved {move_packs(pathlib.Path(arguments.root), arguments.object_store)} packs")
    for step in done:
        print(format.printable(step))
    if not done:
        print(f"{arguments.root} has the present format: nothing to do")


def _fsck_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="repair what can be repaired without losing data")
    parser.add_argument("--root", metavar="DIR", default="", help="check the root in DIR, which no daemon serves")


def _migrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", default="", help="the root to migrate, which no daemon serves")
    parser.add_argument(
        "--object-store",
        metavar="s3://BUCKET/PREFIX",
        default="",
        help="move the root's packs there, too; 'local' moves them back to the root's own directory",
    )
    parser.add_argument("--from", dest="source", metavar="VERSION", default="", help=argparse.SUPPRESS)
    parser.add_argument("--to", dest="target", metavar="VERSION", default="", help=argparse.SUPPRESS)


COMMANDS = {
    "garbage-collect": Command(
        run=garbage_collect,
        description="""\
Remove what no commit, tag, open commit or running job can reach any more, and say what was freed. Jobs and puts
go on meanwhile.""",
        examples=("pachctl garbage-collect",),
    ),
    "fsck": Command(
        run=fsck,
        options=_fsck_options,
        description="""\
Check everything that is stored: commits, tree nodes, the chunk index, packs. Prints each problem with the paths
and commits that it touches. The exit status is 1 when a problem remains.""",
        examples=(
            "pachctl fsck",
            "# repair what can be repaired without losing data",
            "pachctl fsck --fix",
            "# a root whose daemon does not start any more",
            "pachctl fsck --root ~/pfsd-root",
        ),
    ),
    "migrate": Command(
        run=migrate,
        options=_migrate_options,
        description="""\
Bring a root that an older version wrote to the present on-disk format. Stop the daemon that serves it, and make
a backup, before. To take over the data of a running Pachyderm 1.5, copy it with put-file -r from pfs:// URLs.""",
        examples=(
            "pachctl migrate --root ~/pfsd-root",
            "# keep the packs in S3 from now on",
            "pachctl migrate --root ~/pfsd-root --object-store s3://bucket/prefix",
            "# and in the root's own directory again",
            "pachctl migrate --root ~/pfsd-root --object-store local",
        ),
    ),
}
