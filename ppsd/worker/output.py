"""What a datum left in /pfs/out, as the writes of a tree.

The files lie in the worker's scratch directory, which user code saw as /pfs/out. They keep what they are beside their
content (`ppsd.worker.keeping`). A symlink that leads from /pfs/out to something there stays one, with a relative
target, and so does one with such a target that leads to nothing. A symlink to what lies below
/pfs/INPUT becomes that entry without copying; other symlinks are followed. A named pipe is what `cp -r` or `tar` has
made of a lazy input's file, which it becomes: the one whose path, of those of the datum, is the longest that the pipe's
own path ends in. All functions block: they run in threads, because what they touch below /pfs is served by the
worker's own loop.
"""

from __future__ import annotations

import functools
import os
import posixpath
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from pachproto import pfsd_pb2
from pfsd.chunks.extents import extents
from pfsd.errors import InvalidError
from pfsd.names import paths, sizes
from pfsd.names.bytenames import stored_name
from pfsd.trees import entries
from pfsd.trees.entries import Entry, FileEntry, SymlinkEntry
from pfsfuse.client.handing import HandedOutput
from ppsd.worker import keeping

OUT = "/pfs/out"
PFS = "/pfs"

PIECE_BYTES = 1 << 20
"""How much of a file is read at once."""
MESSAGE_BYTES = 1 << 20
"""About how large a message gets."""
_OVERHEAD_BYTES = 32
"""What a write costs beside its path and data."""
_MAX_LINKS = 40
_LOOKUPS = 4096
"""So many entries of inputs that links lead to are remembered."""

Lookup = Callable[[str], Entry | None]
"""The entry that a path below /pfs/INPUT stands for; None where the datum has no such whole entry."""


def requests(
    tag: str,
    scratch: str,
    lookup: Lookup,
    root: str = "",
    lazy: Sequence[str] = (),
    *,
    user: int | None = None,
    handed: HandedOutput | None = None,
) -> Iterator[pfsd_pb2.PutTreeRequest]:
    """The messages that store the output below `scratch` as a tree under `tag`.

    `lazy` names the inputs whose files are pipes. `user` is who ran the command: this process's own where it is None.
    Large files go to `handed`, where there is one, as open files. `root` is where the root directory that user code saw
    is found; without one, it is this process's own. Raises InvalidError, naming the file, for what can't be part of a
    tree.
    """
    request = pfsd_pb2.PutTreeRequest(tag=tag, holder=b"" if handed is None else handed.holder)
    size = 0
    for write in Output(scratch, lookup, root, lazy, user=user, handed=handed).writes():
        request.writes.append(write)
        size += len(write.path) + len(write.data) + len(write.entry) + len(write.attributes) + _OVERHEAD_BYTES
        size += write.handed.size
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
        *,
        user: int | None = None,
        handed: HandedOutput | None = None,
    ) -> None:
        self._handed = handed
        self._scratch = scratch.rstrip("/")
        self._lookup = functools.lru_cache(_LOOKUPS)(lookup)
        self._root = root
        self._lazy = lazy
        self._user = os.getuid() if user is None else user
        self._links = keeping.Links()

    def writes(self) -> Iterator[pfsd_pb2.TreeWrite]:
        """One write or several for each file, one for each directory."""
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
        for name in sorted(os.listdir(real), key=os.fsencode):
            yield from self._item(f"{real}/{name}", (*path, stored_name(os.fsencode(name))), (*above, here))

    def _item(self, real: str, path: paths.Path, above: tuple[tuple[int, int], ...]) -> Iterator[pfsd_pb2.TreeWrite]:
        try:
            entry = self._input_at(real)
            found = os.lstat(real)
            if entry is None and stat.S_ISLNK(found.st_mode):
                entry = self._own_link(real, path, found)
                if entry is None:
                    real = self._resolve(real, path)
                    entry = self._input_at(real)
                    found = os.lstat(real) if entry is None else found
            if entry is not None:
                yield pfsd_pb2.TreeWrite(path=paths.join(path), entry=entries.encode(entry))
                return
            self._permit(real, found.st_mode)
            yield from self._content(real, path, found, above)
        except OSError as error:
            raise InvalidError(f"{_named(path)} can't be stored: {error.strerror or error}") from error

    def _content(
        self, real: str, path: paths.Path, found: os.stat_result, above: tuple[tuple[int, int], ...]
    ) -> Iterator[pfsd_pb2.TreeWrite]:
        """What is itself at `real`, where `found` was, to stand at `path`."""
        mode = found.st_mode
        if stat.S_ISDIR(mode):
            given = keeping.kept(real, found, self._user, _named(path))
            yield pfsd_pb2.TreeWrite(path=paths.join(path), directory=True, attributes=given)
            yield from self._directory(real, path, above)
        elif stat.S_ISREG(mode):
            given = keeping.kept(real, found, self._user, _named(path), self._link(real, path, found))
            yield from _file(real, path, given, self._handed)
        elif stat.S_ISFIFO(mode) and (copied := self._copied(path)) is not None:
            yield pfsd_pb2.TreeWrite(path=paths.join(path), entry=entries.encode(copied))
        else:
            raise InvalidError(f"{_named(path)} is {_kind(mode)}: only files, directories and symlinks can be stored")

    def _link(self, real: str, path: paths.Path, found: os.stat_result) -> bytes:
        """The link of a file of several names, all of which are in the output."""
        return self._links.of(found, paths.join(path)) if _below(real, self._scratch) else b""

    def _input_at(self, real: str) -> Entry | None:
        """The entry of an input that lies there, if it is whole."""
        shown = self._shown(real)
        return self._lookup(_stored(shown)) if _is_input(shown) else None

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

    def _own_link(self, link: str, path: paths.Path, found: os.stat_result) -> SymlinkEntry | None:
        """The symlink's entry where it stays one, else None."""
        here = link.removeprefix(self._scratch + "/").split("/")
        if not _below(link, self._scratch) or _stored("/".join(here)) != "/".join(path):
            return None  # it lies elsewhere, or its directory is shown elsewhere
        target = os.readlink(link)
        inside = _inside(target)
        leads = self._leads(here[:-1] if inside is None else [], target if inside is None else inside, path)
        if leads is None or (inside is not None and not leads):
            return None
        if inside is not None:
            target = "../" * (len(here) - 1) + (inside or ".")
            if ".." not in inside.split("/"):
                target = posixpath.relpath("/" + inside, "/" + "/".join(here[:-1]))
        given = keeping.kept(link, found, self._user, _named(path), self._link(link, path, found))
        return SymlinkEntry(os.fsencode(target), given)

    def _leads(self, start: list[str], target: str, path: paths.Path) -> bool | None:
        """Whether a way on from the directory `start` of /pfs/out leads to something; None where it leads out of it."""
        waiting = deque(target.split("/"))
        done = list(start)
        links, leads = 0, not target.startswith("/")
        if not leads:
            return None
        while waiting:
            name = waiting.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if not done:
                    return None
                done.pop()
                continue
            done.append(name)
            real = "/".join((self._scratch, *done))
            leads = leads and os.path.lexists(real)
            further = _target_at(real) if leads else None
            if further is None:
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidError(f"{_named(path)} is a symlink that leads in a circle")
            inside = _inside(further)
            if inside is None and further.startswith("/"):
                return None
            done = done[:-1] if inside is None else []
            waiting.extendleft(reversed((further if inside is None else inside).split("/")))
        return leads

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
        shown = "/" + "/".join(done)
        if shown == PFS:
            return None
        if _is_input(shown):
            entry = self._lookup(_stored(shown))
            return os.fsdecode(entry.target) if isinstance(entry, SymlinkEntry) else None
        try:
            return _target_at(self._real(shown))
        except OSError as error:
            raise InvalidError(
                f"{_named(path)} is a symlink that can't be followed: {shown}: {error.strerror}"
            ) from error

    def _shown(self, real: str) -> str:
        """A path of the scratch directory, or below the root, as user code saw it."""
        if _below(real, self._scratch):
            return OUT + real[len(self._scratch) :]
        return real.removeprefix(self._root) or "/"

    def _real(self, shown: str) -> str:
        """Where what user code saw at a path lies."""
        return self._scratch + shown[len(OUT) :] if _below(shown, OUT) else self._root + shown


