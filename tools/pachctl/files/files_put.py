"""The command put-file."""

from __future__ import annotations

import argparse
import logging
import os
import posixpath
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import grpc

from pachctl.commits.commits import commit as commit_of
from pachctl.files import download, keeping, sources
from pachctl.files.bulk import BulkUploader, File, RemoteFile
from pachctl.files.directories import Directories
from pachctl.files.keeping import HardLinks
from pachctl.files.localtrees import Walk
from pachctl.files.sources import Kind, LocalFile, Source
from pachctl.files.upload import CHUNK_BYTES, Options, Uploader
from pachctl.terminal.command import Arguments, Command, UsageError, not_negative, positive
from pachctl.terminal.connection import Daemon, connect, is_unimplemented
from pachctl.terminal.fetch import STDIN, read_text
from pachctl.terminal.output import remark
from pachctl.terminal.parallel import Calls, for_each
from pachproto import pfs_pb2
from pfsd.clouds import is_object
from pfsd.errors import InvalidError, NotFoundError
from pfsd.names import pfsurls
from pfsd.trees import attributes, entries

UNDO_SECONDS = 3.0
"""How long deleting a commit is waited for that goes with the call that holds it, also without that."""

_DELIMITERS = {"json": pfs_pb2.JSON, "line": pfs_pb2.LINE}

_logger = logging.getLogger(__name__)


def put_file(arguments: Arguments) -> int:
    """Puts what the command line names; the status is 1 where something had to be left out."""
    repo, branch, _ = arguments.operands
    if (arguments.target_file_datums or arguments.target_file_bytes) and not arguments.split:
        raise UsageError("--target-file-datums and --target-file-bytes need --split")
    planned = _plan(arguments)
    for source in planned:
        if source.kind is Kind.LOCAL:
            sources.check_local(source, arguments.recursive)
        elif source.kind is Kind.STDIN:
            remark("Reading from stdin.")
    parts = list(sources.rounds(planned))
    with connect() as daemon:
        if not arguments.commit:
            try:
                return _put(daemon, arguments, commit_of(repo, branch), parts)
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
                    _hint_at_new_commit(daemon, repo, branch)
                raise
        with _new_commit(daemon, pfs_pb2.StartCommitRequest(parent=commit_of(repo, ""), branch=branch)) as commit:
            return _put(daemon, arguments, commit, parts)


def _hint_at_new_commit(daemon: Daemon, repo: str, branch: str) -> None:
    """Raise NotFoundError where a repo has no such commit or branch to put into."""
    try:
        daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit_of(repo, branch)))
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
            raise NotFoundError(f"{error.details()}: -c puts into a new commit") from error


def _plan(arguments: Arguments) -> list[Source]:
    path = arguments.operands[2]
    texts: list[str] = list(arguments.file)
    listed = arguments.input_file
    if listed is not None:
        if listed == STDIN and STDIN in texts:
            raise UsageError("standard input can't be both a file to put and the list of files")
        texts += sources.listed_sources(read_text(listed), listed)
    elif not texts and arguments.recursive and os.path.isdir(path):
        # The documentation's own example: put-file REPO BRANCH -c -r DIR.
        texts, path = [path], ""
    elif not texts:
        texts = [STDIN]
    if arguments.recursive and STDIN in texts:
        raise InvalidError("-r puts directories, not standard input: name one with -f")
    into = path.endswith("/") and not arguments.recursive and not arguments.split
    return sources.plan(texts, path, keep_names=into or listed is not None)


def _put(daemon: Daemon, arguments: Arguments, commit: pfs_pb2.Commit, parts: Iterable[list[Source]]) -> int:
    with ExitStack() as connections:
        transfer = _Transfer(daemon, arguments, commit, connections)
        for part in parts:
            transfer.run(part)
    return 1 if transfer.left_out else 0


@contextmanager
def _new_commit(daemon: Daemon, request: pfs_pb2.StartCommitRequest) -> Iterator[pfs_pb2.Commit]:
    """A commit that is finished at the end of the block, or deleted where that raises.

    Also when this process is killed, but for a daemon of Pachyderm 1.5 itself, which can't be asked for that.
    """
    holding = daemon.store.HoldCommit(request)
    is_held = True
    try:
        try:
            commit = next(holding)
        except grpc.RpcError as error:
            if not is_unimplemented(error):
                raise
            is_held = False
            commit = daemon.pfs.StartCommit(request)
        try:
            yield commit
            daemon.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))
        except BaseException:
            _undo(daemon, commit, is_held)
            raise
    finally:
        holding.cancel()


