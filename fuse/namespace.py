"""A mount namespace of one's own, in which a worker mounts its /pfs unseen by others."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from pfsd.errors import UnavailableError

PFS = "/pfs"

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def enter_private_namespace() -> None:
    """Move this process to a mount namespace whose mounts no other process sees, and see to it that /pfs
    exists.

    Call it before the process starts threads. As another user than root the process enters a user namespace
    too, as itself, which is what lets it mount. Raises UnavailableError where the system does not allow it.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("enter_private_namespace was called after threads were started")
    uid, gid = os.geteuid(), os.getegid()
    _make_pfs(uid)
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
    _mount("none", "/", _MS_REC | _MS_PRIVATE)


def bind(source: str, target: str) -> None:
    """Make `target`, a directory, show what `source` holds. Raises UnavailableError.

    When this process serves `target` itself, call it in a thread.
    """
    _mount(source, target, _MS_BIND)


def _make_pfs(uid: int) -> None:
    if os.path.isdir(PFS):
        return
    try:
        os.makedirs(PFS, 0o755, exist_ok=True)  # another worker may make it just now
    except OSError as error:
        hint = "" if uid == 0 else ": create it once as root (mkdir /pfs)"
        raise UnavailableError(f"the directory {PFS} can't be made ({error.strerror}){hint}") from error


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        raise UnavailableError(f"{source} can't be mounted on {target}: {_error()}")


def _error() -> str:
    return os.strerror(ctypes.get_errno())
