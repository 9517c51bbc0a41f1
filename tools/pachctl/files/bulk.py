"""Puts many files, or large ones: streams of PutFiles, which send no chunk that the store has.

A stream's content passes through a window of a few MiB: files are read and cut into chunks until the window is
full, the daemon is asked which of the chunks it has, and the others are sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol

import grpc
from blake3 import blake3

from pachctl.files.sources import BLOCK_BYTES
from pachctl.files.upload import send
from pachctl.terminal.parallel import Calls, for_each
from pachproto import pfs_pb2, pfsd_pb2
from pfsd._core import MAX_CHUNK, next_cut

SMALL_BYTES = 4096
"""Files up to this size are sent without asking for them."""

MESSAGE_BYTES = 1 << 20
MESSAGE_FILES = 1000
"""A message ends once it has as much."""

WINDOW_BYTES = 4 << 20
WINDOW_FILES = 2000
"""The window is full once it has as much."""

STREAM_BYTES = 1 << 30
STREAM_FILES = 20_000
"""Once a stream has taken as much another follows it, so that little has to be put again if it is refused."""

LARGE_FILES = 4
"""Most files beyond a block that are put at the same time, each with some ten MiB in memory, here and in the daemon."""

READERS = 2
"""How many windows are filled at the same time, unless that takes long: more threads would wait for the interpreter."""

SLOW_SECONDS = 1e-3
"""Time to read a file, or a chunk of one, above which reading is what takes long."""

SENT_CHUNKS = 4096
"""Chunks that a stream remembers to have sent."""

_FILES_KEY = "pfsd-files"
_REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


class File(Protocol):
    """A file to put."""

    @property
    def target(self) -> str:
        """Path in the repo."""

    @property
    def attributes(self) -> bytes | None:
        """What is kept of it beside its bytes, as entries have it; None where that is nothing. Raises OSError."""

    @property
    def other(self) -> bytes:
        """Its entry where it is a link or a named pipe, which has no bytes."""

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, each time anew; raises OSError, PfsError, or grpc.RpcError."""


@dataclass(slots=True)
class RemoteFile:
    """A file of a daemon."""

    target: str
    read: Callable[[], Iterator[bytes]]
    """Fetches it."""
    data: bytes | None = None
    """Its content, where that is known; given up once it was used."""
    attributes: bytes | None = None
    other: bytes = b""

    def blocks(self) -> Iterator[bytes]:
        data, self.data = self.data, None
        if data is None:
            yield from self.read()
        elif data:
            yield data


@dataclass(slots=True)
class _Piece:
    """A file, or a chunk of one."""

    target: str
    """Empty: it goes on with the file before."""
    data: bytes
    name: bytes
    """The chunk's hash; empty where it is not to be asked for."""
    more: bool
    """Whether the next piece belongs to the same file."""
    attributes: bytes | None = None
    other: bytes = b""
    """Of a file's first piece: see `File`."""


@dataclass(slots=True)
class _Window:
    """Pieces that follow each other."""

    pieces: list[_Piece] = field(default_factory=list)
    before_large: bool = False
    """Whether a large file comes next."""


