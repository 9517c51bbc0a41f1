"""What a datum left in /pfs/out, as the writes of a tree.

The files lie in the worker's scratch directory, which user code saw as /pfs/out. A symlink to what lies below
/pfs/INPUT becomes that entry without copying; other symlinks are followed. A named pipe is what `cp -r` or `tar` has
made of a lazy input's file, which it becomes: the one whose path, of those of the datum, is the longest that the pipe's
own path ends in. All functions block: they run in threads, because what they touch below /pfs is served by the
worker's own loop.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from pachproto import pfsd_pb2
from pfsd.chunks.extents import extents
from pfsd.errors import InvalidError
from pfsd.names import paths, sizes
from pfsd.trees import entries
from pfsd.trees.entries import Entry, FileEntry
from pfsfuse.client.handing import HandedOutput

OUT = "/pfs/out"
PFS = "/pfs"

PIECE_BYTES = 1 << 20
"""How much of a file is read at once."""
MESSAGE_BYTES = 1 << 20
"""About how large a message gets."""
_OVERHEAD_BYTES = 32
"""What a write costs beside its path and data."""
_MAX_LINKS = 40

Lookup = Callable[[str], Entry | None]
"""The entry that a path below /pfs/INPUT stands for; None where the datum has no such whole entry."""


def requests(
    tag: str,
    scratch: str,
    lookup: Lookup,
    root: str = "",
    lazy: Sequence[str] = (),
    handed: HandedOutput | None = None,
) -> Iterator[pfsd_pb2.PutTreeRequest]:
    """The messages that store the output below `scratch` as a tree under `tag`.

    Large files go to `handed`, where there is one, as open files. `lazy` names the inputs whose files are pipes. `root`
    is where the root directory that user code saw is found; without one, it is this process's own. Raises InvalidError,
    naming the file, for what can't be part of a tree.
    """
    request = pfsd_pb2.PutTreeRequest(tag=tag, holder=b"" if handed is None else handed.holder)
    size = 0
    for write in Output(scratch, lookup, root, lazy, handed).writes():
        request.writes.append(write)
        size += len(write.path) + len(write.data) + len(write.entry) + write.handed.size + _OVERHEAD_BYTES
        if size >= MESSAGE_BYTES:
            yield request
            request, size = pfsd_pb2.PutTreeRequest(), 0
    request.last = True
    yield request


class Output:
    """Walks one datum's output."""

    def __init__(
        self,
        scratch: str,
        lookup: Lookup,
        root: str = "",
        lazy: Sequence[str] = (),
        handed: HandedOutput | None = None,
    ) -> None:
        self._handed = handed
        self._scratch = scratch.rstrip("/")
        self._lookup = lookup
        self._root = root
        self._lazy = lazy

    def writes(self) -> Iterator[pfsd_pb2.TreeWrite]:
        """One write or several for each file, one for each empty directory."""
        return self._directory(self._scratch, (), ())

    def _directory(
        self, real: str, path: paths.Path, above: tuple[tuple[int, int], ...]
    ) -> Iterator[pfsd_pb2.TreeWrite]:
        """What lies in the directory `real`, to stand at `path`; `above` are the directories that lead there."""
        if len(path) > paths.MAX_DEPTH:
            raise InvalidError(f"{_named(path[:8])}/... is nested more than {paths.MAX_DEPTH} deep")
        found = os.stat(real)
        here = (found.st_dev, found.st_ino)
        if here in above:
            raise InvalidError(f"{_named(path)} is a symlink to a directory that holds it")
        names = sorted(os.listdir(real), key=os.fsencode)
        if not names and path:
            yield pfsd_pb2.TreeWrite(path=paths.join(path), directory=True)
        for name in names:
            _check_name(name, path)
            yield from self._item(f"{real}/{name}", (*path, name), (*above, here))

    def _item(self, real: str, path: paths.Path, above: tuple[tuple[int, int], ...]) -> Iterator[pfsd_pb2.TreeWrite]:
        try:
            if stat.S_ISLNK(os.lstat(real).st_mode):
                real = self._resolve(real, path)
            if _is_input(shown := self._shown(real)):
                entry = self._lookup(shown)
                if entry is not None:
                    yield pfsd_pb2.TreeWrite(path=paths.join(path), entry=entries.encode(entry))
                    return
            mode = os.lstat(real).st_mode
            self._permit(real, mode)
            if stat.S_ISDIR(mode):
                yield from self._directory(real, path, above)
            elif stat.S_ISREG(mode):
                yield from _file(real, path, self._handed)
            elif stat.S_ISFIFO(mode) and (copied := self._copied(path)) is not None:
                yield pfsd_pb2.TreeWrite(path=paths.join(path), entry=entries.encode(copied))
            else:
                raise InvalidError(
                    f"{_named(path)} is {_kind(mode)}: only files, directories and symlinks can be stored"
                )
        except OSError as error:
            raise InvalidError(f"{_named(path)} can't be stored: {error.strerror or error}") from error

    def _copied(self, path: paths.Path) -> FileEntry | None:
        """The lazy input's file that a pipe at `path` was copied from; None where there is none, or may be several."""
        for start in range(len(path)):
            end = path[start:]
            places = [end] if end[0] in self._lazy else []
            for candidates in (places, [(name, *end) for name in self._lazy]):
                found = {self._lookup(f"{PFS}/{'/'.join(place)}") for place in candidates}
                files = [entry for entry in found if isinstance(entry, FileEntry)]
                if files:
                    return files[0] if len(files) == 1 else None
        return None

    def _permit(self, real: str, mode: int) -> None:
        """Let this process read what user code wrote and then locked against its own user."""
        wanted = 0o500 if stat.S_ISDIR(mode) else 0o400
        if mode & wanted == wanted or not _below(real, self._scratch):
            return
        if not os.access(real, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
            os.chmod(real, stat.S_IMODE(mode) | wanted)

    # --- symlinks ----------------------------------------------------------------------------------------

    def _resolve(self, link: str, path: paths.Path) -> str:
        """Where a symlink leads in the end: no symlink itself, below /pfs/INPUT possibly nothing."""
        waiting = deque(self._shown(link).split("/"))
        done: list[str] = []
        links = 0
        while waiting:
            name = waiting.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            done.append(name)
            if _holds_no_links(done):
                continue
            target = self._link_target(done, path)
            if target is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidError(f"{_named(path)} is a symlink that leads in a circle")
            done = [] if target.startswith("/") else done[:-1]
            waiting.extendleft(reversed(target.split("/")))
        return self._real("/" + "/".join(done))

    def _link_target(self, done: list[str], path: paths.Path) -> str | None:
        real = self._real("/" + "/".join(done))
        try:
            return os.readlink(real) if stat.S_ISLNK(os.lstat(real).st_mode) else None
        except OSError as error:
            raise InvalidError(
                f"{_named(path)} is a symlink that can't be followed: /{'/'.join(done)}: {error.strerror}"
            ) from error

    def _shown(self, real: str) -> str:
        """A path of the scratch directory, or below the root, as user code saw it."""
        if _below(real, self._scratch):
            return OUT + real[len(self._scratch) :]
        return real.removeprefix(self._root) or "/"

    def _real(self, shown: str) -> str:
        """Where what user code saw at a path lies."""
        return self._scratch + shown[len(OUT) :] if _below(shown, OUT) else self._root + shown


def _file(real: str, path: paths.Path, output: HandedOutput | None) -> Iterator[pfsd_pb2.TreeWrite]:
    name = paths.join(path)
    with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        fd, size = file.fileno(), os.fstat(file.fileno()).st_size
        sizes.check_file_size(size, _named(path))
        if size <= PIECE_BYTES:
            yield pfsd_pb2.TreeWrite(path=name, data=file.read(PIECE_BYTES))
            return
        handed = None if output is None else output.hand_over(fd, size)
        for start, end, is_data in extents(fd, 0, size):
            if not is_data:
                yield pfsd_pb2.TreeWrite(path=name, zeros=end - start)
                continue
            if handed is not None:
                for _, part in handed.ranges(start, end):
                    yield pfsd_pb2.TreeWrite(path=name, handed=part)
                continue
            for at in range(start, end, PIECE_BYTES):
                yield pfsd_pb2.TreeWrite(path=name, data=os.pread(fd, min(PIECE_BYTES, end - at), at))


def _check_name(name: str, directory: paths.Path) -> None:
    data = os.fsencode(name)
    try:
        data.decode()
    except UnicodeDecodeError:
        raise InvalidError(f"{_named(directory)} holds a name that is not UTF-8: {data!r}") from None


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _is_input(path: str) -> bool:
    return path.startswith(PFS + "/") and not _below(path, OUT)


def _holds_no_links(done: list[str]) -> bool:
    """Whether a path is /pfs, or leads below /pfs/INPUT, where there are no symlinks."""
    return done[0] == "pfs" and (len(done) == 1 or done[1] != "out")


def _named(path: paths.Path) -> str:
    return OUT + "/" + "/".join(path) if path else OUT


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe, and no lazy input has a file of such a path"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
