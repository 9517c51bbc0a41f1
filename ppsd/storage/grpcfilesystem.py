"""The pipeline service's file system in a daemon, over gRPC: this process's own daemon, or another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from io import RawIOBase
from typing import Any

import grpc
import trio
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.errors import NotFoundError, UnavailableError
from pfsd.rpc import Stub
from ppsd.storage.filesystem import CommitRef, CommitState, Glob, ListedFile
from ppsd.storage.grpccalls import Messages, call, error_of

TAGS_PER_MESSAGE = 10_000
SMALL_BYTES = 64 << 10
"""Content of files up to this size comes along when they are listed."""


class GrpcFileSystem:
    """`FileSystem` over a channel to the daemon."""

    def __init__(self, channel: grpc.Channel) -> None:
        pfs, pfsd = pfs_pb2.DESCRIPTOR.services_by_name, pfsd_pb2.DESCRIPTOR.services_by_name
        self._api = Stub(channel, pfs["API"])
        self._store = Stub(channel, pfsd["Store"])
        self._records = Stub(channel, pfsd["Records"])
        self._admin = Stub(channel, pfsd["Admin"])
        self._messages = Messages()

    async def repo_exists(self, name: str) -> bool:
        try:
            await call(self._api.InspectRepo, pfs_pb2.InspectRepoRequest(repo=_repo(name)))
        except NotFoundError:
            return False
        return True

    async def create_repo(self, name: str, provenance: Sequence[str], description: str, update: bool) -> None:
        request = pfs_pb2.CreateRepoRequest(
            repo=_repo(name), provenance=map(_repo, provenance), description=description, update=update
        )
        await call(self._api.CreateRepo, request)

    async def delete_repo(self, name: str) -> None:
        await call(self._api.DeleteRepo, pfs_pb2.DeleteRepoRequest(repo=_repo(name)))

    async def repos_below(self, name: str) -> list[str]:
        answer = await call(self._api.ListRepo, pfs_pb2.ListRepoRequest(provenance=[_repo(name)]))
        return [info.repo.name for info in answer.repo_info]

    async def inspect_commit(self, commit: CommitRef) -> CommitState:
        request = pfs_pb2.InspectCommitRequest(commit=to_commit(commit))
        return _state(await call(self._api.InspectCommit, request))

    async def list_commits(self, repo: str, since: str, to: str, number: int) -> list[CommitState]:
        request = pfs_pb2.ListCommitRequest(repo=_repo(repo), number=number)
        if since:
            getattr(request, "from").CopyFrom(to_commit(CommitRef(repo, since)))
        if to:
            request.to.CopyFrom(to_commit(CommitRef(repo, to)))
        answer = await call(self._api.ListCommit, request)
        return [_state(info) for info in answer.commit_info]

    async def start_commit(self, repo: str, branch: str, parent: str, provenance: Sequence[CommitRef]) -> str:
        request = pfs_pb2.StartCommitRequest(
            parent=to_commit(CommitRef(repo, parent)), provenance=map(to_commit, provenance), branch=branch
        )
        commit_id: str = (await call(self._api.StartCommit, request)).id
        return commit_id

    async def finish_commit(self, commit: CommitRef) -> None:
        await call(self._api.FinishCommit, pfs_pb2.FinishCommitRequest(commit=to_commit(commit)))

    async def delete_commit(self, commit: CommitRef) -> None:
        await call(self._api.DeleteCommit, pfs_pb2.DeleteCommitRequest(commit=to_commit(commit)))

    async def fail_commit(self, commit: CommitRef, reason: str) -> None:
        request = pfsd_pb2.FailCommitRequest(commit=to_commit(commit), reason=reason)
        await call(self._store.FailCommit, request)

    async def set_branch(self, repo: str, branch: str, commit: str) -> None:
        request = pfs_pb2.SetBranchRequest(commit=to_commit(CommitRef(repo, commit)), branch=branch)
        await call(self._api.SetBranch, request)

    async def delete_branch(self, repo: str, branch: str) -> None:
        await call(self._api.DeleteBranch, pfs_pb2.DeleteBranchRequest(repo=_repo(repo), branch=branch))

    async def read_file(self, commit: CommitRef, path: str) -> bytes:
        request = pfs_pb2.GetFileRequest(file=_file(commit, path))
        return b"".join(await self._messages.collect(self._api.GetFile(request), lambda message: [message.value]))

    @asynccontextmanager
    async def all_files(self, commit: CommitRef) -> AsyncIterator[AsyncIterator[list[ListedFile]]]:
        request = pfsd_pb2.ListFilesRequest(file=_file(commit, ""), recursive=True, content_bytes=SMALL_BYTES)
        async with self._messages.open(self._store.ListFiles(request)) as messages:
            yield (_listed(batch) async for batch in messages)

    def reader(self, commit: CommitRef, path: str) -> RawIOBase:
        return _Reader(self._api.GetFile(pfs_pb2.GetFileRequest(file=_file(commit, path))))

    async def put_file(self, commit: CommitRef, path: str, data: bytes) -> None:
        request = pfs_pb2.PutFileRequest(file=_file(commit, path), value=data, overwrite=True)
        await call(self._api.PutFile, iter([request]))

    async def glob_entries(self, commit: CommitRef, glob: Glob) -> list[tuple[str, bytes]]:
        request = pfsd_pb2.GlobRequest(commit=to_commit(commit), pattern=glob.pattern, recursive=glob.recursive)
        return await self._messages.collect(self._store.GlobEntries(request), _matches)

    async def glob_changes(self, old: CommitRef, new: CommitRef, glob: Glob) -> list[tuple[str, bytes, bytes]]:
        request = pfsd_pb2.GlobChangesRequest(
            old=to_commit(old), new=to_commit(new), pattern=glob.pattern, recursive=glob.recursive
        )
        return await self._messages.collect(self._store.GlobChanges(request), _path_changes)

    async def has_tags(self, tags: Sequence[str]) -> list[bool]:
        present: list[bool] = []
        for part in _parts(tags):
            answer = await call(self._store.HasTags, pfsd_pb2.TagRequest(tags=part))
            present.extend(answer.present)
        return present

    async def delete_tag_prefix(self, prefix: str) -> None:
        await call(self._store.DeleteTagPrefix, pfsd_pb2.DeleteTagPrefixRequest(prefix=prefix))

    async def merge_trees(self, commit: CommitRef, changes: Mapping[str, str], base: str, result: str) -> None:
        def requests() -> Iterator[pfsd_pb2.MergeTreesRequest]:
            yield pfsd_pb2.MergeTreesRequest(commit=to_commit(commit), base=base, result=result)
            for part in _parts(list(changes)):
                some = [pfsd_pb2.TreeChange(order=order, tag=changes[order]) for order in part]
                yield pfsd_pb2.MergeTreesRequest(changes=some)

        await call(self._store.MergeTrees, requests())

    async def collect_garbage(self) -> None:
        await call(self._admin.CollectGarbage, Empty())

    @asynccontextmanager
    async def watch_changes(self) -> AsyncIterator[AsyncIterator[frozenset[str]]]:
        async with self._messages.open(self._store.WatchChanges(Empty())) as messages:
            yield _Changes(messages)

    async def write_records(
        self,
        put: Mapping[str, bytes],
        delete: Sequence[str] = (),
        delete_prefix: Sequence[str] = (),
        sync: bool = True,
    ) -> None:
        request = pfsd_pb2.WriteRecordsRequest(
            put=[pfsd_pb2.Record(key=key, value=value) for key, value in put.items()],
            delete=delete,
            delete_prefix=delete_prefix,
            sync=sync,
        )
        await call(self._records.Write, request)

    async def scan_records(
        self, prefix: str, after: str = "", limit: int = 0, reverse: bool = False
    ) -> list[tuple[str, bytes]]:
        request = pfsd_pb2.ScanRecordsRequest(prefix=prefix, after=after, limit=limit, reverse=reverse)
        return await self._messages.collect(self._records.Scan(request), _pairs)

    @asynccontextmanager
    async def hold_lease(self, name: str, holder: str) -> AsyncIterator[None]:
        request = pfsd_pb2.LeaseRequest(name=name, holder=holder)
        async with self._messages.open(self._records.HoldLease(request)) as messages:
            await _next(messages)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_broken, messages)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()


class _Reader(RawIOBase):
    """A file's content out of a stream of messages."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            while not self._rest:
                message = next(self._stream, None)
                if message is None:
                    return 0
                self._rest = memoryview(message.value)
        except grpc.RpcError as failure:
            raise error_of(failure) from None
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._stream.cancel()
        super().close()


