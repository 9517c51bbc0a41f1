"""Reading files of a daemon, another one or this one, over the API that every daemon of Pachyderm 1.5 has.

Nothing here holds a thread: a daemon that fetches from itself, any number of times at once, waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

import grpc

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import NotFoundError, PfsError, SourceError
from pfsd.fetching.reach import Reach
from pfsd.names import paths
from pfsd.names.pfsurls import PfsPlace
from pfsd.redact import redacted_url

T = TypeVar("T")

SILENT_SECONDS = 60.0
"""How long a daemon may take to answer, or to go on with an answer."""

_OPTIONS = [*rpc.CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]


class _LacksError(SourceError):
    """The daemon lacks a call."""


class Peer:
    """A daemon that files are fetched from, to be used in the server's loop."""

    def __init__(self, url: str, place: PfsPlace, reach: Reach) -> None:
        self._shown = redacted_url(url)
        self.place = place
        self._reach = reach
        self._lists_all = True
        """Whether it may offer more than Pachyderm 1.5."""

    async def __aenter__(self) -> Peer:
        """Raises InvalidError where it is not to be asked, SourceError where its name leads nowhere."""
        self._channel = grpc.aio.insecure_channel(await self._target(), options=_OPTIONS)
        self._store: Any = rpc.Stub(self._channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
        self._pfs: Any = rpc.Stub(self._channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])
        return self

    async def _target(self) -> str:
        """What the channel is to connect to: an address that was looked at, so that no name leads elsewhere later."""
        own = self._reach.own_address
        if self.place.address in ("", own):
            return own
        host, _, port = self.place.address.rpartition(":")
        try:
            loop = asyncio.get_running_loop()
            asked = loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            found = [str(place[0]) for *_, place in await asyncio.wait_for(asked, SILENT_SECONDS)]
        except (OSError, UnicodeError, TimeoutError, OverflowError):
            raise SourceError(f"the URL {self._shown} does not answer: {self.place.address} can't be reached") from None
        if not all(map(self._reach.permits, found)):
            raise self._reach.refusal(self._shown)
        return f"ipv6:[{found[0]}]:{port}" if ":" in found[0] else f"ipv4:{found[0]}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def commit(self) -> pfs_pb2.Commit:
        """The commit that the URL names, by its id: what is read stays that one."""
        asked = pfs_pb2.Commit(repo=pfs_pb2.Repo(name=self.place.repo), id=self.place.commit)
        info = await self._answer(self._pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=asked)))
        found: pfs_pb2.Commit = info.commit
        return found

    async def blocks(self, commit: pfs_pb2.Commit, path: str) -> AsyncGenerator[bytes]:
        """The bytes of a file, in order. Raises NotFoundError, SourceError."""
        call = self._pfs.GetFile(pfs_pb2.GetFileRequest(file=pfs_pb2.File(commit=commit, path=path)))
        try:
            messages = aiter(call)
            while (message := await self._answer(_next(messages))) is not None:
                yield message.value
        finally:
            call.cancel()

    async def files_below(self, commit: pfs_pb2.Commit) -> AsyncIterator[tuple[str, str]]:
        """The files below the directory that the URL names, each with its path and that below it.

        Raises as `blocks` does.
        """
        top = paths.parse(self.place.path)
        pending = [top]
        while pending:
            async for info in self._listed(commit, paths.join(pending.pop())):
                path = paths.parse(info.file.path)
                if path[: len(top)] != top or len(path) == len(top):
                    raise SourceError(f"the URL {self._shown} lists {info.file.path!r}, which is not below it")
                if info.file_type == pfs_pb2.FILE:
                    yield paths.join(path), "/".join(path[len(top) :])
                elif not self._lists_all:
                    pending.append(path)

    async def _listed(self, commit: pfs_pb2.Commit, path: str) -> AsyncIterator[pfs_pb2.FileInfo]:
        """What is in a directory, in parts, with all that is below it where the daemon offers that."""
        asked = pfs_pb2.File(commit=commit, path=path)
        if self._lists_all:
            call = self._store.ListFiles(pfsd_pb2.ListFilesRequest(file=asked, recursive=True))
            try:
                batches = aiter(call)
                while (batch := await self._answer(_next(batches))) is not None:
                    for info in batch.files:
                        yield info
                return
            except _LacksError:
                self._lists_all = False
            finally:
                call.cancel()
        for info in (await self._answer(self._pfs.ListFile(pfs_pb2.ListFileRequest(file=asked)))).file_info:
            yield info

    async def _answer(self, call: Awaitable[T]) -> T:
        with self._errors():
            return await asyncio.wait_for(call, SILENT_SECONDS)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise SourceError(f"the URL {self._shown} does not answer: it takes too long") from None
        except grpc.RpcError as error:
            raise self._meant(error) from error

    def _meant(self, error: Any) -> PfsError:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.NOT_FOUND:
            return NotFoundError(f"the URL {self._shown} leads to nothing: {details}")
        if code is grpc.StatusCode.UNAVAILABLE:
            return SourceError(
                f"the URL {self._shown} does not answer: {self.place.address or 'pfsd'} can't be reached"
            )
        kind = _LacksError if code is grpc.StatusCode.UNIMPLEMENTED else SourceError
        return kind(f"the URL {self._shown} can't be put: {details or code.name}")


async def _next(messages: AsyncIterator[Any]) -> Any:
    """The next message, None after the last."""
    return await anext(messages, None)
