"""Looking up paths of this process's own mount.

A thread of this process must not do that: killed while it waits for the answer, it would never end, and neither would
the mount.
"""

from __future__ import annotations

import os
import subprocess
from types import TracebackType

import trio

_LOOK = 'while IFS= read -r path; do test -e "$path" && echo 1 || echo 0; done'


class Walker:
    """A shell that looks up paths; it ends with this process, whatever ends that."""

    def __init__(self) -> None:
        self._process: trio.Process | None = None
        self._lock = trio.Lock()

    async def look_up(self, path: str) -> bool:
        """Have the kernel walk along an absolute path; whether that led somewhere."""
        if "\n" in path:  # it could not be told the shell
            return False
        async with self._lock:
            if self._process is None:
                self._process = await trio.lowlevel.open_process(
                    ["/bin/sh", "-c", _LOOK],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd="/",
                    start_new_session=True,
                )
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                await process.stdin.send_all(os.fsencode(path) + b"\n")
                if answer := await process.stdout.receive_some(2):
                    return bytes(answer[:1]) == b"1"
            except trio.BrokenResourceError:
                pass
            except trio.Cancelled:
                self._end()
                raise
            self._end()
            return False

    def _end(self) -> None:
        """Give the shell up: its next answer would be that of another question."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.poll()

    def __enter__(self) -> Walker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
