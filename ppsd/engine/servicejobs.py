"""The course of a service's job: its command runs over one set of commits until there is a newer one.

The output commit, which stays empty, is finished as soon as a worker has the service's datum. So a client that waits
for what comes of an input commit learns that it is served. A command that ends is started again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from pfsd.errors import PfsError, leaves
from ppsd.engine.enumeration import all_datums
from ppsd.engine.jobs import CHECKPOINT_SECONDS, JobContext, JobRun
from ppsd.engine.pool import Outcome, Session, Task
from ppsd.storage.records import JobRecord
from ppsd.storage.registry import output_of

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
"""Between the end of a command and its next start."""
HEALTHY_SECONDS = 60.0
"""A command that ran so long is started again at once."""


class ServiceRun(JobRun):
    """Takes a service's job to its end, which comes when `newer` is set."""

    def __init__(self, job: JobRecord, context: JobContext, notices: Sequence[str], newer: trio.Event) -> None:
        super().__init__(job, context, notices)
        self._newer = newer
        self._handed_out = trio.Event()
        self._ended = trio.Event()
        self._outcome: Outcome | None = None

    async def _compute(self) -> None:
        found = await all_datums(self.job, self._files)
        if len(found) != 1:
            self._failure = f"a service shows one datum, and its input makes {len(found)}: use the glob /"
            return
        await self._count(1, found)
        pause = FIRST_PAUSE_SECONDS
        while not self._newer.is_set() and not self._failure:
            self._handed_out, self._ended = trio.Event(), trio.Event()
            began = trio.current_time()
            self._summon()
            self._pool.submit([Task(self, found[0])])
            try:
                await self._any_of(self._serve, self._newer.wait, self._settled.wait)
            finally:
                self._pool.withdraw(self)
            if self._outcome is not None:
                how = self._outcome.error or "it has ended"
                self._say(f"service {self.job.pipeline} is started again: {how}")
                self._outcome = None
                pause = FIRST_PAUSE_SECONDS if trio.current_time() - began > HEALTHY_SECONDS else pause
                with trio.move_on_after(pause):
                    await self._newer.wait()
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self.job = replace(self.job, processed=0 if self._failure else 1)

    async def _serve(self) -> None:
        """Wait for the command to end; its output commit is finished once it was handed out."""
        await self._handed_out.wait()
        output = output_of(self.job)
        if not (await self._files.inspect_commit(output)).finished:
            await self._files.finish_commit(output)
        while not self._ended.is_set():
            with trio.move_on_after(CHECKPOINT_SECONDS):
                await self._ended.wait()
            self._dismiss_silent()

    async def _any_of(self, *waits: Callable[[], Awaitable[object]]) -> None:
        """Return when one of them does."""
        try:
            async with trio.open_nursery() as nursery:

                async def wait(one: Callable[[], Awaitable[object]]) -> None:
                    await one()
                    nursery.cancel_scope.cancel()

                for one in waits:
                    nursery.start_soon(wait, one)
        except* PfsError as group:
            raise leaves(group)[0] from None

    def task_handed_out(self, task: Task, session: Session) -> None:
        super().task_handed_out(task, session)
        self._handed_out.set()

    def task_ended(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        self._outcome = outcome
        self._ended.set()
