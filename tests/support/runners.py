"""Runners for the tests, and what their commands write. PFS_RUNNER names another build to test."""

from __future__ import annotations

import os
import pathlib
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

import ppsd.worker.runner
from ppsd.worker.runner import STDERR, STDOUT, Finished, Runner

STATIC = pathlib.Path(ppsd.worker.runner.__file__).with_name("pfs-runner")
PROGRAM = os.environ.get("PFS_RUNNER", str(STATIC))
ENV = {"PATH": "/usr/bin:/bin"}
LIMIT = 60.0
"""Seconds after which a test that hangs fails."""

RUNAWAY = "setsid sh -c 'sleep 1000 & echo $!'"
"""Shell code that leaves a process behind in another session, with our output open, and prints its PID."""


@dataclass
class Outputs:
    """Collects what a command writes; `ready` is set after that many lines on standard output."""

    lines: int = 1
    data: dict[int, bytearray] = field(default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()})
    ready: trio.Event = field(default_factory=trio.Event)

    def __call__(self, which: int, data: bytes) -> None:
        self.data[which] += data
        if which == STDOUT and not self.ready.is_set():
            self.lines -= data.count(b"\n")
            if self.lines <= 0:
                self.ready.set()

    @property
    def stdout(self) -> bytes:
        return bytes(self.data[STDOUT])

    @property
    def stderr(self) -> bytes:
        return bytes(self.data[STDERR])


@asynccontextmanager
async def opened() -> AsyncIterator[Runner]:
    with trio.fail_after(LIMIT):
        async with Runner.open(PROGRAM, os.environ) as runner:
            yield runner


async def run(
    runner: Runner, *argv: str, env: dict[str, str] = ENV, cwd: str = "/", stdin: bytes = b""
) -> tuple[Finished, Outputs]:
    outputs = Outputs()
    return await runner.run(argv, env=env, cwd=cwd, stdin=stdin, on_output=outputs), outputs


def ended(pid: int) -> bool:
    """Whether the process is gone and reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for_end(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        readable, _, _ = select.select([pidfd], [], [], LIMIT)
        assert readable, "a process did not end"


async def until(condition: Callable[[], bool]) -> None:
    """For states that nothing tells about."""
    while not condition():
        await trio.sleep(0.005)


CLIENT = f"""
import os, sys, trio
from ppsd.worker.runner import Runner

def show(which, data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()

async def main():
    async with Runner.open({PROGRAM!r}, os.environ) as runner:
        script = sys.argv[1]
        if sys.argv[2:]:
            await runner.enclose(sys.argv[2:])
        await runner.run(["sh", "-c", script], env={ENV!r}, cwd="/", on_output=show)

trio.run(main)
"""
