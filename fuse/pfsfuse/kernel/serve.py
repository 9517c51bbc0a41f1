"""Mounting a file system of this process and serving it until the end of a block.

pyfuse3 keeps its session in globals: a process serves one mount at a time.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import stat
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pyfuse3
import trio

from pfsd.errors import StateError, UnavailableError
from pfsd.runtime.groups import ungrouped
from pfsfuse.kernel.mounts import aborting, mount_at

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None)

_READ_AHEAD_KB = 1024
_DEVICE = "/dev/fuse"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_FREE_BYTES = 32 << 20
_COLLECTED_AFTER = 10_000, 20, 20
"""How often cycles are looked for: less often than Python does, as inodes are many and in none."""


@asynccontextmanager
async def mounted(
    operations: pyfuse3.Operations,
    mountpoint: str,
    *,
    options: Collection[str] = (),
    over: bool = False,
    debug: bool = False,
) -> AsyncIterator[trio.Event]:
    """Serve `operations` at `mountpoint` for the block; whatever happens, it is unmounted at the end.

    Gives an event that is set when somebody else unmounts it. `options` are mount options (`ro`,
    `fsname=...`); with `over`, another mount of
    ours may be there already; `debug` makes libfuse print each request on standard error. Raises StateError where it
    can't be mounted there, UnavailableError where this process may not mount at all.
    """
    await trio.to_thread.run_sync(functools.partial(check_mountpoint, mountpoint, over=over))
    check_device()
    _keep_freed_memory()
    gc.set_threshold(*_COLLECTED_AFTER)
    wanted = {*options, "debug"} if debug else set(options)
    try:
        pyfuse3.init(operations, mountpoint, wanted)
    except RuntimeError as error:
        raise UnavailableError(
            f"{mountpoint} can't be mounted: this user may not mount FUSE file systems here ({error})"
        ) from error
    own = mount_at(mountpoint)
    ended = trio.Event()
    try:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_serve, ended)
                await trio.to_thread.run_sync(_raise_read_ahead, mountpoint, abandon_on_cancel=True)
                yield ended
                nursery.cancel_scope.cancel()
    finally:
        with aborting(own):
            pyfuse3.close(unmount=True)


def _keep_freed_memory() -> None:
    """Have malloc use the memory of one chunk for the next: fresh pages for each cost a sixth of a cold read's time."""
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        if not _libc.mallopt(parameter, _KEPT_FREE_BYTES):
            log.debug("malloc does not take parameter %d", parameter)


async def _serve(ended: trio.Event) -> None:
    try:
        await pyfuse3.main()
    finally:
        ended.set()


def check_mountpoint(mountpoint: str, *, over: bool = False) -> None:
    """Raise StateError unless `mountpoint` is a directory on which, but with `over`, nothing of ours is mounted."""
    found = mount_at(mountpoint)
    if found is not None and found.is_ours and not over:
        raise StateError(f"{mountpoint} is a mount already: unmount it first ({found.source})")
    try:
        mode = os.stat(mountpoint).st_mode
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StateError(f"{mountpoint} can't be mounted on: {reason}") from error
    if not stat.S_ISDIR(mode):
        raise StateError(f"{mountpoint} can't be mounted on: it is not a directory")


def check_device() -> None:
    """Raise UnavailableError when FUSE can't be used by this process."""
    if not os.path.exists(_DEVICE):
        raise UnavailableError(f"there is no {_DEVICE}: load the kernel module fuse, or give the container the device")
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise UnavailableError(
            f"{_DEVICE} can't be opened by this user: mount as root, or give the user the right to it"
        )


def _raise_read_ahead(mountpoint: str) -> None:
    """Let the kernel ask for 1 MiB at a time; only root may, and reading works without.

    Asking for the attributes first makes sure that the kernel has begun the session, which sets the default.
    """
    device = os.stat(mountpoint).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        Path(f"/sys/class/bdi/{name}/read_ahead_kb").write_text(str(_READ_AHEAD_KB))
    except OSError as error:
        log.debug("read-ahead stays at the kernel's default: %s", error)
