"""The command get-file."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

from pachctl.files import download
from pachctl.files.download import Entry
from pachctl.files.files import file as file_of
from pachctl.terminal.command import Arguments, Command, UsageError, positive
from pachctl.terminal.connection import Daemon, connect
from pachctl.terminal.parallel import Calls, for_each
from pfsd.errors import InvalidError

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
            entries = download.walk(daemon, file.commit, file.path)
            _Download(daemon, output).run(entries, arguments.parallelism)
        elif output and (os.path.isfile(output) or not os.path.exists(output)):
            # A symlink that the user names stays one.
            write_file(os.path.realpath(output), download.contents(daemon, file, Calls()))
        elif output:
            # A device or named pipe can't be replaced.
            with open(output, "wb") as special:
                special.writelines(download.contents(daemon, file, Calls()))
        else:
            for part in download.contents(daemon, file, Calls()):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()


def write_file(path: str, parts: Iterable[bytes]) -> None:
    """Makes `parts` the content of a local file, in one step once all are there; raises OSError.

    A symlink at `path` is replaced, not followed.
    """
    temporary = os.path.join(os.path.dirname(path), f".pachctl-{os.urandom(8).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            # The user knows nothing of the temporary name.
            raise OSError(error.errno, error.strerror, path) from error
        raise


class _Download:
    """Writes a tree of files below a local directory, and never outside it."""

    def __init__(self, daemon: Daemon, output: str) -> None:
        self._daemon = daemon
        self._output = output
        self._calls = Calls()

    def run(self, entries: Iterable[Entry], threads: int) -> None:
        """Writes the files of `entries`, at most `threads` at the same time."""
        for_each(self._files(entries), self._write, threads, self._calls)

    def _files(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The files, each once its directory is there."""
        entries = iter(entries)
        # Nothing is made before the daemon has answered, and said that there is a directory.
        first = next(entries, None)
        os.makedirs(self._output, exist_ok=True)
        if first is None:
            return
        for entry in chain([first], entries):
            if entry.is_directory:
                _make_directory(self._local(entry))
            else:
                yield entry

    def _write(self, entry: Entry) -> None:
        path = self._local(entry)
        _logger.info("writing %s", path)
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        write_file(path, download.entry_contents(self._daemon, entry, self._calls))

    def _local(self, entry: Entry) -> str:
        return os.path.join(self._output, *entry.names)


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
COMMIT is an id or a branch. A local file appears under its name once it is complete.""",
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
