"""Reading files and directories of a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pachctl.files import listing
from pachctl.terminal.connection import Daemon
from pachctl.terminal.parallel import Calls
from pachproto import pfs_pb2
from pfsd.errors import InvalidError
from pfsd.names import paths


@dataclass(frozen=True)
class Entry:
    """A file or directory found below another."""

    file: pfs_pb2.File
    names: tuple[str, ...]
    """Its path, relative to where the walk began; each is safe as a local name."""
    info: pfs_pb2.FileInfo
    data: bytes | None = None
    """The file's content, where it came along."""

    @property
    def is_directory(self) -> bool:
        """Whether it is one; a link to one is not."""
        return bool(self.info.file_type == pfs_pb2.DIR)


def entry_contents(daemon: Daemon, entry: Entry, calls: Calls) -> Iterator[bytes]:
    """The bytes of a file that was found; raises PfsError."""
    if entry.data is None:
        yield from contents(daemon, entry.file, calls)
    elif entry.data:
        yield entry.data


def contents(daemon: Daemon, file: pfs_pb2.File, calls: Calls) -> Iterator[bytes]:
    """The bytes of a file, in parts as the daemon sends them; raises PfsError."""
    with daemon.errors():
        call = calls.add(daemon.pfs.GetFile(pfs_pb2.GetFileRequest(file=file)))
        try:
            for part in call:
                yield part.value
        finally:
            call.cancel()
            calls.discard(call)


def inspect(daemon: Daemon, file: pfs_pb2.File) -> pfs_pb2.FileInfo:
    """What the daemon tells of a file or directory; raises PfsError."""
    with daemon.errors():
        info: pfs_pb2.FileInfo = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=file))
        return info


def walk(daemon: Daemon, commit: pfs_pb2.Commit, path: str) -> Iterator[Entry]:
    """All that is below a directory, each directory before what it holds; raises PfsError.

    A branch is looked up once, so that what is found belongs together.
    """
    with daemon.errors():
        commit = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit)).commit
        depth = len(paths.parse(path))
        for info, data in listing.walked(daemon, pfs_pb2.File(commit=commit, path=path)):
            names = tuple(_safe(name, path) for name in info.file.path.strip("/").split("/")[depth:])
            file = pfs_pb2.File(commit=commit, path=info.file.path)
            yield Entry(file, names, info, data)


def _safe(name: str, directory: str) -> str:
    if name in ("", ".", "..") or "\0" in name:
        raise InvalidError(f"the daemon lists {name!r} in {directory or '/'}, which can't be the name of a file")
    return name
