"""Child processes that can't be left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence

import trio

from pfsd.errors import UnavailableError

_PR_SET_PDEATHSIG = 1

ERROR_TAIL_BYTES = 4096
"""How much of what a process writes to its standard error is remembered: the end of it."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Exits at once if process `parent` is gone already. Called first thing in the child, so that the parent
    needs no code between fork and exec.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit("the process that started this one is gone")


class Child:
    """A process in a session of its own, whose standard error is kept (the end of it).

    Start it in the thread of the trio loop: the kernel counts that thread, not the process, as the parent
    whose death kills the child, and trio's helper threads come and go.
    """

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"{command[0]} can't be started: {error.strerror}") from error
        self._pidfd = os.pidfd_open(self._process.pid)
        self._tail = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._tail.decode(errors="replace").strip()

    async def wait(self) -> int:
        """Wait for its end; its exit status, negative for a signal. Cancelling leaves it running."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            await trio.lowlevel.wait_readable(self._pidfd)
            nursery.cancel_scope.deadline = trio.current_time() + 1  # for what is still in the pipe
        self._kill_group()  # before it is reaped: its number, and so its group's, is still its own
        return self._process.wait()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        pipe = trio.lowlevel.FdStream(os.dup(self._process.stderr.fileno()))
        async with pipe:
            async for data in pipe:
                self._tail += data
                del self._tail[:-ERROR_TAIL_BYTES]

    async def stop(self, patience: float) -> None:
        """End it: SIGTERM, after `patience` seconds SIGKILL, for it and what else is in its session's group."""
        with trio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                with trio.move_on_after(patience):
                    await self.wait()
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
                await self.wait()
        self.close()

    def close(self) -> None:
        """Give back what it took; it has ended."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:  # nobody is left in it
            pass
