"""What put-file is given, and where each of it lands in the repo.

One source with a path lands at that path, a directory's content below it. Without a path a source lands under
its own: a relative one as it was typed, an absolute one, or one that leads upward, under its last component,
a URL under the URL's path. Several sources, and those listed in a file, keep these names below the path.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

from pachctl.files import keeping
from pachctl.terminal.fetch import STDIN
from pfsd.errors import InvalidError
from pfsd.names import paths, pfsurls
from pfsd.names.bytenames import stored_name

SHORT_BYTES = 1 << 14
"""Read first of a local file: most end within."""

BLOCK_BYTES = 1 << 20
"""Read of it at a time after that."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Kind(Enum):
    """Where a source's bytes come from."""

    STDIN = "standard input"
    LOCAL = "a local file or directory"
    URL = "a URL that the daemon fetches"
    PFS = "a file or directory of a daemon"


@dataclass(frozen=True)
class Source:
    """One thing to put."""

    text: str
    """As the user wrote it."""
    kind: Kind
    target: str
    """Path in the repo: of the file, or of the directory that takes the source's content."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file found below a source."""

    path: str
    target: str
    status: os.stat_result | None = None
    """Where what it has beside its bytes is kept."""
    link: bytes = b""
    other: bytes = b""

    @property
    def attributes(self) -> bytes | None:
        """What is kept of it, as entries have it; raises OSError."""
        return None if self.status is None else keeping.of_local(self.path, self.status, self.link)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, a short block first; raises OSError with the file's name, also where it is cut meanwhile."""
        # Not a buffered file: most files are small, and this is half the cost of reading one.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = SHORT_BYTES
            before = 0
            while block := os.read(descriptor, size):
                if not before and len(block) >= size:
                    before = os.fstat(descriptor).st_size
                yield block
                size = BLOCK_BYTES if len(block) >= SHORT_BYTES else SHORT_BYTES
            if before and os.fstat(descriptor).st_size < before:
                raise OSError(errno.EIO, "it became shorter while it was read")
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from error
        finally:
            os.close(descriptor)


def listed_sources(text: str, source: str) -> list[str]:
    """The lines of a list that was read from `source`; raises InvalidError for what it may not name.

    A list fetched from a URL may only name URLs: whoever wrote it has no business with local files.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if is_url(source):
        for line in lines:
            if not is_url(line):
                raise InvalidError(f"{source} names {line!r}: a list that comes from a URL may only name URLs")
    return lines


def is_url(text: str) -> bool:
    """Whether a source is neither local nor standard input."""
    return _kind(text) in (Kind.URL, Kind.PFS)


def plan(texts: Sequence[str], path: str, *, keep_names: bool = False) -> list[Source]:
    """The sources named by `texts`; with `keep_names` below `path` though it may be just one.

    Raises InvalidError for a source that has no name to land under.
    """
    alone = len(texts) == 1 and not keep_names
    sources = []
    for text in texts:
        kind = _kind(text)
        if alone and path:
            target = typed_path(path)
        elif kind is Kind.STDIN:
            raise InvalidError("standard input has no name of its own: put it alone, and give the path of a file")
        else:
            target = posixpath.join(typed_path(path), _own_name(text, kind))
        sources.append(Source(text, kind, target))
    return sources


def typed_path(path: str) -> str:
    """A path in a repo as it was typed, where the bytes that were are no UTF-8 as names are stored that have them."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return stored_name(os.fsencode(path))
    return path


def rounds(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """`sources` in order, cut so that within a part none writes to or below the path of another.

    What is put to the same path is appended in the order given, so parts must be put one after the other.
    """
    part: list[Source] = []
    targets: set[paths.Path] = set()
    above: set[paths.Path] = set()
    for source in sources:
        target = paths.parse(source.target)
        ancestors = [target[:depth] for depth in range(len(target) + 1)]
        if target in above or not targets.isdisjoint(ancestors):
            yield part
            part, targets, above = [], set(), set()
        part.append(source)
        targets.add(target)
        above.update(ancestors)
    if part:
        yield part


def check_local(source: Source, recursive: bool) -> None:
    """Raises OSError or InvalidError where a local source can't be put at all."""
    mode = os.stat(source.text).st_mode
    if stat.S_ISDIR(mode):
        if not recursive:
            raise InvalidError(f"{source.text} is a directory: use -r to put what is in it")
    elif recursive:
        raise InvalidError(f"{source.text} is not a directory: put it without -r")
    elif not stat.S_ISREG(mode):
        raise InvalidError(f"{source.text} can't be put: it is {special(mode)}")


def walk(source: Source, skipped: Callable[[str], None]) -> Iterator[LocalFile]:
    """The regular files below a local directory, of which nothing but names and bytes is kept; symlinks are followed.

    `skipped` gets a sentence for each named pipe, socket or device. Raises OSError, and InvalidError for a symlink
    that leads back to a directory above it.
    """
    pending: list[tuple[str, str, dict[tuple[int, int], str]]] = [(source.text, source.target, {})]
    while pending:
        directory, target, above = pending.pop()
        status = os.stat(directory)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            raise InvalidError(f"{directory} leads back to {above[identity]}: remove that symlink, or put less")
        within = {**above, identity: directory}
        with os.scandir(directory) as entries:
            for entry in entries:
                place = posixpath.join(target, stored_name(os.fsencode(entry.name)))
                if entry.is_file():
                    yield LocalFile(entry.path, place)
                elif entry.is_dir():
                    pending.append((entry.path, place, within))
                else:
                    # Raises OSError for a symlink that leads nowhere.
                    skipped(f"{entry.path} is left out: it is {special(entry.stat().st_mode)}")


def _kind(text: str) -> Kind:
    if text == STDIN:
        return Kind.STDIN
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Kind.LOCAL
    return Kind.PFS if pfsurls.is_pfs(text) else Kind.URL


def _own_name(text: str, kind: Kind) -> str:
    if kind is Kind.PFS:
        return pfsurls.parse(text).path
    if kind is Kind.URL:
        try:
            name = unquote(urlsplit(text).path).strip("/")
        except ValueError:  # what it says may quote what nobody should see
            raise InvalidError(f"{text} is no URL") from None
        if not name:
            raise InvalidError(f"{text} has no path to take a name from: say where to put it")
        return name
    path = posixpath.normpath(text)
    if path.startswith("/") or path.split("/")[0] == "..":
        path = posixpath.basename(os.path.abspath(path))
    return "" if path == "." else stored_name(os.fsencode(path))


def special(mode: int) -> str:
    """What a file of that mode is, which is neither a regular one nor a directory or link."""
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