class BulkUploader:
    """Puts files into one commit."""

    def __init__(self, store: Any, commit: pfs_pb2.Commit, overwrite: bool, streams: int, calls: Calls) -> None:
        """`store` is the daemon's; `streams` is how many go side by side; `calls` gets every call under way."""
        self._store = store
        self._commit = commit
        self._overwrite = overwrite
        self._streams = streams
        self._calls = calls
        self._take = threading.Lock()
        self._files: Iterator[File] = iter(())
        self.turns = _Turns(streams)
        self.large = threading.Semaphore(LARGE_FILES)

    def put(self, files: Iterable[File]) -> None:
        """Puts files; raises OSError, PfsError, grpc.RpcError.

        Every file that is put is whole. No two files may have the same target.
        """
        self._files = iter(files)
        for_each(range(self._streams), self._stream, self._streams, self._calls)

    def present(self, names: list[bytes]) -> list[bool]:
        """For each chunk, whether the store has it."""
        if not names:
            return []
        call = self._calls.add(self._store.HasChunks.future(pfsd_pb2.ChunkRequest(hashes=names)))
        try:
            return list(call.result().present)
        finally:
            self._calls.discard(call)

    def _stream(self, _number: int) -> None:
        """Puts what files there are, in one stream after the other."""
        while not self._calls.stopped and (first := self._next()) is not None:
            self._send(chain([first], islice(iter(self._next, None), STREAM_FILES - 1)))

    def _next(self) -> File | None:
        with self._take:
            return next(self._files, None)

    def _send(self, files: Iterator[File]) -> None:
        stream = _Stream(self, files, refer=True)
        try:
            self._call(stream)
        except grpc.RpcError as error:
            if not stream.referred or not isinstance(error, grpc.Call) or error.code() not in _REFUSED:
                raise
            # A chunk is gone since it was asked for, or the daemon does not take it: all is sent as it is.
            self._call(_Stream(self, iter(stream.begun[_count_put(error) :]), refer=False))

    def _call(self, stream: _Stream) -> None:
        send(self._store.PutFiles, stream.messages(self._commit, self._overwrite), self._calls)


class _Turns:
    """Lets a few threads read at the same time, or all once reading has turned out to be slow."""

    def __init__(self, threads: int) -> None:
        self._waiting = max(0, threads - READERS)
        self._free = threading.Semaphore(min(threads, READERS))
        self._lock = threading.Lock()

    def take(self, fill: Callable[[], _Window]) -> _Window:
        """What `fill` gives when it is this thread's turn."""
        with self._free:
            start = time.monotonic()
            window = fill()
            taken = time.monotonic() - start
        if taken > SLOW_SECONDS * max(1, len(window.pieces)):
            with self._lock:
                waiting, self._waiting = self._waiting, 0
            if waiting:
                self._free.release(waiting)
        return window


class _Stream:
    """What goes into one call."""

    def __init__(self, uploader: BulkUploader, files: Iterator[File], refer: bool) -> None:
        self.begun: list[File] = []
        """The files in order, up to the last one that was looked at."""
        self.referred = False
        """Whether a chunk that the store has was left out."""
        self._uploader = uploader
        self._files = files
        self._refer = refer
        self._sent: set[bytes] = set()

    def messages(self, commit: pfs_pb2.Commit, overwrite: bool) -> Iterator[pfsd_pb2.PutFilesRequest]:
        """The requests."""
        message = _Message(overwrite, commit)
        for window in self._windows():
            present = self._present(window)
            for piece in window:
                if piece.name in present:
                    message.refer(piece)
                    self.referred = True
                else:
                    for part in _parts(piece):
                        message.add(part)
                        if message.is_full:
                            yield message.request
                            message = _Message(overwrite)
                    if piece.name:
                        present.add(piece.name)
                        self._sent.add(piece.name)
                if message.is_full:
                    yield message.request
                    message = _Message(overwrite)
            if len(self._sent) > SENT_CHUNKS:
                self._sent.clear()
        yield message.request

    def _present(self, window: list[_Piece]) -> set[bytes]:
        """The chunks in the window that need not be sent."""
        names = {piece.name for piece in window if piece.name}
        present = names & self._sent
        asked = list(names - present)
        return present.union(name for name, there in zip(asked, self._uploader.present(asked), strict=True) if there)

    def _windows(self) -> Iterator[list[_Piece]]:
        """The pieces of the files, in lists of bounded size."""
        pieces = self._all_pieces()
        while True:
            window = self._uploader.turns.take(lambda: _fill(pieces))
            if window.pieces:
                yield window.pieces
            if window.before_large:
                # Not in `_pieces`, which releases it: there it would wait in its turn, and those it waits for need one.
                self._uploader.large.acquire()
            elif not window.pieces:
                return

    def _all_pieces(self) -> Iterator[_Piece | None]:
        """The pieces of the files; None before those of a large one."""
        total = 0
        for file in self._files:
            self.begun.append(file)
            for piece in self._pieces(file):
                yield piece
                total += len(piece.data) if piece else 0
            if total >= STREAM_BYTES:
                return

    def _pieces(self, file: File) -> Iterator[_Piece | None]:
        if file.other:
            yield _Piece(file.target, b"", b"", False, other=file.other)
            return
        attributes, blocks = file.attributes, file.blocks()
        head = next(blocks, b"")
        more = next(blocks, b"")
        if not more and len(head) <= SMALL_BYTES:
            yield _Piece(file.target, head, b"", False, attributes)
        elif len(more) < BLOCK_BYTES:
            yield from self._chunks(file.target, attributes, chain((head, more), blocks))
        else:
            yield None
            try:
                yield from self._chunks(file.target, attributes, chain((head, more), blocks))
            finally:
                self._uploader.large.release()

    def _chunks(self, target: str, attributes: bytes | None, blocks: Iterator[bytes]) -> Iterator[_Piece]:
        chunks = _cut(blocks)
        last = next(chunks)
        for chunk in chunks:
            yield _Piece(target, last, self._name(last), True, attributes)
            target, attributes, last = "", None, chunk
        yield _Piece(target, last, self._name(last), False, attributes)

    def _name(self, data: bytes) -> bytes:
        return blake3(data).digest() if self._refer else b""


