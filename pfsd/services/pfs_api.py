"""`pfs.API`: the versioned file system as Pachyderm 1.5 speaks it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from pachproto import pfs_pb2
from pfsd.entries import FileEntry
from pfsd.errors import InvalidError
from pfsd.records import Commit
from pfsd.services import convert, listings, waiting
from pfsd.services.convert import commit_ref
from pfsd.services.sessions_api import collect
from pfsd.services.settling import settled
from pfsd.services.threads import in_thread
from pfsd.services.urls import fetch, fetch_below
from pfsd.split import Delimiter
from pfsd.store import Store
from pfsd.uploads import INLINE_BYTES, Upload


class PfsService:
    """The methods of `pfs.API`. Short ones run in the server's loop, the others in threads."""

    def __init__(self, store: Store, own_address: Callable[[], str]) -> None:
        """`own_address` is where this daemon can be reached, once it serves."""
        self._store = store
        self._own_address = own_address

    # --- repos

    async def CreateRepo(self, request: pfs_pb2.CreateRepoRequest, _context: Any) -> Empty:
        provenance = [repo.name for repo in request.provenance]
        self._store.repos.create(request.repo.name, provenance, request.description, update=request.update)
        return Empty()

    async def InspectRepo(self, request: pfs_pb2.InspectRepoRequest, _context: Any) -> pfs_pb2.RepoInfo:
        return convert.repo_info(self._store.repos.get(request.repo.name))

    async def ListRepo(self, request: pfs_pb2.ListRepoRequest, _context: Any) -> pfs_pb2.RepoInfos:
        found = self._store.repos.list([repo.name for repo in request.provenance])
        return pfs_pb2.RepoInfos(repo_info=map(convert.repo_info, found))

    async def DeleteRepo(self, request: pfs_pb2.DeleteRepoRequest, _context: Any) -> Empty:
        if request.all:
            await in_thread(self._store.repos.delete_all)
        else:
            await in_thread(self._store.repos.delete, request.repo.name, force=request.force)
        return Empty()

    # --- commits

    async def StartCommit(self, request: pfs_pb2.StartCommitRequest, _context: Any) -> pfs_pb2.Commit:
        commit = self._store.commits.start(
            request.parent.repo.name,
            parent=request.parent.id,
            branch=request.branch,
            provenance=[commit_ref(message) for message in request.provenance],
        )
        return convert.commit_name(commit.repo, commit.id)

    async def BuildCommit(self, request: pfs_pb2.BuildCommitRequest, context: Any) -> pfs_pb2.Commit:
        await settled(self._store, context, f"the commit in {request.parent.repo.name}")
        commit = await in_thread(
            self._store.build_commit,
            request.parent.repo.name,
            request.tree.hash,
            parent=request.parent.id,
            branch=request.branch,
            provenance=[commit_ref(message) for message in request.provenance],
        )
        return convert.commit_name(commit.repo, commit.id)

    async def FinishCommit(self, request: pfs_pb2.FinishCommitRequest, context: Any) -> Empty:
        commit = self._resolve(request.commit)
        if commit.is_open:
            await collect(self._store.root.sessions, commit.repo, commit.id)
        if self._store.root.objects.is_remote:  # what finishing would store is stored, and sent, before
            await in_thread(self._store.commits.tree, commit)
            await settled(self._store, context, f"commit {commit.repo}/{commit.id}")
        await in_thread(self._store.commits.finish, commit.repo, commit.id)
        return Empty()

    async def InspectCommit(self, request: pfs_pb2.InspectCommitRequest, _context: Any) -> pfs_pb2.CommitInfo:
        return convert.commit_info(self._resolve(request.commit))

    async def ListCommit(self, request: pfs_pb2.ListCommitRequest, _context: Any) -> pfs_pb2.CommitInfos:
        def collect() -> pfs_pb2.CommitInfos:
            start = getattr(request, "from")
            found = self._store.commits.list(
                request.repo.name,
                start=start.id or None,
                end=request.to.id or None,
                number=request.number,
            )
            return pfs_pb2.CommitInfos(commit_info=map(convert.commit_info, found))

        return await in_thread(collect)

    async def DeleteCommit(self, request: pfs_pb2.DeleteCommitRequest, _context: Any) -> Empty:
        await in_thread(self._store.commits.delete, request.commit.repo.name, request.commit.id)
        return Empty()

    async def FlushCommit(
        self, request: pfs_pb2.FlushCommitRequest, _context: Any
    ) -> AsyncIterator[pfs_pb2.CommitInfo]:
        commits = [self._resolve(message) for message in request.commits]
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
                for name, head in self._store.commits.branches(repo)
            ]
        )

    async def SetBranch(self, request: pfs_pb2.SetBranchRequest, _context: Any) -> Empty:
        self._store.commits.set_branch(request.commit.repo.name, request.commit.id, request.branch)
        return Empty()

    async def DeleteBranch(self, request: pfs_pb2.DeleteBranchRequest, _context: Any) -> Empty:
        self._store.commits.delete_branch(request.repo.name, request.branch)
        return Empty()

    # --- files

    async def PutFile(self, requests: AsyncIterator[pfs_pb2.PutFileRequest], _context: Any) -> Empty:
        upload: Upload | None = None
        first = None
        try:
            async for request in requests:
                if request.HasField("file") and (first is None or request.file != first.file):
                    if upload is None:
                        upload = self._store.files.upload(self._resolve(request.file.commit))
                    elif first is not None and request.file.commit != first.file.commit:
                        raise InvalidError("all files of one PutFile stream have to be in the same commit")
                    if request.url and request.recursive:
                        pass  # each of the files begins on its own
                    elif first is None:
                        _begin(upload, request)  # nothing is stored yet
                    else:
                        await in_thread(_begin, upload, request)
                    first = request
                if upload is None:
                    raise InvalidError("the first message of PutFile has to name a file")
                if request.url and request.recursive:
                    begin = functools.partial(_begin_below, upload, request)
                    await fetch_below(request.url, begin, upload.write, self._own_address())
                elif request.url:
                    await fetch(request.url, upload.write, self._own_address())
                if len(request.value) <= INLINE_BYTES:
                    upload.write(request.value)
                else:
                    await in_thread(upload.write, request.value)
            if upload is not None and not upload.finish_at_once():
                await in_thread(upload.finish)
        finally:
            if upload is not None:
                upload.close()
        return Empty()

    async def GetFile(self, request: pfs_pb2.GetFileRequest, _context: Any) -> AsyncIterator[BytesValue]:
        commit = self._resolve(request.file.commit)
        data = await in_thread(
            self._store.files.read, commit, request.file.path, request.offset_bytes, request.size_bytes
        )
        async for message in convert.byte_values(data):
            yield message

    async def InspectFile(self, request: pfs_pb2.InspectFileRequest, _context: Any) -> pfs_pb2.FileInfo:
        commit = self._resolve(request.file.commit)

        def inspect() -> pfs_pb2.FileInfo:
            entry = self._store.files.inspect(commit, request.file.path)
            info = convert.file_info(commit, request.file.path, entry)
            if isinstance(entry, FileEntry):
                info.objects.extend(pfs_pb2.Object(hash=chunk.hash.hex()) for chunk in self._store.files.chunks(entry))
            else:
                info.children.extend(self._store.files.names(entry))
            return info

        return await in_thread(inspect)

    async def ListFile(self, request: pfs_pb2.ListFileRequest, _context: Any) -> pfs_pb2.FileInfos:
        commit = self._resolve(request.file.commit)

        def collect() -> pfs_pb2.FileInfos:
            return pfs_pb2.FileInfos(file_info=listings.listed(self._store, commit, request.file.path))

        return await in_thread(collect)

    async def GlobFile(self, request: pfs_pb2.GlobFileRequest, _context: Any) -> pfs_pb2.FileInfos:
        commit = self._resolve(request.commit)

        def collect() -> pfs_pb2.FileInfos:
            return pfs_pb2.FileInfos(file_info=listings.globbed(self._store, commit, request.pattern))

        return await in_thread(collect)

    async def DiffFile(self, request: pfs_pb2.DiffFileRequest, _context: Any) -> pfs_pb2.DiffFileResponse:
        comparison = listings.Comparison(self._store, request)

        def compare() -> pfs_pb2.DiffFileResponse:
            return pfs_pb2.DiffFileResponse(new_files=comparison.new_files(), old_files=comparison.old_files())

        return await in_thread(compare)

    async def DeleteFile(self, request: pfs_pb2.DeleteFileRequest, _context: Any) -> Empty:
        commit = self._resolve(request.file.commit)
        await in_thread(self._store.files.delete, commit, request.file.path)
        return Empty()

    async def DeleteAll(self, _request: Empty, _context: Any) -> Empty:
        await in_thread(self._store.delete_all)
        return Empty()

    def _resolve(self, message: pfs_pb2.Commit) -> Commit:
        return self._store.commits.resolve(message.repo.name, message.id)


_DELIMITERS = {
    pfs_pb2.NONE: Delimiter.NONE,
    pfs_pb2.JSON: Delimiter.JSON,
    pfs_pb2.LINE: Delimiter.LINE,
}


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
