"""Splitting what is put into many small files: by line, or by JSON value.

The time grows with the number of bytes, and none of them are held: a value of any size goes to its file as it comes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pfsd import _scan
from pfsd.errors import InvalidError

_SHOWN = 40
"""Bytes of broken JSON that an error shows."""


class Delimiter(enum.Enum):
    """Where one datum ends and the next begins."""

    NONE = 0
    JSON = 1
    LINE = 2


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, which come after those of the part before."""

    data: bytes
    ends_file: bool
    """Whether the next part, if there is one, begins another file."""


class _Datums(Protocol):
    """Finds datums in a stream."""

    def write(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take bytes in; yields parts of datums, each with whether its datum ends there."""

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        """Yield what of the last datum could not be told before."""


class Splitter:
    """Cuts a stream of bytes into datums and gathers those into files.

    A file closes once it holds `target_datums` datums or at least `target_bytes` bytes, whichever comes first;
    with neither (both 0), every datum is a file.
    """

    def __init__(self, delimiter: Delimiter, target_datums: int, target_bytes: int) -> None:
        self._datums: _Datums = _Lines() if delimiter is Delimiter.LINE else _JsonValues()
        self._target_datums = target_datums or (0 if target_bytes else 1)
        self._target_bytes = target_bytes
        self._size = 0
        self._count = 0

    def write(self, data: bytes) -> Iterator[Part]:
        """Take bytes in; yields parts of files. Raises InvalidError for broken JSON."""
        for piece, ends in self._datums.write(data):
            yield self._part(piece, ends)

    def finish(self) -> Iterator[Part]:
        """Yield what is left, where anything is; raises InvalidError when the JSON ends in the middle of a value."""
        for piece, ends in self._datums.finish():
            yield self._part(piece, ends)
        if self._count or self._size:
            yield Part(b"", ends_file=True)

    def _part(self, piece: bytes, ends: bool) -> Part:
        self._size += len(piece)
        self._count += ends
        full = self._target_datums and self._count >= self._target_datums
        if not ends or not (full or (self._target_bytes and self._size >= self._target_bytes)):
            return Part(piece, ends_file=False)
        self._size = self._count = 0
        return Part(piece, ends_file=True)


class _Lines:
    """Lines, each with its newline; the last one may have none."""

    def write(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        start = 0
        while end := data.find(b"\n", start) + 1:
            yield data[start:end], True
            start = end
        if start < len(data):
            yield data[start:], False

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        return iter(())


class _JsonValues:
    """JSON texts as RFC 8259 has them, one after the other, as they were written, without the white space between them.

    Numbers have any size. Strings have to be UTF-8; an escape may be half of a surrogate pair, as the grammar allows.
    Arrays and objects are nested at most `_scan.JSON_MAX_DEPTH` deep.
    """

    def __init__(self) -> None:
        self._state = bytearray(_scan.JSON_STATE_BYTES)
        self._seen = 0
        """Bytes of the stream before those at hand."""
        self._within = False
        """Whether a text has begun and not ended."""

    def write(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        at = 0
        while at < len(data):
            try:
                begin, at, whole = _scan.scan_json(self._state, data, at)
            except ValueError as error:
                raise self._broken(data, *error.args) from None
            self._within = not whole and (self._within or begin < at)
            if begin < at or whole:
                yield data[begin:at], whole
        self._seen += len(data)

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        if not self._within:
            return
        try:
            _, _, whole = _scan.scan_json(self._state, b" ", 0)  # which ends a number
        except ValueError as error:
            raise self._broken(b"", *error.args) from None
        if not whole:
            raise InvalidError(f"broken JSON: it ends in the middle of a value, after {self._seen} bytes")
        yield b"", True

    def _broken(self, data: bytes, what: str, at: int) -> InvalidError:
        shown = bytes(data[max(0, at - _SHOWN // 2) : at + _SHOWN // 2])
        where = f" ({shown!r})" if shown else ""
        depth = f" than {_scan.JSON_MAX_DEPTH} levels" if "deeply" in what else ""
        return InvalidError(f"broken JSON at byte {self._seen + at}{where}: {what}{depth}")
