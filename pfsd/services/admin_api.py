"""`pfsd.Admin`: looking after the store itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import pfsd_pb2
from pfsd.filesystem.store import Store
from pfsd.runtime.threads import UPKEEP, in_thread, stream_in_thread
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from pfsd.upkeep.collect import collect_garbage


class AdminService:
    """The methods of `pfsd.Admin`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Fsck(self, request: pfsd_pb2.FsckRequest, _context: Any) -> AsyncIterator[pfsd_pb2.FsckMessage]:
        async for (found,) in stream_in_thread(UPKEEP, lambda: fsck.check(self._store, request.fix)):
            if isinstance(found, Problem):
                yield pfsd_pb2.FsckMessage(
                    problem=pfsd_pb2.Problem(
                        what=found.what, touches=found.touches, touched=found.touched, fixed=found.fixed
                    )
                )
            else:
                yield pfsd_pb2.FsckMessage(summary=pfsd_pb2.FsckSummary(**asdict(found)))

    async def CollectGarbage(self, _request: Empty, _context: Any) -> pfsd_pb2.GarbageReport:
        report = await in_thread(UPKEEP, collect_garbage, self._store.root)
        return pfsd_pb2.GarbageReport(**asdict(report))
