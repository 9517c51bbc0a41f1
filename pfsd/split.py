"""Splitting what is put into many small files: by line, or by JSON value."""

from __future__ import annotations

import codecs
import enum
import json
from collections.abc import Iterator

from pfsd.errors import InvalidError


class Delimiter(enum.Enum):
    """Where one datum ends and the next begins."""

    NONE = 0
    JSON = 1
    LINE = 2


class Splitter:
    """Cuts a stream of bytes into datums and gathers those into files.

    A file closes once it holds `target_datums` datums or at least `target_bytes` bytes, whichever comes first;
    with neither (both 0), every datum is a file.
    """

    def __init__(self, delimiter: Delimiter, target_datums: int, target_bytes: int) -> None:
        self._datums = _Lines() if delimiter is Delimiter.LINE else _JsonValues()
        self._target_datums = target_datums or (0 if target_bytes else 1)
        self._target_bytes = target_bytes
        self._file = bytearray()
        self._count = 0

    def write(self, data: bytes) -> Iterator[bytes]:
        """Take bytes in; yields the files that they complete. Raises InvalidError for broken JSON."""
        for datum in self._datums.write(data):
            yield from self._add(datum)

    def finish(self) -> Iterator[bytes]:
        """Yield what is left; raises InvalidError when the JSON ends in the middle of a value."""
        for datum in self._datums.finish():
            yield from self._add(datum)
        if self._count:
            yield bytes(self._file)

    def _add(self, datum: bytes) -> Iterator[bytes]:
        self._file += datum
        self._count += 1
        full = self._target_datums and self._count >= self._target_datums
        if full or (self._target_bytes and len(self._file) >= self._target_bytes):
            yield bytes(self._file)
            self._file.clear()
            self._count = 0


class _Lines:
    def __init__(self) -> None:
        self._rest = b""

    def write(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = rest
            yield from (line + b"\n" for line in lines)
        else:
            self._rest += rest

    def finish(self) -> Iterator[bytes]:
        if self._rest:
            yield self._rest


class _JsonValues:
    """Finds the ends of JSON values by scanning for brackets and quotes, then has `json` check each."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._scalar = False

    def write(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        yield from self._scan()

    def finish(self) -> Iterator[bytes]:
        if self._buffer.strip():
            yield self._checked(bytes(self._buffer).strip())

    def _scan(self) -> Iterator[bytes]:
        start = 0
        buffer = self._buffer
        at = self._at
        while at < len(buffer):
            char = buffer[at]
            at += 1
            ended = False
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif char == 0x5C:
                    self._escaped = True
                elif char == 0x22:
                    self._in_string = False
                    ended = self._depth == 0
            elif char == 0x22 and not self._scalar:
                self._in_string = True
            elif char in b"[{" and not self._scalar:
                self._depth += 1
            elif char in b"]}" and not self._scalar:
                self._depth -= 1
                ended = self._depth <= 0
            elif self._depth == 0:
                if char in b" \t\r\n":
                    ended = self._scalar
                elif self._scalar and char in b'"[{':
                    ended = True
                    at -= 1
                else:
                    self._scalar = True
            if ended:
                yield self._checked(bytes(buffer[start:at]).strip())
                start, self._depth, self._scalar = at, 0, False
        del buffer[:start]
        self._at = at - start

    def _checked(self, value: bytes) -> bytes:
        try:
            json.loads(codecs.decode(value, "utf-8"))
        except ValueError as error:
            raise InvalidError(f"broken JSON at {value[:40]!r}: {error}") from error
        return value
