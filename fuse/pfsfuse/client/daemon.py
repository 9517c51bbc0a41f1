"""Calls to the daemon: in threads, repeated with patience while it is away, failing as PfsErrors."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import trio
from google.protobuf import empty_pb2
from google.protobuf.descriptor import ServiceDescriptor

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import errors
from pfsd.rpc import CHANNEL_OPTIONS, Stub
from pfsd.runtime.requestids import Metadata, with_id
from pfsd.statuses import from_status, is_said
from pfsfuse.client.handing import Handing

log = logging.getLogger(__name__)

T = TypeVar("T")


PATIENCE = 20.0
"""Seconds for which a call is tried again while the daemon does not answer."""

IMPATIENCE = 1.0
"""The same once a call has waited in vain, because one system call often makes several, and where there is something
to go on with without an answer.
"""

_THREADS = 16

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class _AwayError(errors.UnavailableError):
    """The daemon did not answer: the call may be tried again."""


class Daemon:
    """A connection to the daemon at `address`.

    The methods are trio's: each runs its call in a thread of its own limiter. They raise NotFoundError and
    the other PfsErrors that the daemon's status stands for, and UnavailableError when the daemon has not
    answered within `patience` seconds.
    """

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        self.address = address
        self.patience = patience
        self.calls = 0
        """How many were made, also in vain."""
        options = [
            *CHANNEL_OPTIONS,
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 300),  # with its jitter well below IMPATIENCE
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._pfs = Stub(self._channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])
        self._store = Stub(self._channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
        self._limiter = trio.CapacityLimiter(_THREADS)
        self.handing = Handing()
        """Takes files once `describe` has told where."""
        self.metadata: Metadata = ()
        """Goes with each call."""
        self._given_up = False
        """Whether the last call ended without an answer: those after it then fail sooner."""

    def close(self) -> None:
        """End the connection; calls under way fail."""
        self._channel.close()

    # --- repos, branches, commits ------------------------------------------------------------------------

    async def list_repos(self) -> list[pfs_pb2.RepoInfo]:
        """Every repo."""
        answer: pfs_pb2.RepoInfos = await self.call(self._pfs.ListRepo, pfs_pb2.ListRepoRequest())
        return list(answer.repo_info)

    async def inspect_repo(self, name: str, patience: float | None = None) -> pfs_pb2.RepoInfo:
        """One repo."""
        answer: pfs_pb2.RepoInfo = await self.call(
            self._pfs.InspectRepo, pfs_pb2.InspectRepoRequest(repo={"name": name}), patience=patience
        )
        return answer

    async def list_branches(self, repo: str) -> list[pfs_pb2.BranchInfo]:
        """The branches of a repo."""
        answer = await self.call(self._pfs.ListBranch, pfs_pb2.ListBranchRequest(repo={"name": repo}))
        return list(answer.branch_info)

    async def list_commits(self, repo: str) -> list[pfs_pb2.CommitInfo]:
        """Every commit of a repo, newest first."""
        answer = await self.call(self._pfs.ListCommit, pfs_pb2.ListCommitRequest(repo={"name": repo}))
        return list(answer.commit_info)

    async def commit_tree(self, repo: str, commit: str, patience: float | None = None) -> pfsd_pb2.CommitTree:
        """A commit, named by its id or a branch, with the tree that it shows now."""
        answer: pfsd_pb2.CommitTree = await self.call(
            self._store.GetCommitTree, pfs_pb2.Commit(repo={"name": repo}, id=commit), patience=patience
        )
        return answer

    # --- the store ---------------------------------------------------------------------------------------

    async def describe(self, patience: float | None = None) -> pfsd_pb2.StoreInfo:
        """Where the store's bytes are; `patience` overrides the connection's."""
        answer: pfsd_pb2.StoreInfo = await self.call(self._store.Describe, empty_pb2.Empty(), patience=patience)
        self.handing.directory = answer.handing
        return answer

    async def nodes(self, hashes: list[bytes], use: Callable[[bytes, bytes], T]) -> list[T]:
        """`use(hash, node)` for each of the tree nodes named, in order; it runs in the calling thread of the
        call.

        Raises CorruptError when one is lost.
        """

        def read(batches: Iterable[pfsd_pb2.NodeBatch]) -> list[T]:
            data = (node for batch in batches for node in batch.nodes)
            return [use(name, node) for name, node in zip(hashes, data, strict=False)]

        answer: list[T] = await self.call(self._store.GetNodes, pfsd_pb2.NodeRequest(hashes=hashes), read)
        if len(answer) != len(hashes):
            raise errors.CorruptError(f"the daemon sent {len(answer)} tree nodes of {len(hashes)}")
        return answer

    async def locate_chunks(self, hashes: list[bytes]) -> list[pfsd_pb2.ChunkLocation]:
        """Where the chunks lie, in the order asked for."""
        answer = await self.call(self._store.LocateChunks, pfsd_pb2.ChunkRequest(hashes=hashes))
        if len(answer.locations) != len(hashes):
            raise errors.CorruptError(f"the daemon located {len(answer.locations)} chunks of {len(hashes)}")
        return list(answer.locations)

    async def sign_packs(self, packs: list[str]) -> tuple[list[str], float]:
        """Addresses at which packs can be read, empty for those that can't be, and the seconds for which they hold."""
        answer = await self.call(self._store.SignPacks, pfsd_pb2.PackRequest(packs=packs))
        return list(answer.addresses), float(answer.seconds)

    async def chunks(self, hashes: list[bytes]) -> list[bytes]:
        """The chunks' bytes, in the order asked for, not verified."""

        def read(stream: Iterable[pfsd_pb2.ChunkData]) -> list[bytes]:
            return [message.data for message in stream]

        answer: list[bytes] = await self.call(self._store.GetChunks, pfsd_pb2.ChunkRequest(hashes=hashes), read)
        if len(answer) != len(hashes):
            raise errors.CorruptError(f"the daemon sent {len(answer)} chunks of {len(hashes)}")
        return answer

    async def attach(
        self, messages: Iterator[pfsd_pb2.MountMessage], take: Callable[[pfsd_pb2.MountRequest], None]
    ) -> None:
        """Be attached: send `messages`, and call `take` with each request, in trio's thread.

        Goes on until it is cancelled; raises UnavailableError when the daemon goes away.
        """
        self.calls += 1
        stream = self._store.Attach(messages)

        def follow() -> None:
            with _status(self.address):
                for request in stream:
                    trio.from_thread.run_sync(take, request)
            raise _AwayError(f"the daemon at {self.address} has ended the attachment")

        try:
            await trio.to_thread.run_sync(follow, limiter=trio.CapacityLimiter(1), abandon_on_cancel=True)
        finally:
            stream.cancel()

    # --- calling -----------------------------------------------------------------------------------------

    def stub(self, service: ServiceDescriptor) -> Stub:
        """The methods of another service of the daemon, for `call`."""
        return Stub(self._channel, service)

    async def call(
        self,
        method: Any,
        request: Any,
        read: Callable[[Any], Any] | None = None,
        patience: float | None = None,
        takes: float = 0.0,
        repeat: bool = True,
    ) -> Any:
        """The answer of `method`, or what `read` makes of it in the same thread.

        An answer may take `takes` seconds beyond `patience`; without `repeat`, a call that may have
        reached the daemon is not made again.
        """
        if patience is None:
            patience = min(self.patience, IMPATIENCE) if self._given_up else self.patience
        deadline = trio.current_time() + patience
        pause = 0.05
        while True:
            timeout = max(deadline - trio.current_time(), 0.01) + takes
            self.calls += 1

            metadata = with_id(self.metadata)

            def attempt(timeout: float = timeout, metadata: Metadata = metadata) -> Any:
                with _status(self.address):
                    answer = method(request, timeout=timeout, metadata=metadata)
                    return answer if read is None else read(answer)

            try:
                answer = await trio.to_thread.run_sync(attempt, limiter=self._limiter, abandon_on_cancel=True)
            except _AwayError:
                if not repeat:  # which says nothing of how long the daemon is away
                    raise
                if trio.current_time() + pause >= deadline:
                    self._given_up = True
                    raise
            except errors.PfsError:
                self._given_up = False
                raise
            else:
                self._given_up = False
                return answer
            await trio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, 1.0)


@contextmanager
def _status(address: str) -> Iterator[None]:
    """Turn a call's failure into the PfsError that it stands for."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() in _AWAY and not is_said(error):
            log.info("%s: %s", address, error.details())
            raise _AwayError(f"the daemon at {address} does not answer: start it, or set ADDRESS") from None
        raise from_status(error.code(), error.details() or "no reason was given") from None
