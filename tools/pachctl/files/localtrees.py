"""Local directories with all that is kept of them: links as links, and what files and directories have beside bytes."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pachctl.files import keeping
from pachctl.files.keeping import HardLinks
from pachctl.files.sources import LocalFile, Source, special
from pfsd.names.bytenames import stored_name
from pfsd.trees import entries
from pfsd.trees.entries import SpecialEntry, SymlinkEntry


@dataclass(frozen=True, slots=True)
class LocalOther:
    """A symbolic link or a named pipe found below a source."""

    target: str
    other: bytes
    """Its entry."""
    attributes: None = None

    def blocks(self) -> Iterator[bytes]:
        """It has no bytes."""
        return iter(())


@dataclass(frozen=True, slots=True)
class Walk:
    """How local directories are walked."""

    links: HardLinks
    skipped: Callable[[str], None]
    """Gets a sentence for each socket or device."""
    directory: Callable[[str, bytes], None]
    """Gets each directory's path in the repo and its attributes, before what it holds."""

    def files(self, source: Source) -> Iterator[LocalFile | LocalOther]:
        """The files, symbolic links and named pipes below a local directory, of each directory in the order of names.

        Symbolic links are not followed. Raises OSError.
        """
        pending = [(os.fsencode(source.text), source.target)]
        while pending:
            directory, target = pending.pop()
            self.directory(target, keeping.of_local(os.fsdecode(directory), os.stat(directory)))
            below = []
            for name in sorted(os.listdir(directory)):
                path, place = os.path.join(directory, name), posixpath.join(target, stored_name(name))
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode):
                    below.append((path, place))
                    continue
                found = self._found(os.fsdecode(path), place, status)
                if found is not None:
                    yield found
            pending += reversed(below)

    def _found(self, path: str, target: str, status: os.stat_result) -> LocalFile | LocalOther | None:
        mode = status.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISFIFO(mode)):
            self.skipped(f"{path} is left out: it is {special(mode)}")
            return None
        link = self.links.link(status, target)
        if stat.S_ISREG(mode):
            return LocalFile(path, target, status, link)
        kept = keeping.of_local(path, status, link)
        if stat.S_ISLNK(mode):
            return LocalOther(target, entries.encode(SymlinkEntry(os.readlink(os.fsencode(path)), kept)))
        return LocalOther(target, entries.encode(SpecialEntry(keeping.PIPE, 0, kept)))
