"""`pfs.API`: the versioned file system as Pachyderm 1.5 speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from pachproto import pfs_pb2
from pfsd.calls import convert, listings, waiting
from pfsd.calls.attaching import collect
from pfsd.calls.convert import commit_ref, packed
from pfsd.calls.putting import Put
from pfsd.calls.reading import Find, reading, stream_reading
from pfsd.calls.room import room
from pfsd.calls.settling import settled
from pfsd.fetching.reach import Reach
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.runtime.threads import CHANGE, COMMIT, LOOKUP, READ, UPKEEP, WALK, in_thread, in_turn
from pfsd.trees.entries import DirEntry, FileEntry


class PfsService:
    """The methods of `pfs.API`. All that they do with the store is done in threads."""

    def __init__(self, store: Store, reach: Callable[[], Reach]) -> None:
        """`reach` tells, once it serves, where this daemon fetches what clients name."""
        self._store = store
        self._reach = reach

    # --- repos

    async def CreateRepo(self, request: pfs_pb2.CreateRepoRequest, _context: Any) -> Empty:
        provenance = [repo.name for repo in request.provenance]
        await in_thread(
            CHANGE, self._store.repos.create, request.repo.name, provenance, request.description, update=request.update
        )
        return Empty()

    async def InspectRepo(self, request: pfs_pb2.InspectRepoRequest, _context: Any) -> pfs_pb2.RepoInfo:
        return convert.repo_info(await in_thread(LOOKUP, self._store.repos.get, request.repo.name))

    async def ListRepo(self, request: pfs_pb2.ListRepoRequest, _context: Any) -> bytes:
        def collect() -> bytes:
            found = self._store.repos.list([repo.name for repo in request.provenance])
            return packed(pfs_pb2.RepoInfos, "repo_info", map(convert.repo_info, found))

        return await in_thread(WALK, collect)

    async def DeleteRepo(self, request: pfs_pb2.DeleteRepoRequest, _context: Any) -> Empty:
        if request.all:
            await in_thread(UPKEEP, self._store.repos.delete_all, force=request.force)
        else:
            await in_thread(UPKEEP, self._store.repos.delete, request.repo.name, force=request.force)
        return Empty()

    # --- commits

    async def StartCommit(self, request: pfs_pb2.StartCommitRequest, _context: Any) -> pfs_pb2.Commit:
        commit = await in_thread(
            CHANGE,
            self._store.commits.start,
            request.parent.repo.name,
            parent=request.parent.id,
            branch=request.branch,
            provenance=[commit_ref(message) for message in request.provenance],
        )
        return convert.commit_name(commit.repo, commit.id)

    async def BuildCommit(self, request: pfs_pb2.BuildCommitRequest, context: Any) -> pfs_pb2.Commit:
        await settled(self._store, context, f"the commit in {request.parent.repo.name}")
        commit = await in_thread(
            COMMIT,
            self._store.build_commit,
            request.parent.repo.name,
            request.tree.hash,
            parent=request.parent.id,
            branch=request.branch,
            provenance=[commit_ref(message) for message in request.provenance],
        )
        return convert.commit_name(commit.repo, commit.id)

    async def FinishCommit(self, request: pfs_pb2.FinishCommitRequest, context: Any) -> Empty:
        commit = await self._resolve(request.commit)
        if commit.is_open:
            await collect(self._store.root.sessions, commit.repo, commit.id)
        await room(self._store)
        if self._store.root.objects.is_remote:  # what finishing would store is stored, and sent, before
            await in_turn(commit.id, self._store.commits.tree, commit)
            await settled(self._store, context, f"commit {commit.repo}/{commit.id}")
        await in_turn(commit.id, self._store.commits.finish, commit.repo, commit.id)
        return Empty()

    async def InspectCommit(self, request: pfs_pb2.InspectCommitRequest, _context: Any) -> pfs_pb2.CommitInfo:
        return convert.commit_info(await self._resolve(request.commit))

    async def ListCommit(self, request: pfs_pb2.ListCommitRequest, _context: Any) -> bytes:
        def collect() -> bytes:
            start = getattr(request, "from")
            found = self._store.commits.history.list(
                request.repo.name,
                start=start.id or None,
                end=request.to.id or None,
                number=request.number,
            )
            return packed(pfs_pb2.CommitInfos, "commit_info", map(convert.commit_info, found))

        return await in_thread(WALK, collect)

    async def DeleteCommit(self, request: pfs_pb2.DeleteCommitRequest, _context: Any) -> Empty:
        commit = await self._resolve(request.commit)
        await in_turn(commit.id, self._store.commits.delete, commit.repo, commit.id)
        return Empty()

    async def FlushCommit(
        self, request: pfs_pb2.FlushCommitRequest, _context: Any
    ) -> AsyncIterator[pfs_pb2.CommitInfo]:
        commits = await in_thread(LOOKUP, lambda: [self._find(message) for message in request.commits])
        to_repos = [repo.name for repo in request.to_repos]
        async for commit in waiting.flush(self._store, commits, to_repos):
            yield convert.commit_info(commit)

    async def SubscribeCommit(
        self, request: pfs_pb2.SubscribeCommitRequest, _context: Any
    ) -> AsyncIterator[pfs_pb2.CommitInfo]:
        after = getattr(request, "from").id
        async for commit in waiting.subscribe(self._store, request.repo.name, request.branch, after):
            yield convert.commit_info(commit)

    # --- branches

    async def ListBranch(self, request: pfs_pb2.ListBranchRequest, _context: Any) -> pfs_pb2.BranchInfos:
        repo = request.repo.name
        return pfs_pb2.BranchInfos(
            branch_info=[
                pfs_pb2.BranchInfo(name=name, head=convert.commit_name(repo, head))
                for name, head in await in_thread(LOOKUP, self._store.commits.branches, repo)
            ]
        )

    async def SetBranch(self, request: pfs_pb2.SetBranchRequest, _context: Any) -> Empty:
        name = request.commit
        await in_thread(CHANGE, self._store.commits.set_branch, name.repo.name, name.id, request.branch)
        return Empty()

    async def DeleteBranch(self, request: pfs_pb2.DeleteBranchRequest, _context: Any) -> Empty:
        await in_thread(CHANGE, self._store.commits.delete_branch, request.repo.name, request.branch)
        return Empty()

    # --- files

    async def PutFile(self, requests: AsyncIterator[pfs_pb2.PutFileRequest], _context: Any) -> Empty:
        put = Put(self._store, self._reach())
        try:
            async for request in requests:
                await put.take(request)
            await put.finish()
        except Exception:
            put.close()
            raise
        return Empty()

    async def GetFile(self, request: pfs_pb2.GetFileRequest, _context: Any) -> AsyncIterator[BytesValue]:
        def read(find: Find) -> Iterator[bytes]:
            commit = find(request.file.commit)
            return self._store.files.read(commit, request.file.path, request.offset_bytes, request.size_bytes)

        async for (block,) in stream_reading(self._store, READ, read):
            for message in convert.byte_values(block):
                yield message

    async def InspectFile(self, request: pfs_pb2.InspectFileRequest, _context: Any) -> pfs_pb2.FileInfo:
        def inspect(find: Find) -> pfs_pb2.FileInfo:
            commit = find(request.file.commit)
            found = self._store.files.describe(commit, request.file.path)
            info = convert.file_info(commit, request.file.path, found.entry, found.target)
            entry = found.content
            if isinstance(entry, FileEntry):
                info.objects.extend(pfs_pb2.Object(hash=chunk.hash.hex()) for chunk in self._store.files.chunks(entry))
            elif isinstance(entry, DirEntry):
                info.children.extend(self._store.files.names(entry))
            return info

        return await reading(self._store, WALK, inspect)

    async def ListFile(self, request: pfs_pb2.ListFileRequest, _context: Any) -> bytes:
        def collect(find: Find) -> bytes:
            commit = find(request.file.commit)
            return packed(pfs_pb2.FileInfos, "file_info", listings.listed(self._store, commit, request.file.path))

        return await reading(self._store, WALK, collect)

    async def GlobFile(self, request: pfs_pb2.GlobFileRequest, _context: Any) -> bytes:
        def collect(find: Find) -> bytes:
            commit = find(request.commit)
            return packed(pfs_pb2.FileInfos, "file_info", listings.globbed(self._store, commit, request.pattern))

        return await reading(self._store, WALK, collect)

    async def DiffFile(self, request: pfs_pb2.DiffFileRequest, _context: Any) -> bytes:
        def compare(find: Find) -> bytes:
            comparison = listings.Comparison(self._store, request, find)
            new = packed(pfs_pb2.DiffFileResponse, "new_files", comparison.new_files())
            return new + packed(pfs_pb2.DiffFileResponse, "old_files", comparison.old_files())

        return await reading(self._store, WALK, compare)

    async def DeleteFile(self, request: pfs_pb2.DeleteFileRequest, _context: Any) -> Empty:
        commit = await self._resolve(request.file.commit)
        await in_turn(commit.id, self._store.files.delete, commit, request.file.path)
        return Empty()

    async def DeleteAll(self, _request: Empty, _context: Any) -> Empty:
        await in_thread(UPKEEP, self._store.delete_all)
        return Empty()

    async def _resolve(self, message: pfs_pb2.Commit) -> Commit:
        return await in_thread(LOOKUP, self._find, message)

    def _find(self, message: pfs_pb2.Commit) -> Commit:
        return self._store.commits.resolve(message.repo.name, message.id)
