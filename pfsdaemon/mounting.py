"""The mount that the daemon was asked for: a process of its own, so that it never waits for the daemon's threads."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pfsd.errors import UnavailableError

STOP_SECONDS = 2.0


@asynccontextmanager
async def repository_mount(mountpoint: str, address: str) -> AsyncIterator[None]:
    """Keep the repository view of the daemon at `address` mounted while the context lasts.

    Raises UnavailableError, with the mount's own words, when it can't be mounted.
    """
    from pfsfuse import mount  # here: it loads libfuse, which only a daemon that mounts needs

    process = await trio.lowlevel.open_process(
        mount.mount_command(mountpoint, address), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if not await process.stdout.receive_some():
            words = b"".join([block async for block in process.stderr]).decode(errors="replace").strip()
            raise UnavailableError(words.removeprefix("pachctl: ") or f"{mountpoint} can't be mounted")
        yield
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with trio.move_on_after(STOP_SECONDS):
                    await process.wait()
            if process.poll() is None:
                process.kill()
                await process.wait()
                await trio.to_thread.run_sync(mount.unmount, mountpoint)
