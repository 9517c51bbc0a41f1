"""Where a mount leaves what it could not write: a directory that its errors name."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from fuse.opennodes import OpenFile
from fuse.scratch import FETCH_BYTES, BaseReader
from pfsd.errors import PfsError

log = logging.getLogger(__name__)


def kept_directory() -> Path:
    """The directory of this process, in $XDG_STATE_HOME (by default ~/.local/state); it need not exist."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "pfs" / f"unwritten-{os.getpid()}"


async def keep(directory: Path, node: OpenFile, content: BaseReader) -> Path:
    """Write what a file holds below REPO/COMMIT in `directory`, and return where.

    What the store does not give any more is left as zeros; the name then ends in `.partial`.
    """
    scratch, snapshot = node.to_scratch(), node.commit.snapshot
    target = directory.joinpath(snapshot.repo, snapshot.commit, *node.path())
    try:
        await scratch.fill(content, 0)
    except PfsError as error:
        log.error("%s is kept without what the store has of it: %s", target, error)
        target = target.with_name(target.name + ".partial")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        for at in range(0, scratch.size, FETCH_BYTES):
            file.write(scratch.local(at, min(at + FETCH_BYTES, scratch.size)))
    os.replace(file.name, target)
    return target
