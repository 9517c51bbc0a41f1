"""The mounts of this machine: finding ours, and ending them, also when the process behind one is gone."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import NotFoundError, PfsError, StateError, UnavailableError

SUBTYPE = "pfs"
FLUSH = b"user.pfs.flush"
"""Setting this attribute sends what was written through a mount, or fails."""
KEPT = b"user.pfs.kept"
"""Of the root of a mount: the directory where it keeps what it can't write."""
CALLS = b"user.pfs.calls"
"""Of the root of a mount: how many calls it has made of the daemon."""
REQUESTS = b"user.pfs.requests"
"""Of the root of a mount: how many requests of each kind the kernel has made, as `lookup 12 getattr 3`."""

MOUNTINFO = "/proc/self/mountinfo"
"""What is mounted in the namespace of the process that opens it, and stays in that one: see proc(5)."""

_FLUSH_SECONDS = 30.0
_NOT_A_WRITABLE_MOUNT = (errno.ENODATA, errno.EOPNOTSUPP, errno.EROFS, errno.ENOTCONN, errno.ECONNABORTED, errno.EACCES)
_TYPE = f"fuse.{SUBTYPE}"
_MNT_FORCE = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_ESCAPE = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of `MOUNTINFO`."""

    target: str
    """Where it is mounted."""
    device: str
    """MAJOR:MINOR."""
    type: str
    source: str
    """Ours say `pfs:ADDRESS`, or `pfs:job` for a worker's."""
    number: int
    """Its own in its namespace, while it is there."""
    root: str
    """Which directory of the file system it shows."""
    parent: int
    """The number of the mount that it lies on."""
    follows: bool
    """Whether what is mounted and unmounted on another mount, in another namespace, is here too."""

    @property
    def is_ours(self) -> bool:
        return self.type == _TYPE


def source_options(what: str) -> set[str]:
    """The mount options by which `present` and `df` name a mount of `what`."""
    # libfuse splits options at commas
    return {f"subtype={SUBTYPE}", f"fsname={SUBTYPE}:{what.replace(',', ' ')}"}