def _undo(daemon: Daemon, commit: pfs_pb2.Commit, is_held: bool) -> None:
    timeout = UNDO_SECONDS if is_held else None
    try:
        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=commit), timeout=timeout)
    except grpc.RpcError as error:
        _logger.info("deleting commit %s failed: %s", commit.id, error)
        if is_held:  # then the daemon does it
            return
        remark(
            f"commit {commit.id} may be left unfinished: delete it with "
            f"pachctl delete-commit {commit.repo.name} {commit.id}"
        )


class _Transfer:
    """Puts sources into one commit."""

    def __init__(self, daemon: Daemon, arguments: Arguments, commit: pfs_pb2.Commit, connections: ExitStack) -> None:
        """`connections` keeps those to other daemons that are copied from."""
        self.left_out = False
        self._daemon = daemon
        self._connections = connections
        self._recursive: bool = arguments.recursive
        self._threads: int = arguments.parallelism
        self._calls = Calls()
        self._split = bool(arguments.split)
        options = Options(
            commit=commit,
            overwrite=arguments.overwrite,
            delimiter=_DELIMITERS.get(arguments.split, pfs_pb2.NONE),
            target_file_datums=arguments.target_file_datums,
            target_file_bytes=arguments.target_file_bytes,
        )
        self._keeps = not arguments.no_attributes and not self._split
        self._links = HardLinks()
        self._uploader = Uploader(daemon.pfs.PutFile, options, self._calls)
        self._bulk = BulkUploader(daemon.store, commit, arguments.overwrite, arguments.parallelism, self._calls)
        self._directories = Directories(daemon.edits, commit, self._calls)

    def run(self, part: list[Source]) -> None:
        """Puts what the sources name, side by side."""
        single = [source for source in part if source.kind in (Kind.STDIN, Kind.URL)]
        if single:
            for_each(single, self._put, self._threads, self._calls)
        files = [source for source in part if source.kind in (Kind.LOCAL, Kind.PFS)]
        if files:
            in_bulk = self._can_go_in_bulk(files)
            keeps = self._keeps and in_bulk  # PutFile of 1.5 has no room for more than bytes
            found = (file for source in files for file in self._noted(source, keeps))
            if in_bulk:
                self._bulk.put(found)
                self._directories.flush()
            else:
                for_each(found, self._put_file, self._threads, self._calls)

    def _can_go_in_bulk(self, files: list[Source]) -> bool:
        if self._split:
            return False
        if len(files) == 1 and not self._recursive and not self._keeps and files[0].kind is Kind.LOCAL:
            # One small file is in the commit sooner than it is said how it could be.
            return os.path.getsize(files[0].text) > CHUNK_BYTES and self._daemon.offers_bulk
        return self._daemon.offers_bulk

    def _put(self, source: Source) -> None:
        if source.kind is Kind.STDIN:
            self._uploader.put_descriptor(sys.stdin.fileno(), source.target)
        else:
            recursive = self._recursive and is_object(source.text)
            self._uploader.put_url(source.text, source.target, recursive)

    def _put_file(self, file: File) -> None:
        self._uploader.put_parts(file.blocks(), file.target)

    def _noted(self, source: Source, keeps: bool) -> Iterator[File]:
        """The files of a source, for which the directories above them are made as they are kept."""
        for file in self._files(source, keeps):
            self._directories.hold(file.target)
            yield file

    def _files(self, source: Source, keeps: bool) -> Iterator[File]:
        if source.kind is Kind.PFS:
            yield from self._copies(source, keeps)
        elif self._recursive and keeps:
            yield from Walk(self._links, self._leave_out, self._directories.add).files(source)
        elif self._recursive:
            yield from sources.walk(source, self._leave_out)
        elif keeps:
            status = os.stat(source.text)
            yield LocalFile(source.text, source.target, status, self._links.link(status, source.target))
        else:
            yield LocalFile(source.text, source.target)

    def _copies(self, source: Source, keeps: bool) -> Iterator[File]:
        """The files that a pfs:// URL names."""
        place = pfsurls.parse(source.text)
        daemon = self._daemon
        if place.address:
            daemon = self._connections.enter_context(connect(place.address))
        commit = commit_of(place.repo, place.commit)
        if not self._recursive:
            file = pfs_pb2.File(commit=commit, path=place.path)
            read = partial(download.contents, daemon, file, self._calls)
            if keeps:
                yield _copy(download.inspect(daemon, file), source.target, read, None, keeps, follows=True)
            else:
                yield RemoteFile(source.target, read)
            return
        for entry in download.walk(daemon, commit, place.path):
            target = posixpath.join(source.target, *entry.names)
            if not entry.is_directory:
                read = partial(download.contents, daemon, entry.file, self._calls)
                yield _copy(entry.info, target, read, entry.data, keeps)
            elif keeps:
                self._directories.add(target, attributes.encode(keeping.of_info(entry.info) or attributes.NONE))

    def _leave_out(self, sentence: str) -> None:
        self.left_out = True
        remark(sentence)


