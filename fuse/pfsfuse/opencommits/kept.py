"""Where a mount leaves what it could not write: a directory that its errors name."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from pfsd.errors import PfsError
from pfsd.local.disk import write_all
from pfsfuse.kernel.errnos import locally
from pfsfuse.opencommits.opennodes import OpenFile
from pfsfuse.opencommits.scratch import FETCH_BYTES, BaseReader

log = logging.getLogger(__name__)


def kept_directory() -> Path:
    """The directory of this process, in $XDG_STATE_HOME (by default ~/.local/state); it need not exist."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "pfs" / f"unwritten-{os.getpid()}"


async def keep(directory: Path, node: OpenFile, content: BaseReader) -> Path:
    """Write what a file holds below REPO/COMMIT in `directory`, and return where; its holes stay holes.

    What the store does not give any more is left as zeros; the name then ends in `.partial`. Raises LocalError when
    this machine does not take it.
    """
    scratch, snapshot = node.to_scratch(), node.commit.snapshot
    target = directory.joinpath(snapshot.repo, snapshot.commit, *node.path())
    with locally(f"{target} can't be kept"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            try:
                fd = file.fileno()
                try:
                    async for at, data in scratch.absent(content):
                        write_all(fd, data, at)
                except PfsError as error:
                    log.error("%s is kept without what the store has of it: %s", target, error)
                    target = target.with_name(target.name + ".partial")
                for start, end, is_data in scratch.written():
                    for at in range(start, end if is_data else start, FETCH_BYTES):
                        write_all(fd, scratch.local(at, min(at + FETCH_BYTES, end)), at)
                os.truncate(fd, scratch.size)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    return target
