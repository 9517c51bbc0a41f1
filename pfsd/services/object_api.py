"""`pfs.ObjectAPI`: blobs under their hash, and tags, as Pachyderm 1.5 speaks them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import BytesValue

from pachproto import pfs_pb2
from pfsd.calls.convert import byte_values
from pfsd.calls.room import pieces, room
from pfsd.errors import InvalidError, NotFoundError
from pfsd.filesystem.filesinks import FileSink
from pfsd.filesystem.objects import parse_hash
from pfsd.filesystem.store import Store
from pfsd.runtime.threads import CHANGE, READ, UPKEEP, WALK, WRITE, in_thread, stream_in_thread

BATCH = 256


class ObjectService:
    """The methods of `pfs.ObjectAPI`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._objects = store.objects
        self._tags = store.tags
        self._root = store.root

    async def PutObject(self, requests: AsyncIterator[pfs_pb2.PutObjectRequest], _context: Any) -> pfs_pb2.Object:
        sink = FileSink(self._root)
        tags: list[str] = []
        async for request in requests:
            tags += (tag.name for tag in request.tags)
            for piece in pieces(request.value):
                await room(self._store)
                await in_thread(WRITE, sink.write, piece)
        return _object(await in_thread(WRITE, self._objects.keep, sink, tags))

    async def GetObject(self, request: pfs_pb2.Object, _context: Any) -> AsyncIterator[BytesValue]:
        name = parse_hash(request.hash)
        async for message in _content(lambda: self._objects.read([name])):
            yield message

    async def GetObjects(self, request: pfs_pb2.GetObjectsRequest, _context: Any) -> AsyncIterator[BytesValue]:
        names = [parse_hash(item.hash) for item in request.objects]
        async for message in _content(lambda: self._objects.read(names, request.offset_bytes, request.size_bytes)):
            yield message

    async def TagObject(self, request: pfs_pb2.TagObjectRequest, _context: Any) -> Empty:
        tags = [tag.name for tag in request.tags]
        await in_thread(CHANGE, self._tags.set, parse_hash(request.object.hash), tags)
        return Empty()

    async def InspectObject(self, request: pfs_pb2.Object, _context: Any) -> pfs_pb2.ObjectInfo:
        return await in_thread(READ, self._info, parse_hash(request.hash))

    async def CheckObject(self, request: pfs_pb2.CheckObjectRequest, _context: Any) -> pfs_pb2.CheckObjectResponse:
        try:
            found = await in_thread(READ, self._objects.find, parse_hash(request.object.hash))
        except NotFoundError:  # not the form of a hash, so nothing is stored under it
            found = None
        return pfs_pb2.CheckObjectResponse(exists=found is not None)

    async def ListObjects(self, _request: pfs_pb2.ListObjectsRequest, _context: Any) -> AsyncIterator[pfs_pb2.Object]:
        async for batch in stream_in_thread(WALK, self._objects.list, BATCH):
            for name in batch:
                yield _object(name)

    async def DeleteObjects(
        self, request: pfs_pb2.DeleteObjectsRequest, _context: Any
    ) -> pfs_pb2.DeleteObjectsResponse:
        await in_thread(CHANGE, self._objects.delete, [parse_hash(item.hash) for item in request.objects])
        return pfs_pb2.DeleteObjectsResponse()

    async def GetTag(self, request: pfs_pb2.Tag, _context: Any) -> AsyncIterator[BytesValue]:
        async for message in _content(lambda: self._objects.read([self._tags.get(request.name)])):
            yield message

    async def InspectTag(self, request: pfs_pb2.Tag, _context: Any) -> pfs_pb2.ObjectInfo:
        return await in_thread(READ, lambda: self._info(self._tags.get(request.name)))

    async def ListTags(
        self, request: pfs_pb2.ListTagsRequest, _context: Any
    ) -> AsyncIterator[pfs_pb2.ListTagsResponse]:
        async for batch in stream_in_thread(WALK, lambda: self._tags.list(request.prefix), BATCH):
            for tag, name in batch:
                yield pfs_pb2.ListTagsResponse(tag=tag, object=_object(name) if request.includeObject else None)

    async def DeleteTags(self, request: pfs_pb2.DeleteTagsRequest, _context: Any) -> pfs_pb2.DeleteTagsResponse:
        if not all(request.tags):
            raise InvalidError("a tag needs a name")
        await in_thread(CHANGE, self._tags.delete, list(request.tags))
        return pfs_pb2.DeleteTagsResponse()

    async def Compact(self, _request: Empty, _context: Any) -> Empty:
        """The original merged its index files; here RocksDB is asked to do so with its own."""
        await in_thread(UPKEEP, self._root.db.compact)
        return Empty()

    def _info(self, name: bytes) -> pfs_pb2.ObjectInfo:
        at = self._objects.location(name)
        if at is None:  # an object of many chunks, or none, is a block of its own
            size = self._objects.get(name).size
            block, lower = name.hex(), 0
        else:
            block, lower, size = at.pack, at.offset, at.size
        return pfs_pb2.ObjectInfo(
            object=_object(name),
            block_ref=pfs_pb2.BlockRef(
                block=pfs_pb2.Block(hash=block), range=pfs_pb2.ByteRange(lower=lower, upper=lower + size)
            ),
        )


async def _content(make: Callable[[], Iterable[bytes]]) -> AsyncIterator[BytesValue]:
    async for (block,) in stream_in_thread(READ, make):
        for message in byte_values(block):
            yield message


def _object(name: bytes) -> pfs_pb2.Object:
    return pfs_pb2.Object(hash=name.hex())
