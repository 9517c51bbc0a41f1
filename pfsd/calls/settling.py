"""Waiting until what a commit holds is in the object store."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from pfsd.errors import RefusedError, UnavailableError
from pfsd.filesystem.store import Store
from pfsd.runtime.threads import CHANGE, in_thread

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
"""For which a call without a deadline waits."""
ANSWER_SECONDS = 0.5
"""How long before a call's deadline it is given up, so that the reason still reaches the client."""
SAY_SECONDS = 5.0


async def settled(store: Store, context: Any, what: str) -> None:
    """Return once every chunk that was put so far is in the object store; at once where that is on this machine.

    Nothing is held meanwhile, and a client may go away. Raises UnavailableError when it does not come about in time:
    `what` is then as it was.
    """
    chunks = store.root.chunks
    sent = await in_thread(CHANGE, chunks.send)
    if not sent:
        return
    remaining = context.time_remaining()
    patience = PATIENCE_SECONDS if remaining is None else min(remaining - ANSWER_SECONDS, PATIENCE_SECONDS)
    deadline = time.monotonic() + max(patience, 0)
    waiting = {asyncio.wrap_future(future) for future in sent}
    while True:
        left = max(deadline - time.monotonic(), 0)
        done, waiting = await asyncio.wait(waiting, timeout=min(left, SAY_SECONDS))
        for future in done:
            if future.cancelled():
                raise UnavailableError(f"{what} is not finished: pfsd is being stopped")
            future.result()
        if not waiting:
            return
        trouble = chunks.sealing.trouble
        if isinstance(trouble, RefusedError) or time.monotonic() >= deadline:
            raise UnavailableError(
                f"{what} is not finished, and stays open: {len(waiting)} packs are not in the object store yet, "
                f"{f'because {trouble}' if trouble else 'which is slow'}: try again"
            )
        log.warning("finishing %s waits for %d packs: %s", what, len(waiting), trouble or "the object store is slow")
