"""`pfsd.Store`: trees, chunks and changes for mounts, workers and the pipeline service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.calls import attaching as sessions_api
from pfsd.calls import convert, holding, listings
from pfsd.calls.handing import HandedToCall
from pfsd.calls.reading import Find, each_reading, stream_reading
from pfsd.calls.room import room
from pfsd.errors import InvalidError
from pfsd.filesystem.bulkuploads import BulkUpload, FilePart
from pfsd.filesystem.files import Difference, Found
from pfsd.filesystem.store import Store
from pfsd.filesystem.trees import StoredTree, TreeChange, TreeUpload
from pfsd.local.handedfiles import HandedFiles
from pfsd.model.records import Commit
from pfsd.model.root import FORMAT
from pfsd.names import paths
from pfsd.objectstores.cachedstore import CachedStore
from pfsd.objectstores.objectstore import SIGNED_SECONDS
from pfsd.runtime.threads import CHANGE, LOOKUP, READ, UPKEEP, WALK, WRITE, in_thread, in_turn
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, DirEntry, Entry
from pfsd.trees.tree import HASH_BYTES

BATCH = 256
"""Nodes, or entries, to a message."""

FILES_KEY = "pfsd-files"
"""Of the trailing metadata of PutFiles: how many files were put."""


class StoreService:
    """The methods of `pfsd.Store`."""

    def __init__(self, store: Store, handed: HandedFiles | None = None) -> None:
        self._store = store
        self._handed = handed

    async def Describe(self, _request: Empty, _context: Any) -> pfsd_pb2.StoreInfo:
        return await in_thread(LOOKUP, self._describe)

    def _describe(self) -> pfsd_pb2.StoreInfo:
        root = self._store.root
        info = pfsd_pb2.StoreInfo(
            id=root.id, format=FORMAT, object_store=root.objects.url, spool=str(root.spool.resolve())
        )
        if isinstance(root.objects, CachedStore):
            info.cache_dir = str(root.objects.cache.directory.resolve())
            info.cache_bytes = root.objects.cache.limit
        if self._handed is not None and self._handed.is_open:
            info.handing = str(self._handed.directory.resolve())
        return info

    async def GetCommitTree(self, request: pfs_pb2.Commit, _context: Any) -> pfsd_pb2.CommitTree:
        sessions = self._store.root.sessions

        def look() -> tuple[Commit, DirEntry | None, int]:
            lease = sessions.lease((request.repo.name, ""))
            commit = self._store.commits.resolve(request.repo.name, request.id)
            if commit.is_open:
                sessions.lease((commit.repo, commit.id))
            present = self._store.commits.snapshot_at_once(commit)
            return commit, None if present is None else self._store.commits.tree(present), lease

        commit, top, lease = await in_thread(LOOKUP, look)
        if top is None:
            top = await in_turn(commit.id, self._store.commits.tree, commit)
        return pfsd_pb2.CommitTree(
            info=convert.commit_info(commit),
            root=top.root,
            files=top.files,
            directories=top.directories,
            lease=lease,
            attributes=bytes.fromhex(commit.attributes),
        )

    async def GetNodes(self, request: pfsd_pb2.NodeRequest, _context: Any) -> AsyncIterator[pfsd_pb2.NodeBatch]:
        hashes = _hashes(request.hashes)
        for at in range(0, len(hashes), BATCH):
            yield pfsd_pb2.NodeBatch(nodes=await in_thread(WALK, self._store.root.nodes.raw, hashes[at : at + BATCH]))

    async def LocateChunks(self, request: pfsd_pb2.ChunkRequest, _context: Any) -> pfsd_pb2.ChunkLocations:
        def locate() -> pfsd_pb2.ChunkLocations:
            found = [self._store.root.chunks.locate(name) for name in _hashes(request.hashes)]
            return pfsd_pb2.ChunkLocations(
                locations=[pfsd_pb2.ChunkLocation(pack=at.pack, offset=at.offset, size=at.size) for at in found]
            )

        return await in_thread(READ, locate)

    async def GetChunks(self, request: pfsd_pb2.ChunkRequest, _context: Any) -> AsyncIterator[pfsd_pb2.ChunkData]:
        for name in _hashes(request.hashes):
            yield pfsd_pb2.ChunkData(data=await in_thread(READ, self._store.root.chunks.read, name))

    async def SignPacks(self, request: pfsd_pb2.PackRequest, _context: Any) -> pfsd_pb2.PackAddresses:
        if not all(re.fullmatch("[0-9a-f]{32}", pack) for pack in request.packs):
            raise InvalidError("a pack's name has to be 32 hex digits")
        signed = await in_thread(READ, self._store.root.chunks.sign, list(request.packs))
        return pfsd_pb2.PackAddresses(addresses=signed, seconds=SIGNED_SECONDS)

    async def HasChunks(self, request: pfsd_pb2.ChunkRequest, _context: Any) -> pfsd_pb2.ChunkPresence:
        def look() -> pfsd_pb2.ChunkPresence:
            return pfsd_pb2.ChunkPresence(present=map(self._store.root.chunks.has, _hashes(request.hashes)))

        return await in_thread(READ, look)

    async def PutFiles(
        self, requests: AsyncIterator[pfsd_pb2.PutFilesRequest], context: Any
    ) -> pfsd_pb2.PutFilesResponse:
        upload: BulkUpload | None = None
        handed = HandedToCall(self._handed)
        try:
            async for request in requests:
                await room(self._store)
                known, is_staged = await in_thread(WRITE, self._put_files, upload, request, handed)
                upload = known
                if not is_staged:
                    await in_turn(known.commit.id, known.stage)
            if upload is None:
                raise InvalidError("PutFiles needs at least one message, which names a commit")
            upload.close()
        finally:
            handed.close()
            context.set_trailing_metadata(((FILES_KEY, str(upload.files if upload else 0)),))
        return pfsd_pb2.PutFilesResponse(files=upload.files, entries=map(entries.encode, upload.told))

    def _put_files(
        self, upload: BulkUpload | None, request: pfsd_pb2.PutFilesRequest, handed: HandedToCall
    ) -> tuple[BulkUpload, bool]:
        """Store the files of a message; returns the upload, and whether they are staged too."""
        if upload is None:
            commit = self._store.commits.resolve(request.commit.repo.name, request.commit.id)
            upload = self._store.files.bulk_upload(commit, request.lease)
            handed.holder = request.holder
        for file in request.files:
            upload.add(_part(file, handed))
        return upload, upload.stage_at_once()

    async def ListFiles(self, request: pfsd_pb2.ListFilesRequest, _context: Any) -> AsyncIterator[pfsd_pb2.FileBatch]:
        def walk(find: Find) -> Iterator[pfsd_pb2.FileBatch]:
            found = listings.walked(
                self._store,
                find(request.file.commit),
                request.file.path,
                recursive=request.recursive,
                content_bytes=request.content_bytes,
            )
            return listings.list_batches(found)

        async for batch in each_reading(self._store, READ if request.content_bytes else WALK, walk):
            yield batch

    async def GlobFiles(self, request: pfsd_pb2.GlobRequest, _context: Any) -> AsyncIterator[pfsd_pb2.FileBatch]:
        def glob(find: Find) -> Iterator[pfsd_pb2.FileBatch]:
            return listings.glob_batches(
                listings.globbed(self._store, find(request.commit), request.pattern, recursive=request.recursive)
            )

        async for batch in each_reading(self._store, WALK, glob):
            yield batch

    async def DiffFiles(self, request: pfs_pb2.DiffFileRequest, _context: Any) -> AsyncIterator[pfsd_pb2.DiffBatch]:
        def compare(find: Find) -> Iterator[pfsd_pb2.DiffBatch]:
            return listings.diff_batches(listings.Comparison(self._store, request, find))

        async for batch in each_reading(self._store, WALK, compare):
            yield batch

    async def GlobEntries(self, request: pfsd_pb2.GlobRequest, _context: Any) -> AsyncIterator[pfsd_pb2.PathEntryBatch]:
        def glob(find: Find) -> Iterator[Found]:
            return self._store.files.glob(find(request.commit), request.pattern, recursive=request.recursive)

        async for batch in stream_reading(self._store, WALK, glob, BATCH):
            yield pfsd_pb2.PathEntryBatch(
                entries=[
                    pfsd_pb2.PathEntry(path=paths.join(item.path), entry=entries.encode(item.entry)) for item in batch
                ]
            )

    async def GlobChanges(
        self, request: pfsd_pb2.GlobChangesRequest, _context: Any
    ) -> AsyncIterator[pfsd_pb2.PathChangeBatch]:
        def glob(find: Find) -> Iterator[Difference]:
            return self._store.files.glob_changes(
                find(request.old), find(request.new), request.pattern, recursive=request.recursive
            )

        async for batch in stream_reading(self._store, WALK, glob, BATCH):
            yield pfsd_pb2.PathChangeBatch(
                changes=[
                    pfsd_pb2.PathChange(
                        path=paths.join(item.path), old_entry=_encoded(item.old), new_entry=_encoded(item.new)
                    )
                    for item in batch
                ]
            )

    async def PutTree(self, requests: AsyncIterator[pfsd_pb2.PutTreeRequest], _context: Any) -> pfsd_pb2.TreeInfo:
        upload = await in_thread(WRITE, self._store.trees.upload)
        tag = ""
        handed = HandedToCall(self._handed)
        try:
            async for request in requests:
                tag, handed.holder = tag or request.tag, handed.holder or request.holder
                if not tag:
                    raise InvalidError("the first message of PutTree has to hold a tag")
                await room(self._store)
                await in_thread(WRITE, _write_tree, upload, list(request.writes), handed)
            if not tag:
                raise InvalidError("PutTree needs at least one message, which holds a tag")
            return _tree_info(await in_thread(WRITE, upload.finish, tag))
        except BaseException:
            await in_thread(CHANGE, upload.abandon)
            raise
        finally:
            handed.close()

    async def PutTrees(
        self, requests: AsyncIterator[pfsd_pb2.PutTreeRequest], _context: Any
    ) -> AsyncIterator[pfsd_pb2.TreeInfo]:
        upload: TreeUpload | None = None
        tag = ""
        handed = HandedToCall(self._handed)
        try:
            async for request in requests:
                if upload is None:
                    upload, tag = await in_thread(WRITE, self._store.trees.upload), request.tag
                    handed.close()
                    handed = HandedToCall(self._handed)
                    handed.holder = request.holder
                if not tag:
                    raise InvalidError("the first message of each tree of PutTrees has to hold a tag")
                await room(self._store)
                if request.last:
                    stored = await in_thread(WRITE, _finish_tree, upload, list(request.writes), tag, handed)
                    upload = None
                    yield _tree_info(stored)
                else:
                    await in_thread(WRITE, _write_tree, upload, list(request.writes), handed)
        finally:
            handed.close()
            if upload is not None:
                await in_thread(CHANGE, upload.abandon)

    async def HasTags(self, request: pfsd_pb2.TagRequest, _context: Any) -> pfsd_pb2.TagPresence:
        return pfsd_pb2.TagPresence(present=await in_thread(LOOKUP, self._store.tags.present, list(request.tags)))

    async def DeleteTagPrefix(self, request: pfsd_pb2.DeleteTagPrefixRequest, _context: Any) -> Empty:
        if not request.prefix:
            raise InvalidError("DeleteTagPrefix needs a prefix that is not empty")
        await in_thread(UPKEEP, self._store.tags.delete_prefix, request.prefix)
        return Empty()

    async def MergeTrees(self, requests: AsyncIterator[pfsd_pb2.MergeTreesRequest], _context: Any) -> pfsd_pb2.TreeInfo:
        first: pfsd_pb2.MergeTreesRequest | None = None
        changes: list[TreeChange] = []
        async for request in requests:
            first = first or request
            changes += [TreeChange(change.order, change.tag) for change in request.changes]
        if first is None:
            raise InvalidError("MergeTrees needs at least one message, which names a commit")
        if not all(change.order for change in changes):
            raise InvalidError("a tree that is merged needs an order that is not empty")
        commit = await in_thread(LOOKUP, self._store.commits.resolve, first.commit.repo.name, first.commit.id)
        merge = self._store.trees.merge_into
        return _tree_info(await in_turn(commit.id, merge, commit, changes, base=first.base, result=first.result))

    async def HoldCommit(self, request: pfs_pb2.StartCommitRequest, context: Any) -> AsyncIterator[pfs_pb2.Commit]:
        async for commit in holding.hold(self._store, request, context):
            yield commit

    async def FailCommit(self, request: pfsd_pb2.FailCommitRequest, _context: Any) -> Empty:
        name = request.commit
        await in_thread(CHANGE, self._store.commits.fail, name.repo.name, name.id, request.reason)
        return Empty()

    async def Attach(
        self, requests: AsyncIterator[pfsd_pb2.MountMessage], _context: Any
    ) -> AsyncIterator[pfsd_pb2.MountRequest]:
        async for request in sessions_api.attach(self._store.root.sessions, requests):
            yield request

    async def WatchChanges(self, _request: Empty, _context: Any) -> AsyncIterator[pfsd_pb2.Changes]:
        subscription = self._store.root.changes.subscribe()
        try:
            yield pfsd_pb2.Changes()
            while True:
                yield pfsd_pb2.Changes(repos=sorted(await subscription.next()))
        finally:
            self._store.root.changes.unsubscribe(subscription)


def _part(file: pfsd_pb2.FilePut, handed: HandedToCall) -> FilePart:
    return FilePart(
        file.path,
        file.overwrite,
        file.data,
        [Chunk(chunk.hash, chunk.size) for chunk in file.chunks],
        file.more,
        file.zeros,
        convert.file_entry(file.base, f"the base of {file.path}") if file.base else None,
        file.size,
        file.offset,
        file.tell,
        file.attributes if file.HasField("attributes") else None,
        convert.other_entry(file.other, f"what is put at {file.path}") if file.other else None,
        file.also,
        handed.range_of(file.handed) if file.HasField("handed") else None,
    )


def _write_tree(upload: TreeUpload, writes: list[pfsd_pb2.TreeWrite], handed: HandedToCall) -> None:
    for write in writes:
        kind = write.WhichOneof("what")
        if kind == "data":
            upload.write(write.path, write.data)
        elif kind == "zeros":
            upload.zeros(write.path, write.zeros)
        elif kind == "handed":
            upload.pour(write.path, handed.range_of(write.handed))
        elif kind == "entry":
            what = f"the entry given for {write.path}"
            upload.put(write.path, entries.check(convert.any_entry(write.entry, what), what))
        elif kind == "directory":
            upload.put(write.path, entries.EMPTY_DIR)
        else:
            raise InvalidError(f"nothing is given for {write.path}: set data, zeros, handed, entry or directory")
        if write.HasField("attributes") and kind != "entry":
            upload.set_attributes(write.path, write.attributes)


def _finish_tree(upload: TreeUpload, writes: list[pfsd_pb2.TreeWrite], tag: str, handed: HandedToCall) -> StoredTree:
    _write_tree(upload, writes, handed)
    return upload.finish(tag)


def _encoded(entry: Entry | None) -> bytes:
    return b"" if entry is None else entries.encode(entry)


def _tree_info(stored: StoredTree) -> pfsd_pb2.TreeInfo:
    return pfsd_pb2.TreeInfo(
        object=pfs_pb2.Object(hash=stored.object_hash.hex()),
        root=stored.top.root,
        size_bytes=stored.top.size,
        files=stored.top.files,
        bytes_written=stored.bytes_written,
    )


def _hashes(values: Any) -> list[bytes]:
    hashes = list(values)
    if any(len(value) != HASH_BYTES for value in hashes):
        raise InvalidError(f"a hash has to be {HASH_BYTES} bytes long")
    return hashes
