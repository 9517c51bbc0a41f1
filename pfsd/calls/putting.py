"""`PutFile`: a stream of files, or of URLs of files, into an open commit."""

from __future__ import annotations

import functools

from pachproto import pfs_pb2
from pfsd.calls.room import pieces, room
from pfsd.chunks.split import Delimiter
from pfsd.errors import InvalidError
from pfsd.fetching.reach import Reach
from pfsd.fetching.urls import fetch, fetch_below
from pfsd.filesystem.filesinks import INLINE_BYTES
from pfsd.filesystem.store import Store
from pfsd.filesystem.uploads import Upload
from pfsd.model.records import Commit
from pfsd.runtime.threads import WRITE, in_thread, in_turn

TOGETHER = 64
"""Small messages that are taken in together: a thread costs more than one of them."""

_DELIMITERS = {
    pfs_pb2.NONE: Delimiter.NONE,
    pfs_pb2.JSON: Delimiter.JSON,
    pfs_pb2.LINE: Delimiter.LINE,
}


class Put:
    """One stream. What it holds goes with it."""

    def __init__(self, store: Store, reach: Reach) -> None:
        """`reach` is where what is put may be fetched."""
        self._store = store
        self._reach = reach
        self._commit: Commit | None = None
        self._upload: Upload | None = None
        self._first: pfs_pb2.PutFileRequest | None = None
        self._waiting: list[tuple[pfs_pb2.PutFileRequest | None, bytes]] = []
        self._bytes = 0

    async def take(self, request: pfs_pb2.PutFileRequest) -> None:
        """Take in the next message."""
        if request.url:
            await self._store_waiting()
            await self._fetch(request)
        begins: pfs_pb2.PutFileRequest | None = request
        for piece in pieces(request.value):
            self._waiting.append((begins, piece))
            begins = None
            self._bytes += len(piece)
            if self._bytes > INLINE_BYTES or len(self._waiting) >= TOGETHER:
                await self._store_waiting()

    async def finish(self) -> None:
        """Let all that came take effect, as one. Does nothing where nothing came."""
        if self._upload is None and not self._waiting:
            return
        if not await in_thread(WRITE, self._finish_at_once, self._take_waiting()):
            assert self._commit is not None
            assert self._upload is not None
            await in_turn(self._commit.id, self._upload.finish)
        self.close()

    def close(self) -> None:
        """Give up what is held. Not for a stream that was cut off: a thread may still work on it."""
        if self._upload is not None:
            self._upload.close()

    def _take_waiting(self) -> list[tuple[pfs_pb2.PutFileRequest | None, bytes]]:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        return waiting

    async def _store_waiting(self) -> None:
        if self._waiting:
            await room(self._store)
            await in_thread(WRITE, self._write, self._take_waiting())

    async def _fetch(self, request: pfs_pb2.PutFileRequest) -> None:
        """Put what the URL of a message leads to."""
        upload = await in_thread(WRITE, self._begin, request, begins_file=not request.recursive)
        if request.recursive:
            begin = functools.partial(_begin_below, upload, request)
            await fetch_below(request.url, begin, upload.write, self._reach)
        else:
            await fetch(request.url, upload.write, self._reach)

    # --- in threads

    def _write(self, waiting: list[tuple[pfs_pb2.PutFileRequest | None, bytes]]) -> None:
        for request, data in waiting:
            if request is not None:
                self._begin(request, begins_file=not (request.url and request.recursive))
            assert self._upload is not None
            self._upload.write(data)

    def _finish_at_once(self, waiting: list[tuple[pfs_pb2.PutFileRequest | None, bytes]]) -> bool:
        self._write(waiting)
        assert self._upload is not None
        return self._upload.finish_at_once()

    def _begin(self, request: pfs_pb2.PutFileRequest, *, begins_file: bool) -> Upload:
        """Look at what a message says of a file; from here on, what is written goes there."""
        first = self._first
        if request.HasField("file") and (first is None or request.file != first.file):
            at = request.file.commit
            if self._upload is None:
                self._commit = self._store.commits.resolve(at.repo.name, at.id)
                self._upload = self._store.files.upload(self._commit)
            elif first is not None and at != first.file.commit:
                raise InvalidError("all files of one PutFile stream have to be in the same commit")
            if begins_file:
                _begin(self._upload, request)
            self._first = request
        if self._upload is None:
            raise InvalidError("the first message of PutFile has to name a file")
        return self._upload


def _begin_below(upload: Upload, request: pfs_pb2.PutFileRequest, path: str) -> None:
    """Begin a file at this path below the one that the request names."""
    _begin(upload, request, f"{request.file.path}/{path}")


def _begin(upload: Upload, request: pfs_pb2.PutFileRequest, path: str | None = None) -> None:
    upload.begin(
        request.file.path if path is None else path,
        overwrite=request.overwrite,
        delimiter=_delimiter(request.delimiter),
        target_datums=request.target_file_datums,
        target_bytes=request.target_file_bytes,
    )


def _delimiter(value: int) -> Delimiter:
    try:
        return _DELIMITERS[value]  # type: ignore[index]
    except KeyError:
        raise InvalidError(f"delimiter {value} is unknown: use NONE, JSON or LINE") from None
