"""Waits in the loop until there is room for what is written, so that no thread is held meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from pfsd.chunks.sealing import ROOM_SECONDS
from pfsd.filesystem.store import Store

PIECE_BYTES = 1 << 20
"""Of what is written, how much a thread takes in at a time."""


async def room(store: Store) -> None:
    """Return once packs on their way to the object store leave room; raises why not after ROOM_SECONDS."""
    sealing = store.root.chunks.sealing
    deadline = time.monotonic() + ROOM_SECONDS
    while not sealing.has_room:
        left = deadline - time.monotonic()
        if left <= 0 or sealing.is_stuck:
            raise sealing.no_room()
        pending = [asyncio.wrap_future(future) for future in sealing.pending()]
        if pending:
            done, _ = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                _ = future.cancelled() or future.exception()  # whoever waits for it is told; here only room counts


def pieces(data: bytes) -> Iterator[bytes]:
    """Data in pieces of at most PIECE_BYTES; one, which is empty, of no data."""
    if len(data) <= PIECE_BYTES:
        yield data
        return
    for at in range(0, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]
