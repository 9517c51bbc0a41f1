"""Unmounts here what is unmounted outside of this process's mount namespace, where the kernel does not do that.

A namespace that was made as a copy keeps all file systems in use that were mounted then. Mounts below shared ones go
when they go outside. For those below private ones, the list of mounts of the namespace outside is watched.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import threading
from collections import Counter

from pfsfuse.kernel.mounts import MOUNTINFO, Mount, parse, present

log = logging.getLogger(__name__)

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_PIECE = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)

_Identity = tuple[str, str, str]


class Outside:
    """The list of mounts of the namespace in which this process is now, also once it has left. Raises OSError."""

    def __init__(self) -> None:
        self._fd = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._fd, select.POLLPRI)

    def wait(self) -> None:
        """Wait until something was mounted or unmounted since the last call."""
        self._changes.poll()

    def present(self) -> list[Mount]:
        """What is mounted there now."""
        data, offset = bytearray(), 0
        while piece := os.pread(self._fd, _PIECE, offset):
            data += piece
            offset += len(piece)
        return parse(data.decode(errors="surrogateescape").splitlines())


def follow(outside: Outside) -> None:
    """From now on, unmount here what was copied from `outside` and is unmounted there: in a thread, to the end of the
    process. Call it before anything is mounted here.
    """
    copied = {mount.number: _identity(mount) for mount in present()}
    threading.Thread(target=_follow, args=(outside, copied), name="mounts", daemon=True).start()


def _follow(outside: Outside, copied: dict[int, _Identity]) -> None:
    while copied:
        try:
            _drop_gone(outside, copied)
            outside.wait()
        except OSError as error:
            log.warning("what is unmounted outside stays in use here from now on: %s", error)
            return


def _drop_gone(outside: Outside, copied: dict[int, _Identity]) -> None:
    """Unmount those copies that have no original any more, and forget them."""
    there = Counter(map(_identity, outside.present()))
    here = present()
    left = {mount.number: _identity(mount) for mount in here}
    # Those that went otherwise; numbers are used again.
    for number in [number for number, identity in copied.items() if left.get(number) != identity]:
        del copied[number]
    surplus = Counter(copied.values()) - there
    covered: set[str] = set()
    for mount in reversed(here):
        identity = copied.get(mount.number)
        # What is mounted over something else can't be named until that is gone.
        if identity is not None and surplus[identity] > 0 and mount.target not in covered:
            surplus[identity] -= 1
            del copied[mount.number]
            if _libc.umount2(os.fsencode(mount.target), _UMOUNT_NOFOLLOW | _MNT_DETACH) != 0:
                # In a user namespace nobody may. It would be asked for in vain each time.
                log.info("%s is unmounted outside and stays here: %s", mount.target, os.strerror(ctypes.get_errno()))
                covered.add(mount.target)
        else:
            covered.add(mount.target)


def _identity(mount: Mount) -> _Identity:
    """By which a copy and its original are known: numbers are each namespace's own."""
    return mount.device, mount.root, mount.target
