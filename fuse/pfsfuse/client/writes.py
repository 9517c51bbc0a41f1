"""The daemon's calls that change something."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

import grpc

from pachproto import edits_pb2, pfs_pb2, pfsd_pb2
from pfsd.errors import PfsError
from pfsd.names.paths import Path, join
from pfsd.runtime.requestids import Metadata
from pfsfuse.client.daemon import Daemon
from pfsfuse.client.handing import Handed

log = logging.getLogger(__name__)

EditStep = edits_pb2.EditStep
RemoveStep = edits_pb2.RemoveStep
Move = tuple[Path, Path]
"""Where something is, and where it is to be."""

_SLOWEST_BYTES = 1 << 20
"""A second; an upload slower than that is given up."""
_FINISH_SECONDS = 600.0
_REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


class Writer:
    """Changes repos, branches and open commits through `daemon`; raises what its calls raise."""

    def __init__(self, daemon: Daemon) -> None:
        self._sent = 0
        self._reading: list[Handed] = []
        self._handing = daemon.handing
        self._call = daemon.call
        self._pfs = daemon.stub(pfs_pb2.DESCRIPTOR.services_by_name["API"])
        self._store = daemon.stub(pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
        self._edits = daemon.stub(edits_pb2.DESCRIPTOR.services_by_name["Edits"])

    @property
    def progress(self) -> int:
        """Changes while something is sent, or read by the daemon."""
        return self._sent + sum(handed.progress() for handed in tuple(self._reading))

    async def create_repo(self, repo: str) -> None:
        await self._call(self._pfs.CreateRepo, pfs_pb2.CreateRepoRequest(repo={"name": repo}), repeat=False)

    async def delete_repo(self, repo: str) -> None:
        await self._call(self._pfs.DeleteRepo, pfs_pb2.DeleteRepoRequest(repo={"name": repo}), repeat=False)

    async def start_commit(self, repo: str, branch: str) -> str:
        """Start a commit on a branch, which comes to be where there is none; returns its id."""
        request = pfs_pb2.StartCommitRequest(parent=pfs_pb2.Commit(repo={"name": repo}), branch=branch)
        answer: pfs_pb2.Commit = await self._call(self._pfs.StartCommit, request, repeat=False)
        return answer.id

    async def finish_commit(self, repo: str, commit_id: str) -> None:
        request = pfs_pb2.FinishCommitRequest(commit=pfs_pb2.Commit(repo={"name": repo}, id=commit_id))
        await self._call(self._pfs.FinishCommit, request, takes=_FINISH_SECONDS, repeat=False)

    async def delete_commit(self, repo: str, commit_id: str) -> None:
        request = pfs_pb2.DeleteCommitRequest(commit=pfs_pb2.Commit(repo={"name": repo}, id=commit_id))
        await self._call(self._pfs.DeleteCommit, request, repeat=False)

    async def move(self, repo: str, commit_id: str, moves: Sequence[Move]) -> bytes:
        """Move one file or directory, or have two change places; returns the root hash of the commit's tree."""
        commit = pfs_pb2.Commit(repo={"name": repo}, id=commit_id)
        request = edits_pb2.EditRequest(commit=commit, steps=_renames(moves))
        answer: edits_pb2.EditResponse = await self._call(self._edits.Edit, request, repeat=False)
        return answer.root

    async def edit(self, repo: str, commit_id: str, steps: Iterable[EditStep]) -> None:
        """Take steps, all or none, which may be told again where the daemon went away."""
        commit = pfs_pb2.Commit(repo={"name": repo}, id=commit_id)
        await self._call(self._edits.Edit, edits_pb2.EditRequest(commit=commit, steps=steps, silent=True))

    async def put_files(
        self, messages: Callable[[Handed | None], Iterable[pfsd_pb2.PutFilesRequest]], size: int, fd: int = -1
    ) -> pfsd_pb2.PutFilesResponse:
        """Send the messages of PutFiles, about `size` bytes, again from the start when the daemon went away.

        An open file that has the bytes is handed over where it can be, and given to `messages`; what can't be done
        with it is done without. Raises what `messages` raises as they are made, too.
        """
        put = self._store.PutFiles
        failure: PfsError | None = None

        def counted(messages: Iterable[pfsd_pb2.PutFilesRequest]) -> Iterator[pfsd_pb2.PutFilesRequest]:
            # gRPC takes these in a thread of its own and says of an exception only that there was one.
            nonlocal failure
            try:
                for message in messages:
                    self._sent += 1
                    yield message
            except PfsError as error:
                failure = error
                raise

        def send(
            make: Callable[[Handed | None], Iterable[pfsd_pb2.PutFilesRequest]], timeout: float, metadata: Metadata
        ) -> pfsd_pb2.PutFilesResponse:
            handed = self._handing.hand_over(fd, os.fstat(fd).st_size) if fd >= 0 else None
            try:
                if handed is not None:
                    self._reading.append(handed)
                answer: pfsd_pb2.PutFilesResponse = put(counted(make(handed)), timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                if failure is not None:
                    raise failure from None
                if handed is None or error.code() not in _REFUSED:
                    raise
                log.info("a file that was handed over is sent: %s", error.details())
                answer = put(counted(make(None)), timeout=timeout, metadata=metadata)
            finally:
                if handed is not None:
                    self._reading.remove(handed)
                    handed.close()
            return answer

        sent: pfsd_pb2.PutFilesResponse = await self._call(send, messages, takes=size / _SLOWEST_BYTES)
        return sent


def make_directory(path: str) -> EditStep:
    """The step of a new directory."""
    return EditStep(make_directory=path)


def remove(path: str, directory: bool) -> EditStep:
    """The step that removes a file, or an empty directory."""
    return EditStep(remove=RemoveStep(path=path, empty_directory=directory, file=not directory))


def replace(path: str, entry: bytes) -> EditStep:
    """The step that puts a file whose content is stored, a link or a special file at a path."""
    return EditStep(replace=edits_pb2.ReplaceStep(path=path, entry=entry))


def set_attributes(path: str, encoded: bytes) -> EditStep:
    """The step that gives what is at a path these attributes."""
    return EditStep(set_attributes=edits_pb2.SetAttributesStep(path=path, attributes=encoded))


def _renames(moves: Sequence[Move]) -> Iterator[EditStep]:
    (source, target), *others = moves
    if others:
        aside = (*source[:-1], f".exchange-{secrets.token_hex(8)}")
        moves = [(source, aside), *others, (aside, target)]
    for source, target in moves:
        ends = {"from": join(source), "to": join(target)}  # one is a keyword of Python
        yield EditStep(rename=edits_pb2.RenameStep(**ends))  # type: ignore[arg-type]