def _file(real: str, path: paths.Path, given: bytes, output: HandedOutput | None) -> Iterator[pfsd_pb2.TreeWrite]:
    name = paths.join(path)
    with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        fd, size = file.fileno(), os.fstat(file.fileno()).st_size
        sizes.check_file_size(size, _named(path))
        if size <= PIECE_BYTES:
            yield pfsd_pb2.TreeWrite(path=name, data=file.read(PIECE_BYTES), attributes=given)
            return
        handed = None if output is None else output.hand_over(fd, size)
        for start, end, is_data in extents(fd, 0, size):
            if not is_data:
                yield pfsd_pb2.TreeWrite(path=name, zeros=end - start, attributes=given)
                continue
            if handed is not None:
                for _, part in handed.ranges(start, end):
                    yield pfsd_pb2.TreeWrite(path=name, handed=part, attributes=given)
                continue
            for at in range(start, end, PIECE_BYTES):
                data = os.pread(fd, min(PIECE_BYTES, end - at), at)
                yield pfsd_pb2.TreeWrite(path=name, data=data, attributes=given)


def _target_at(real: str) -> str | None:
    """The target of a symlink; None for anything else. Raises OSError where nothing is."""
    return os.readlink(real) if stat.S_ISLNK(os.lstat(real).st_mode) else None


def _inside(target: str) -> str | None:
    """The way from /pfs/out on of an absolute target below it; None for any other."""
    names = [name for name in target.split("/") if name not in ("", ".")]
    return "/".join(names[2:]) if target.startswith("/") and names[:2] == ["pfs", "out"] else None


def _stored(shown: str) -> str:
    """A path as entries spell it."""
    return shown if shown.isascii() else "/".join(stored_name(os.fsencode(name)) for name in shown.split("/"))


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _is_input(path: str) -> bool:
    return path.startswith(PFS + "/") and not _below(path, OUT)


def _named(path: paths.Path) -> str:
    return OUT + "/" + "/".join(path) if path else OUT


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe, and no lazy input has a file of such a path"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
