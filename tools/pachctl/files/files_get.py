"""The command get-file."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain

from pachctl.files import download, keeping
from pachctl.files.download import Entry
from pachctl.files.files import file as file_of
from pachctl.files.restoring import Restoring
from pachctl.terminal.command import Arguments, Command, UsageError, positive
from pachctl.terminal.connection import Daemon, connect
from pachctl.terminal.output import remark
from pachctl.terminal.parallel import Calls, for_each
from pachproto import pfs_pb2
from pfsd.errors import InvalidError, NotFoundError
from pfsd.names.bytenames import shown_name, stored_name
from pfsd.trees.attributes import Attributes
from pfsd.trees.symlinks import MOST_FOLLOWED

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)
"""Where a file system has no hard links, or not so many."""

_logger = logging.getLogger(__name__)


def get_file(arguments: Arguments) -> None:
    """Writes a file to standard output or to a local file, or a directory to a local one."""
    output: str = arguments.output
    if arguments.recursive and not output:
        raise UsageError("-r needs a directory to write to: name it with -o")
    if output and not arguments.recursive and os.path.isdir(output):
        raise IsADirectoryError(errno.EISDIR, "is a directory", output)
    file = file_of(*arguments.operands)
    with connect() as daemon:
        if arguments.recursive:
            is_new = not os.path.lexists(output)
            info = download.inspect(daemon, file)
            if info.file_type != pfs_pb2.DIR:
                raise UsageError(f"{file.path} is a file: get it without -r")
            entries = download.walk(daemon, file.commit, file.path)
            got = _Download(daemon, output)
            got.run(entries, arguments.parallelism)
            if is_new:
                got.give(info)
        elif output and (os.path.isfile(output) or not os.path.exists(output)):
            # A symlink that the user names stays one.
            _write_one(daemon, file, os.path.realpath(output))
        elif output:
            # A device or named pipe can't be replaced.
            with open(output, "wb") as special:
                special.writelines(download.contents(daemon, file, Calls()))
        else:
            for part in download.contents(daemon, file, Calls()):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()


def _write_one(daemon: Daemon, file: pfs_pb2.File, path: str) -> None:
    """Writes a file that the user names, with its time, and executable where it is."""
    info = _behind_links(daemon, file)
    kept = keeping.of_info(info)
    if kept is None or info.attributes.symlink:
        write_file(path, download.contents(daemon, file, Calls()))
        return

    def finish(descriptor: int) -> None:
        status = os.fstat(descriptor)
        readers = (status.st_mode & 0o444) >> 2  # what may read it, by the umask, may execute it
        os.fchmod(descriptor, status.st_mode & 0o777 | (kept.mode or 0) & readers)
        if kept.time_ns is not None:
            os.utime(descriptor, ns=(kept.time_ns, kept.time_ns))

    write_file(path, download.contents(daemon, file, Calls()), finish)


def _behind_links(daemon: Daemon, file: pfs_pb2.File) -> pfs_pb2.FileInfo:
    """What a path leads to in the end, as it says of itself; a link where that can't be told."""
    info, path = download.inspect(daemon, file), file.path
    for _ in range(MOST_FOLLOWED):
        if not info.attributes.symlink:
            break
        path = os.path.normpath(os.path.join("/", os.path.dirname(path), stored_name(info.attributes.symlink)))
        try:
            info = download.inspect(daemon, pfs_pb2.File(commit=file.commit, path=path))
        except NotFoundError:  # it leads through another link, above the last name
            break
    return info


def write_file(path: str, parts: Iterable[bytes], finish: Callable[[int], None] | None = None) -> None:
    """Makes `parts` the content of a local file, in one step once all are there; raises OSError.

    `finish` gets its descriptor before it stands at its path. A symlink at `path` is replaced, not followed.
    """

    def make(temporary: str) -> None:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            if finish is not None:
                finish(file.fileno())

    _replace(path, make)


