"""What the kernel keeps: giving it a file's bytes, and having it forget names."""

from __future__ import annotations

import logging

import pyfuse3
import trio

from pfsfuse.kernel import notify

log = logging.getLogger(__name__)


def hand_over(ino: int, data: bytes) -> None:
    """Give the kernel all bytes of a file, which spares the request to read them.

    Only while no program has the file open, or before its first open is answered: later the kernel could hold the
    file's pages locked while it waits for a read, which could not be answered while this call waits for the pages.
    """
    try:
        pyfuse3.notify_store(ino, 0, data)
    except OSError as error:
        log.debug("the kernel did not take a file's bytes: %s", error)


async def expire(names: list[tuple[int, bytes]]) -> None:
    """Have the kernel ask again for names, each with the number of its directory.

    Cancelled, it returns while that goes on.
    """
    if names:
        await trio.to_thread.run_sync(notify.expire, notify.session_descriptor(), names, abandon_on_cancel=True)


async def drop(names: list[tuple[int, bytes]]) -> None:
    """Have the kernel forget names, each with the number of its directory, and the inodes that nobody uses.

    Cancelled, it returns while that goes on.
    """
    await trio.to_thread.run_sync(notify.drop, notify.session_descriptor(), names, abandon_on_cancel=True)