def _copy(
    info: pfs_pb2.FileInfo,
    target: str,
    read: Callable[[], Iterator[bytes]],
    data: bytes | None,
    keeps: bool,
    *,
    follows: bool = False,
) -> RemoteFile:
    """A copy of a file of a daemon; `follows` says whether a link becomes what it leads to."""
    other = keeping.other_of(info) if keeps else None
    if follows or other is None:
        kept = keeping.of_info(info) if keeps and other is None else None
        return RemoteFile(target, read, data, None if kept is None else attributes.encode(kept))
    return RemoteFile(target, read, other=entries.encode(other))


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-f",
        "--file",
        metavar="SOURCE",
        action="append",
        default=[],
        help="what to put: a local file, a URL (http, https, s3, gs, as, pfs://HOST:PORT/REPO/COMMIT/PATH) or - for "
        "standard input, which is the default; may be given several times",
    )
    add("-i", "--input-file", metavar="LIST", help="put what a file, a URL or - lists, one source a line")
    add("-c", "--commit", action="store_true", help="put in a new commit: start it, put, finish it")
    add("-r", "--recursive", action="store_true", help="put what is in the directories that -f and -i name")
    add("-o", "--overwrite", action="store_true", help="replace what is at a path instead of appending to it")
    add(
        "--no-attributes",
        action="store_true",
        help="keep names and bytes alone, as Pachyderm 1.5 does: symbolic links are followed",
    )
    add(
        "-p",
        "--parallelism",
        metavar="N",
        type=positive,
        default=10,
        help="put at most N files at the same time (default 10)",
    )
    add("--split", choices=sorted(_DELIMITERS), help="split each source into files in a directory at its path")
    add(
        "--target-file-datums",
        metavar="N",
        type=not_negative,
        default=0,
        help="with --split: lines or JSON values in each file; the last may hold fewer",
    )
    add(
        "--target-file-bytes",
        metavar="N",
        type=not_negative,
        default=0,
        help="with --split: a file is closed once it holds this many bytes",
    )


COMMANDS = {
    "put-file": Command(
        run=put_file,
        operands=("REPO", "BRANCH", "[PATH]"),
        options=_options,
        description="""\
Put files into a commit that is started and not finished, named by its id or branch, or with -c into a new
one.

One source with PATH lands at PATH, or below it where PATH ends in /; with -r, the directory's content does.
Without PATH a source
lands under its own path: a local one as it was typed (only its last name where it is absolute or leads
upward), a URL under the URL's path. Several sources, and those listed with -i, keep these names below PATH.

Content is appended to what is at the path already, unless -o is given. With -c, all is put or nothing: on a
failure the commit is deleted again.

Of local files and directories the permission bits, the time of the last change and the extended attributes
user.* are kept, put by root also the owner, where that is another. In a directory that -r puts, symbolic links
are kept as links, also those that lead out of it, and so are hard links and named pipes. Directories that hold
none of this are left out; so are sockets and devices, which are named:
the exit status is then 1. With --no-attributes, and with --split, names and
bytes alone are kept: symbolic links are followed, and named pipes are left out too.""",
        examples=(
            "# standard input, in a new commit",
            "echo data | pachctl put-file -c images master notes/today",
            "pachctl put-file -c images master liberty.png -f liberty.png",
            "pachctl put-file -c images master -f http://example.com/liberty.png",
            "# the content of a directory, below statues/",
            "pachctl put-file -c -r images master statues -f pictures",
            "# everything that a list names",
            "pachctl put-file -c images master -i list.txt",
            "# each line a file of its own",
            "pachctl put-file -c logs master requests -f access.log --split line",
        ),
    ),
}
