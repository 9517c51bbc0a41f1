"""What the tests of writing through a mount share: finishing, what is there then, and what fails."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable

import pytest

from pachproto import pfs_pb2, pfsd_pb2
from tests.support.daemons import Daemon, commit


def finish(path: pathlib.Path) -> None:
    os.setxattr(path, "user.pfs.finish", b"1")


def stored(daemon: Daemon, branch: str = "master") -> dict[str, bytes]:
    """All files that the daemon has."""
    at = commit("r", branch)
    request = pfsd_pb2.GlobRequest(commit=at, pattern="**", recursive=True)
    found = [info for batch in daemon.store.GlobFiles(request) for info in batch.files]
    return {info.file.path: daemon.get(at, info.file.path) for info in found if info.file_type == pfs_pb2.FILE}


def fails_with(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="Errno") as caught:
        call()
    assert caught.value.errno == number


def described(path: pathlib.Path) -> dict[str, tuple[object, ...]]:
    """What `lstat` says of all below a directory that a commit keeps, links and extended attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for above, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            each = pathlib.Path(above, name)
            status = each.lstat()
            target = os.readlink(each) if each.is_symlink() else ""
            own = [key for key in os.listxattr(each, follow_symlinks=False) if not key.startswith("user.pfs.")]
            attributes = {key: os.getxattr(each, key, follow_symlinks=False) for key in own}
            is_directory = stat.S_ISDIR(status.st_mode)  # whose links and size are not counted
            size, links = (0, 0) if is_directory else (status.st_size, status.st_nlink)
            what = (status.st_mode, links, size, status.st_mtime_ns, status.st_rdev, target, attributes)
            found[str(each.relative_to(path))] = what
    return found
