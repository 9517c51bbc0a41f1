"""`pfsd.Records`: small durable records and leases for services that run over the file system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import pfsd_pb2
from pfsd.errors import InvalidError
from pfsd.filesystem.store import Store
from pfsd.runtime.threads import CHANGE, WALK, in_thread, stream_in_thread

BATCH = 256


class RecordsService:
    """The methods of `pfsd.Records`."""

    def __init__(self, store: Store) -> None:
        self._records = store.records

    async def Write(self, request: pfsd_pb2.WriteRecordsRequest, _context: Any) -> Empty:
        put = {record.key: record.value for record in request.put}
        await in_thread(
            CHANGE, self._records.write, put, list(request.delete), list(request.delete_prefix), sync=request.sync
        )
        return Empty()

    async def Scan(self, request: pfsd_pb2.ScanRecordsRequest, _context: Any) -> AsyncIterator[pfsd_pb2.RecordBatch]:
        def scan() -> Iterator[tuple[str, bytes]]:
            return self._records.scan(request.prefix, request.after, request.limit, reverse=request.reverse)

        async for batch in stream_in_thread(WALK, scan, BATCH):
            yield pfsd_pb2.RecordBatch(records=[pfsd_pb2.Record(key=key, value=value) for key, value in batch])

    async def HoldLease(self, request: pfsd_pb2.LeaseRequest, _context: Any) -> AsyncIterator[pfsd_pb2.LeaseHeld]:
        if not request.name:
            raise InvalidError("a lease needs a name")
        self._records.take_lease(request.name, request.holder or "an unnamed holder")
        try:
            yield pfsd_pb2.LeaseHeld()
            await asyncio.get_running_loop().create_future()  # until the call ends
        finally:
            self._records.release_lease(request.name)
