"""Putting one file: the request stream of PutFile, in messages of constant size."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from pachproto import pfs_pb2
from pfsd.errors import PfsError
from tools.pachctl.parallel import Calls

CHUNK_BYTES = 1 << 20
"""Most content in one message."""


@dataclass(frozen=True)
class Options:
    """What holds for every file of one put-file."""

    commit: pfs_pb2.Commit
    overwrite: bool
    delimiter: pfs_pb2.Delimiter
    target_file_datums: int
    target_file_bytes: int


class Uploader:
    """Puts files into one commit. Safe to use from several threads."""

    def __init__(self, put_file: Any, options: Options, calls: Calls) -> None:
        """`put_file` is the daemon's call; `calls` gets every call under way."""
        self._put_file = put_file
        self._options = options
        self._calls = calls

    def put_local(self, path: str, target: str) -> None:
        """Puts a local file; raises OSError, or grpc.RpcError."""
        with open(path, "rb") as file:
            first = file.read(CHUNK_BYTES)
            if len(first) < CHUNK_BYTES:
                # Most files are small: read before the call begins, they need no stream.
                self._send(iter([self._request(target, value=first)]))
            else:
                self.put_parts(_chain(first, lambda: file.read(CHUNK_BYTES)), target)

    def put_descriptor(self, descriptor: int, target: str) -> None:
        """Puts what can be read from a file descriptor, such as standard input."""
        # os.read instead of a buffered file: a thread that hangs in it at exit must hold no lock.
        self.put_parts(_gather(lambda: os.read(descriptor, CHUNK_BYTES)), target)

    def put_url(self, url: str, target: str, recursive: bool) -> None:
        """Has the daemon fetch a URL."""
        self._send(iter([self._request(target, url=url, recursive=recursive)]))

    def put_parts(self, parts: Iterable[bytes], target: str) -> None:
        """Puts the joined `parts`; an error that comes while they are read cancels the call and is raised."""
        stream = _Stream(self._request(target), parts)
        try:
            self._send(stream, stream)
        finally:
            if stream.error is not None:
                raise stream.error

    def _request(self, target: str, **fields: Any) -> pfs_pb2.PutFileRequest:
        options = self._options
        return pfs_pb2.PutFileRequest(
            file=pfs_pb2.File(commit=options.commit, path=target),
            overwrite=options.overwrite,
            delimiter=options.delimiter,
            target_file_datums=options.target_file_datums,
            target_file_bytes=options.target_file_bytes,
            **fields,
        )

    def _send(self, requests: Iterator[pfs_pb2.PutFileRequest], stream: _Stream | None = None) -> None:
        call = self._calls.add(self._put_file.future(requests))
        if stream is not None:
            stream.begun(call)
        try:
            call.result()
        except grpc.FutureCancelledError:
            # Cancelled by us, after an error that is raised elsewhere.
            pass
        finally:
            self._calls.discard(call)


class _Stream:
    """Requests made of parts as grpc asks for them, in a thread of grpc's."""

    def __init__(self, first: pfs_pb2.PutFileRequest, parts: Iterable[bytes]) -> None:
        self._first: pfs_pb2.PutFileRequest | None = first
        self._parts = iter(parts)
        self._call: Any = None
        self._begun = threading.Event()
        self.error: Exception | None = None

    def begun(self, call: Any) -> None:
        """Says which call consumes the stream."""
        self._call = call
        self._begun.set()

    def __iter__(self) -> Iterator[pfs_pb2.PutFileRequest]:
        return self

    def __next__(self) -> pfs_pb2.PutFileRequest:
        try:
            part = next(self._parts, None)
        except (OSError, PfsError, grpc.RpcError) as error:
            self.error = error
            # The end of the stream would make a whole file of what was read so far.
            self._begun.wait()
            self._call.cancel()
            part = None
            self._first = None
        first, self._first = self._first, None
        if first is None:
            if part is None:
                raise StopIteration
            return pfs_pb2.PutFileRequest(value=part)
        first.value = part or b""
        return first


def _chain(first: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    part = first
    while part:
        yield part
        part = read()


def _gather(read: Callable[[], bytes]) -> Iterator[bytes]:
    """What `read` gives until it gives nothing, in parts of CHUNK_BYTES: a pipe gives little at a time."""
    gathered = bytearray()
    while part := read():
        gathered += part
        while len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered[:CHUNK_BYTES])
            del gathered[:CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)