class _Changes(AsyncIterator[frozenset[str]]):
    """The sets of repos in a stream of changes."""

    def __init__(self, messages: trio.MemoryReceiveChannel[Any]) -> None:
        self._messages = messages

    async def __anext__(self) -> frozenset[str]:
        return frozenset((await _next(self._messages)).repos)


async def _next(messages: trio.MemoryReceiveChannel[Any]) -> Any:
    """The next message of a stream that should not end."""
    try:
        return await messages.receive()
    except trio.EndOfChannel:
        raise UnavailableError("the file system ended a stream that should go on") from None


async def _until_broken(messages: trio.MemoryReceiveChannel[Any]) -> None:
    while True:
        await _next(messages)


def _parts(tags: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(tags), TAGS_PER_MESSAGE):
        yield tags[at : at + TAGS_PER_MESSAGE]


def _repo(name: str) -> pfs_pb2.Repo:
    return pfs_pb2.Repo(name=name)


def _file(commit: CommitRef, path: str) -> pfs_pb2.File:
    return pfs_pb2.File(commit=to_commit(commit), path=path)


def to_commit(ref: CommitRef) -> pfs_pb2.Commit:
    """A commit as the wire names it."""
    return pfs_pb2.Commit(repo=_repo(ref.repo), id=ref.id)


