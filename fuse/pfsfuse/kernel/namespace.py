"""A mount namespace of its own, in which a worker mounts its /pfs unseen by others.

It begins as a copy of all mounts, and a copy keeps file systems in use. So what is unmounted outside has to be
unmounted here too. The kernel does that where the mount below is shared, as on most systems. Where it is private, as
in most containers, a thread does it (`pfsfuse.kernel.outermounts`).
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from pfsd.errors import UnavailableError
from pfsfuse.kernel import outermounts
from pfsfuse.kernel.mounts import detach

log = logging.getLogger(__name__)

PFS = "/pfs"

MS_RDONLY = 1
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_MS_SHARED = 0x100000
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter_private_namespace() -> None:
    """Move this process to a mount namespace whose mounts no other process sees, and see to it that /pfs
    exists and can be mounted on.

    Call it before the process starts threads. As another user than root the process enters a user namespace
    too, as itself, which is what lets it mount. Raises UnavailableError where the system does not allow it.

    What is unmounted outside is unmounted here, in whatever use. Only in a user namespace, of mounts that lie on
    private ones, the kernel lets nobody take away what was there before: those stay as long as the process.
    """
    _make_pfs(os.geteuid())
    enter_own_namespace()
    try:
        # What goes by itself is mounted over: in its place, our own mount would be taken for it and go instead.
        detach(PFS, following=False)
    except UnavailableError as error:  # in a user namespace: then it is mounted over
        log.debug("what others have mounted stays: %s", error)


def enter_own_namespace() -> None:
    """The same with /pfs as it is."""
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a mount namespace was to be entered after threads were started")
    uid, gid = os.geteuid(), os.getegid()
    outside = outermounts.Outside()
    flags = _CLONE_NEWNS if uid == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if _libc.unshare(flags) != 0:
        raise UnavailableError(
            f"a mount namespace can't be made ({_error()}): run as root, or allow user namespaces "
            "(sysctl kernel.unprivileged_userns_clone, or the container's security profile)"
        )
    if uid != 0:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        except OSError as error:
            raise UnavailableError(f"a user namespace can't be set up ({error}): run as root") from error
    # What happens outside comes in, and nothing goes out; what happens here goes on to namespaces made of this one.
    try:
        _mount("none", "/", flags=_MS_REC | _MS_SLAVE)
        _mount("none", "/", flags=_MS_REC | _MS_SHARED)
    except UnavailableError as error:
        raise UnavailableError(
            f"this process's mounts can't be kept apart ({error}): if it runs in a chroot, whose root is an ordinary "
            "directory, mount that on itself before (mount --bind DIR DIR)"
        ) from error
    outermounts.follow(outside)


def bind(source: str, target: str) -> None:
    """Make `target`, a directory, show what `source` holds. Raises UnavailableError.

    When this process serves `target` itself, call it in a thread.
    """
    _mount(source, target, flags=_MS_BIND)


def mount_memory(target: str, size: int) -> None:
    """Mount an empty directory over `target`, kept in memory, for at most `size` bytes. Raises UnavailableError."""
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, f"size={size},mode=755")


def make_readonly(target: str) -> None:
    """Let nobody write any more to what `mount_memory` mounted. Raises UnavailableError."""
    _mount("none", target, flags=_MS_REMOUNT | MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _make_pfs(uid: int) -> None:
    if os.path.isdir(PFS):
        return
    try:
        os.makedirs(PFS, 0o755, exist_ok=True)  # another worker may make it just now
    except OSError as error:
        hint = "" if uid == 0 else ": create it once as root (mkdir /pfs)"
        raise UnavailableError(f"the directory {PFS} can't be made ({error.strerror}){hint}") from error


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    if _libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3]) != 0:
        raise UnavailableError(f"{source} can't be mounted on {target}: {_error()}")


def _error() -> str:
    return os.strerror(ctypes.get_errno())