def present() -> list[Mount]:
    """What is mounted in this process's namespace, in the order of mounting."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return parse(file)


def parse(lines: Iterable[str]) -> list[Mount]:
    """What the lines of a `MOUNTINFO` say."""
    return [_parse(line) for line in lines]


def mount_at(path: str) -> Mount | None:
    """The topmost mount on `path`, which need not answer any more."""
    target = _absolute(path)
    return next((mount for mount in reversed(present()) if mount.target == target), None)


def unmount(path: str) -> None:
    """Unmount a mount of ours, also one in use, and one whose process or daemon is gone.

    In use, it leaves its place at once and ends with its last user. Raises NotFoundError when there is no mount of
    ours on `path`, UnavailableError when the system refuses, or when not all that was written could be sent: the
    mount is gone then too, and the error says where the rest is kept.
    """
    found = mount_at(path)
    if found is None:
        raise NotFoundError(f"{path} is not mounted")
    if not found.is_ours:
        raise StateError(f"{path} is mounted, but not by this program ({found.type}): use umount")
    unwritten = _flush(found.target)
    if os.geteuid() == 0:
        _unmount_as_root(found.target)
    else:
        _unmount_as_user(found.target)
    if unwritten:
        raise UnavailableError(f"{found.target} is unmounted, but {unwritten}")


def unmount_all() -> list[str]:
    """Unmount every mount of ours; returns where they were. Raises what `unmount` does once all were
    tried.
    """
    targets = [mount.target for mount in reversed(present()) if mount.is_ours]
    failed: PfsError | None = None
    for target in targets:
        try:
            unmount(target)
        except PfsError as error:
            failed = error
    if failed is not None:
        raise failed
    return targets


def detach(path: str, *, following: bool = True) -> None:
    """Take away all that is mounted on `path` and below it, whoever uses it and whether or not it answers.

    Where `path` lies on a shared mount, it goes from the namespaces that have it from there. Without `following`, what
    goes by itself is left: what lies on a mount that follows another namespace's. Raises UnavailableError.
    """
    top = _absolute(path)
    below = top.rstrip("/") + "/"
    while True:
        here = present()
        followers = set() if following else {mount.number for mount in here if mount.follows}
        found = [
            mount.target
            for mount in here
            if (mount.target == top or mount.target.startswith(below)) and mount.parent not in followers
        ]
        if not found:
            return
        if _libc.umount2(os.fsencode(found[-1]), _UMOUNT_NOFOLLOW | _MNT_DETACH) != 0:
            number = ctypes.get_errno()
            if mount_at(found[-1]) is not None:  # else somebody was faster
                raise UnavailableError(f"{found[-1]} can't be unmounted: {os.strerror(number)}")


@contextlib.contextmanager
def aborting(own: Mount | None) -> Iterator[None]:
    """The block gives up this process's own mount; requests that nobody will answer any more fail.

    The kernel has them fail when the last descriptor of a session is closed. A thread that tells the kernel of a name
    keeps one open while it waits for a program that has the directory locked, and that may wait for an answer: neither
    would ever end, nor this process. Root unmounts by force, unless another mount has taken the place; other users
    abort the connection where this machine shows it.
    """
    with contextlib.ExitStack() as stack:
        control = None
        if own is not None and os.geteuid() == 0:
            found = mount_at(own.target)
            if found is not None and found.number == own.number:
                _libc.umount2(os.fsencode(own.target), _UMOUNT_NOFOLLOW | _MNT_DETACH | _MNT_FORCE)
        elif own is not None:
            # Opened now: later the number may be another mount's.
            connection = Path("/sys/fs/fuse/connections", own.device.partition(":")[2])
            with contextlib.suppress(OSError):
                control = stack.enter_context((connection / "abort").open("wb", buffering=0))
        yield
        if control is not None:
            with contextlib.suppress(OSError):
                control.write(b"1")


def flush(path: str) -> None:
    """Send what was written through the mount on `path`. Raises OSError as `setxattr` does."""
    os.setxattr(path, FLUSH, b"")


def _flush(target: str) -> str:
    """Send what was written, for a while; returns what is to be said where that failed."""
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()

    def send() -> None:
        try:
            where = os.fsdecode(os.getxattr(target, KEPT))
            answer.put(f"what was written may not be in the store yet: look into {where}")
            flush(target)
            answer.put("")
        except OSError as error:
            if error.errno in _NOT_A_WRITABLE_MOUNT:
                answer.put("")

    # A mount whose process does not answer would hold this one up.
    asking = threading.Thread(target=send, daemon=True)
    asking.start()
    asking.join(_FLUSH_SECONDS)
    said = ""
    while not answer.empty():
        said = answer.get()
    return said


def _unmount_as_root(target: str) -> None:
    path = os.fsencode(target)
    for flags in (_UMOUNT_NOFOLLOW, _UMOUNT_NOFOLLOW | _MNT_DETACH):
        if _libc.umount2(path, flags) == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EINVAL:  # somebody else was faster
            return
    raise UnavailableError(f"{target} can't be unmounted: {os.strerror(number)}")


def _unmount_as_user(target: str) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise UnavailableError(
            f"{target} can't be unmounted: install fuse3 for the program fusermount3, or do it as root"
        )
    for flags in (["-u"], ["-u", "-z"]):
        done = subprocess.run([program, *flags, "--", target], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise UnavailableError(f"{target} can't be unmounted: {done.stderr.strip()}")


def _absolute(path: str) -> str:
    """The real path without touching what `path` itself names: a mount whose process is gone answers
    nothing.
    """
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


def _parse(line: str) -> Mount:
    """See proc(5): before ' - ' are six fields and the propagation, after it type, source and options."""
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    kind, source = right.split(" ")[:2]
    follows = any(field.startswith("master:") for field in fields[6:])
    return Mount(
        _unescape(fields[4]), fields[2], kind, _unescape(source), int(fields[0]), fields[3], int(fields[1]), follows
    )


def _unescape(text: str) -> str:
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
    return raw
