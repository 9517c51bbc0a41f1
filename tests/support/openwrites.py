"""What the tests of writing through a mount share: finishing, what the daemon has then, and what fails."""

from __future__ import annotations

import os
import pathlib
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