class _Message:
    """A request in the making."""

    def __init__(self, overwrite: bool, commit: pfs_pb2.Commit | None = None) -> None:
        self.request = pfsd_pb2.PutFilesRequest(commit=commit)
        self._add = self.request.files.add
        self._overwrite = overwrite
        self._left = MESSAGE_FILES
        self._bytes_left = MESSAGE_BYTES

    @property
    def is_full(self) -> bool:
        return self._left <= 0 or self._bytes_left <= 0

    def add(self, piece: _Piece) -> None:
        """Send the piece's bytes."""
        self._add(
            path=piece.target,
            overwrite=self._overwrite,
            data=piece.data,
            more=piece.more,
            attributes=piece.attributes,
            other=piece.other,
        )
        self._left -= 1
        self._bytes_left -= len(piece.data)

    def refer(self, piece: _Piece) -> None:
        """Send the chunk's name alone."""
        chunk = pfsd_pb2.ChunkReference(hash=piece.name, size=len(piece.data))
        self._add(
            path=piece.target,
            overwrite=self._overwrite,
            chunks=(chunk,),
            more=piece.more,
            attributes=piece.attributes,
        )
        self._left -= 1


def _parts(piece: _Piece) -> Iterator[_Piece]:
    """A piece as parts of which each fits a message."""
    if len(piece.data) <= MESSAGE_BYTES:
        yield piece
        return
    target, attributes = piece.target, piece.attributes
    for at in range(0, len(piece.data), MESSAGE_BYTES):
        end = at + MESSAGE_BYTES
        yield _Piece(target, piece.data[at:end], b"", piece.more or end < len(piece.data), attributes)
        target, attributes = "", None


def _fill(pieces: Iterator[_Piece | None]) -> _Window:
    """A window full of pieces, or as many as come before a large file."""
    window = _Window()
    left = WINDOW_BYTES
    for piece in pieces:
        if piece is None:
            window.before_large = True
            break
        window.pieces.append(piece)
        left -= len(piece.data)
        if left <= 0 or len(window.pieces) >= WINDOW_FILES:
            break
    return window


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a file's bytes, which are more than none."""
    buffer = bytearray()
    for block in blocks:
        buffer += block
        if len(buffer) >= MAX_CHUNK:
            yield from _decided(buffer)
    yield from _decided(buffer)
    if buffer:
        yield bytes(buffer)


def _decided(buffer: bytearray) -> Iterator[bytes]:
    """Take the chunks off a buffer whose ends it decides."""
    start = 0
    while end := next_cut(buffer, start):
        yield bytes(memoryview(buffer)[start:end])
        start = end
    del buffer[:start]


def _count_put(error: Any) -> int:
    """How many files a call that failed had put."""
    for key, value in error.trailing_metadata() or ():
        if key == _FILES_KEY:
            return int(value)
    return 0
