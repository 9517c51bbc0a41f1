"""The steps of an upload, kept in order until it is whole: few in memory, many in a file."""

from __future__ import annotations

import errno
import marshal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pfsd.chunks.content import Piece
from pfsd.errors import CorruptError, FullError
from pfsd.model.root import Root
from pfsd.names.paths import Path
from pfsd.trees import entries
from pfsd.trees.entries import FileEntry

STEPS_HELD = 4096
BYTES_HELD = 4 << 20
"""Steps of one upload, and bytes in them, beyond which they wait in a file."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an upload."""

    path: Path
    pieces: tuple[Piece, ...] = ()
    overwrite: bool = False
    begins_split: bool = False
    """Whether the path becomes a directory of numbered files."""
    is_numbered: bool = False
    """Whether it is the next file of the directory that the path is."""


class Steps:
    """Steps in order: in memory at first, in a file without a name once they are many."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._held: list[Step] = []
        self._bytes = 0
        self._file: BinaryIO | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._held and self._file is None

    @property
    def spilled(self) -> bool:
        """Whether there are more than memory should hold."""
        return self._file is not None

    def add(self, step: Step) -> None:
        """Add a step at the end; raises FullError when the disk has no room."""
        self._held.append(step)
        self._bytes += sum(len(piece) for piece in step.pieces if isinstance(piece, bytes))
        if len(self._held) >= STEPS_HELD or self._bytes >= BYTES_HELD:
            self._spill()

    def __iter__(self) -> Iterator[Step]:
        if self._file is not None:
            self._file.seek(0)
            while True:
                try:
                    row = marshal.load(self._file)
                except EOFError:
                    break
                yield _decode(row)
        yield from self._held

    def close(self) -> None:
        """Give the file up, where there is one."""
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._root.spool)  # noqa: SIM115 (closed by `close`)
            for step in self._held:
                marshal.dump(_encode(step), self._file)
            self._file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FullError("the disk that holds the root is full: nothing was changed") from error
            raise
        self._held = []
        self._bytes = 0


_Row = tuple[Path, tuple[tuple[bool, bytes], ...], bool, bool, bool]


def _encode(step: Step) -> _Row:
    pieces = tuple(
        (True, entries.encode(piece)) if isinstance(piece, FileEntry) else (False, piece) for piece in step.pieces
    )
    return step.path, pieces, step.overwrite, step.begins_split, step.is_numbered


def _decode(row: _Row) -> Step:
    path, pieces, *flags = row
    return Step(path, tuple(_piece(is_entry, data) for is_entry, data in pieces), *flags)


def _piece(is_entry: bool, data: bytes) -> Piece:
    if not is_entry:
        return data
    entry = entries.decode(data)
    if not isinstance(entry, FileEntry):
        raise CorruptError("a piece of an upload is not a file")
    return entry
