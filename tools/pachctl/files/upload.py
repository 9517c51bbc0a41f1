"""Putting one file: the request stream of PutFile, in messages of constant size."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from pachctl.terminal.parallel import Calls
from pachproto import pfs_pb2

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

    def put_descriptor(self, descriptor: int, target: str) -> None:
        """Puts what can be read from a file descriptor, such as standard input."""
        # os.read instead of a buffered file: a thread that hangs in it at exit must hold no lock.
        self.put_parts(_gather(lambda: os.read(descriptor, CHUNK_BYTES)), target)

    def put_url(self, url: str, target: str, recursive: bool) -> None:
        """Has the daemon fetch a URL."""
        send(self._put_file, iter([self._request(target, url=url, recursive=recursive)]), self._calls)

    def put_parts(self, parts: Iterable[bytes], target: str) -> None:
        """Puts the joined `parts`; an error that comes while they are read cancels the call and is raised."""
        send(self._put_file, self._requests(parts, target), self._calls)

    def _requests(self, parts: Iterable[bytes], target: str) -> Iterator[pfs_pb2.PutFileRequest]:
        parts = iter(parts)
        yield self._request(target, value=next(parts, b""))
        for part in parts:
            yield pfs_pb2.PutFileRequest(value=part)

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


def send(method: Any, requests: Iterator[Any], calls: Calls) -> Any:
    """The answer to a stream of requests, which are made as grpc asks for them, in a thread of grpc's.

    An error that comes while they are made cancels the call and is raised. None when all calls were stopped.
    """
    guarded = _Requests(requests)
    call = calls.add(method.future(guarded))
    guarded.begun(call)
    try:
        return call.result()
    except grpc.FutureCancelledError:
        if guarded.error is None and not calls.stopped:
            raise
        return None
    finally:
        calls.discard(call)
        if guarded.error is not None:
            raise guarded.error


class _Requests:
    """Requests whose making may fail."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests
        self._call: Any = None
        self._begun = threading.Event()
        self.error: Exception | None = None

    def begun(self, call: Any) -> None:
        """Says which call consumes the requests."""
        self._call = call
        self._begun.set()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except Exception as error:
            # Raised by `send`. The end of the stream would make a whole file of what was read so far.
            self.error = error
            self._begun.wait()
            self._call.cancel()
            raise StopIteration from error


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