def from_commit(commit: pfs_pb2.Commit) -> CommitRef:
    """A commit that came from the wire."""
    return CommitRef(commit.repo.name, commit.id)


def _state(info: pfs_pb2.CommitInfo) -> CommitState:
    return CommitState(
        from_commit(info.commit),
        info.parent_commit.id,
        info.finished.ToNanoseconds(),
        tuple(map(from_commit, info.provenance)),
    )


def _listed(batch: pfsd_pb2.FileBatch) -> list[ListedFile]:
    """The files of a batch that have content: no special files, and no links that lead to nothing."""
    contents = {one.index: one.data for one in batch.contents}
    return [
        ListedFile(info.file.path.lstrip("/"), info.size_bytes, contents.get(index))
        for index, info in enumerate(batch.files)
        if info.file_type == pfs_pb2.FILE and (index in contents or _has_content(info))
    ]


def _has_content(info: pfs_pb2.FileInfo) -> bool:
    """Whether a file whose content did not come along has any."""
    return bool(info.size_bytes) or not (info.attributes.symlink or info.attributes.special_kind)


def _path_changes(batch: pfsd_pb2.PathChangeBatch) -> Iterator[tuple[str, bytes, bytes]]:
    return ((item.path, item.old_entry, item.new_entry) for item in batch.changes)


def _matches(batch: pfsd_pb2.PathEntryBatch) -> Iterator[tuple[str, bytes]]:
    return ((item.path, item.entry) for item in batch.entries)


def _pairs(batch: pfsd_pb2.RecordBatch) -> Iterator[tuple[str, bytes]]:
    return ((record.key, record.value) for record in batch.records)