def _replace(path: str, make: Callable[[str], object]) -> None:
    """Put at `path` what `make` makes at another, in one step; raises OSError."""
    temporary = os.path.join(os.path.dirname(path), f".pachctl-{os.urandom(8).hex()}.part")
    try:
        make(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            # The user knows nothing of the temporary name.
            raise OSError(error.errno, error.strerror, path) from error
        raise
    if os.path.lexists(temporary):  # two names of one file stay where they are
        os.unlink(temporary)


class _Download:
    """Writes a tree of files below a local directory, and never outside it."""

    def __init__(self, daemon: Daemon, output: str) -> None:
        self._daemon = daemon
        self._output = output
        self._calls = Calls()
        self._restoring = Restoring(remark)
        self._made: set[tuple[str, ...]] = {()}
        """The directories, relative to the output. What is elsewhere could be outside it, by a symbolic link."""
        self._kept: list[tuple[str, Attributes]] = []
        """The directories of which something is kept, which they get in the end."""
        self._linked: dict[tuple[bytes, bytes, bytes], str] = {}
        """The first names of files that have more of them, each with where it is."""
        self._names: list[tuple[Entry, str]] = []
        """More names, each with the first one's place."""

    def run(self, entries: Iterable[Entry], threads: int) -> None:
        """Writes the files of `entries`, at most `threads` at the same time."""
        for_each(self._files(entries), self._write, threads, self._calls)
        for entry, first in self._names:
            self._link(entry, first)
        for path, kept in reversed(self._kept):
            self._restoring.directory(path, kept)

    def give(self, info: pfs_pb2.FileInfo) -> None:
        """Give the output directory itself what is kept of the one that was got."""
        kept = keeping.of_info(info)
        if kept is not None and not info.attributes.symlink:
            self._restoring.directory(self._output, kept)

    def _files(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The files, each once its directory is there."""
        entries = iter(entries)
        # Nothing is made before the daemon has answered, and said that there is a directory.
        first = next(entries, None)
        os.makedirs(self._output, exist_ok=True)
        if first is None:
            return
        for entry in chain([first], entries):
            if entry.names[:-1] not in self._made:
                raise InvalidError(f"the daemon lists {entry.file.path} below what it does not list as a directory")
            kept = keeping.of_info(entry.info)
            if entry.is_directory:
                self._make_directory(entry, kept)
            elif kept is None or not kept.link or not self._has_place(entry):
                yield entry

    def _make_directory(self, entry: Entry, kept: Attributes | None) -> None:
        path = self._local(entry)
        _make_directory(path)
        self._made.add(entry.names)
        if kept is not None:
            self._kept.append((path, kept))

    def _has_place(self, entry: Entry) -> bool:
        """Whether a file that has more names has one that is written; then this becomes another, in the end."""
        info = entry.info
        key = info.attributes.link, info.hash, info.attributes.SerializeToString(deterministic=True)
        first = self._linked.setdefault(key, self._local(entry))
        if first == self._local(entry):
            return False
        self._names.append((entry, first))
        return True

    def _write(self, entry: Entry) -> None:
        path = self._free(entry)
        _logger.info("writing %s", path)
        kept, other = keeping.of_info(entry.info), keeping.other_of(entry.info)
        if kept is None:
            write_file(path, download.entry_contents(self._daemon, entry, self._calls))
        elif other is None:
            finish = partial(self._restoring.file, kept=kept)
            write_file(path, download.entry_contents(self._daemon, entry, self._calls), finish)
        elif self._restoring.can_make(other):
            _replace(path, partial(self._restoring.make, entry=other, kept=kept))

    def _link(self, entry: Entry, first: str) -> None:
        if not os.path.lexists(first):  # a special file that could not be made
            return
        try:
            _replace(self._free(entry), partial(os.link, first, follow_symlinks=False))
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._write(entry)

    def _free(self, entry: Entry) -> str:
        """Where an entry is written, and no directory is in the way."""
        path = self._local(entry)
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return path

    def _local(self, entry: Entry) -> str:
        return os.path.join(self._output, *(os.fsdecode(shown_name(name.encode())) for name in entry.names))


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        if os.path.islink(path):
            raise InvalidError(f"{path} is a symlink, which could lead elsewhere: remove it first") from None
        if not os.path.isdir(path):
            raise


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        default="",
        help="the local file, or with -r directory, to write to instead of standard output",
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="get all that is in a directory")
    parser.add_argument(
        "-p",
        "--parallelism",
        metavar="N",
        type=positive,
        default=10,
        help="get at most N files at the same time (default 10)",
    )


COMMANDS = {
    "get-file": Command(
        run=get_file,
        operands=("REPO", "COMMIT", "PATH"),
        options=_options,
        description="""\
Return the contents of a file, on standard output or in a local file, or with -r all that is in a directory.
COMMIT is an id or a branch. A local file appears under its name once it is complete.

With -r, files and directories get the permission bits, times and extended attributes that the commit keeps, and
symbolic links, hard links and named pipes are made as they were; got by root, all get their owners too. What
runs as its owner does so only where that owner is kept. Of a single file, -o gives the time, and makes it
executable where it is.""",
        examples=(
            "pachctl get-file images master liberty.png > liberty.png",
            "pachctl get-file images master liberty.png -o liberty.png",
            "# the directory's content, below local/",
            "pachctl get-file -r images master statues -o local",
            "# everything",
            "pachctl get-file -r images master / -o local",
        ),
    ),
}
