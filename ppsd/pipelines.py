"""One pipeline's course: a job for every new finished commit of its input branch, in order, one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import trio

from pfsd.errors import FullError, NotFoundError, PfsError, UnavailableError
from ppsd.filesystem import CommitState, FileSystem
from ppsd.jobs import JobRun
from ppsd.launcher import Launcher
from ppsd.logs import LogLine, Logs
from ppsd.pool import Pool
from ppsd.records import JobRecord, JobState, PipelineRecord, PipelineState, ProgressRecord
from ppsd.registry import Registry

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
"""Between tries of what the file system could not do."""


class Pipeline:
    """A pipeline that runs. Level-triggered: `notify` says that its inputs may have moved, and it looks."""

    def __init__(
        self,
        record: PipelineRecord,
        files: FileSystem,
        registry: Registry,
        logs: Logs,
        launcher: Launcher,
    ) -> None:
        self.record = record
        self.progress = ProgressRecord()
        self.pool = Pool()
        self.state = PipelineState.STARTING
        self.recent_error = ""
        self.run_now: JobRun | None = None
        self._files = files
        self._registry = registry
        self._logs = logs
        self._launcher = launcher
        self._moved = trio.Event()
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        self._relaunch = trio.Lock()
        self._nursery: trio.Nursery | None = None
        self._barren = False
        """Whether its workers said that they can't work."""

    @property
    def name(self) -> str:
        return self.record.name

    def notify(self) -> None:
        """The input branch may have moved."""
        self._moved.set()

    async def run(self, launch_now: bool) -> None:
        """Run until `stop`; with `launch_now` the workers start at once, else with the first job."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self.progress = await self._patiently(self._registry.progress, self.name)
                    if launch_now:
                        self.summon()
                    await self._go_on()
                    while True:
                        await self._look()
        finally:
            self._nursery = None
            self._stopped.set()

    async def stop(self) -> None:
        """End `run`; the records stay as they are."""
        self._scope.cancel()
        await self._stopped.wait()

    # --- jobs --------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Take up the jobs that a former run left open."""
        for job in self._registry.open_jobs(self.name):
            again = replace(job, restarts=job.restarts + 1)
            await self._patiently(self._registry.update_job, again)
            await self._run_job(again)

    async def _look(self) -> None:
        """Run a job for each input commit that has had none; where there is none, wait for a change."""
        self._moved = trio.Event()
        commits = await self._patiently(self._new_inputs)
        if not commits:
            if self.state is PipelineState.STARTING:
                self.state = PipelineState.RUNNING
            await self._wait_for_change()
        for commit in commits:
            job = JobRecord(
                id=self._registry.draw_job_id(),
                spec=self.record.spec,
                pipeline_id=self.record.id,
                pipeline_version=self.record.version,
                salt=self.record.salt,
                input=commit.ref,
                started_ns=time.time_ns(),
            )
            self.progress = replace(self.progress, cursor=commit.ref.id)
            await self._patiently(self._registry.add_job, job, self.progress)
            await self._run_job(job)

    async def _run_job(self, job: JobRecord) -> None:
        self.progress = await self._patiently(self._run_once, job.id)

    async def _run_once(self, job_id: str) -> ProgressRecord:
        job = await self._registry.job(job_id)
        if job.state.final:  # the answer to the write that ended it was lost
            return await self._registry.progress(self.name)
        self.run_now = self._job_run(job)
        try:
            return await self.run_now.run(self.progress)
        finally:
            self.run_now = None

    def _job_run(self, job: JobRecord) -> JobRun:
        notices = [*job.spec.unapplied(), *self._launcher.notices(job.spec)]
        return JobRun(job, self._files, self._registry, self._logs, self.pool, self.summon, notices)

    async def kill_open_jobs(self, reason: str) -> None:
        """End the open jobs as killed; `run` is over by then."""
        for job in self._registry.open_jobs(self.name):
            run = self._job_run(job)
            if job.verdict is None:
                await run.decide(JobState.KILLED, reason)
            self.progress = await run.conclude(self.progress)

    # --- inputs ------------------------------------------------------------------------------------------

    async def _new_inputs(self) -> list[CommitState]:
        """The finished commits of the input branch that have had no job, oldest first."""
        cursor = self.progress.cursor
        listed = await self._history(cursor)
        if listed is None and cursor:  # the repo may have been deleted and made again
            listed = await self._history("")
        if listed is None:
            return await self._absent()
        if listed and listed[-1].parent != cursor:
            listed = await self._since_last_job(listed)
        return [commit for commit in reversed(listed) if commit.finished]

    async def _history(self, since: str) -> list[CommitState] | None:
        """The input branch's commits after `since`, newest first; None where there is no such commit or branch."""
        atom = self.record.spec.input
        try:
            return await self._files.list_commits(atom.repo, since, atom.branch, 0)
        except NotFoundError:
            return None

    async def _absent(self) -> list[CommitState]:
        """No input branch: usual before its first commit, noted where the repo itself is gone."""
        repo = self.record.spec.input.repo
        if not await self._files.repo_exists(repo):
            self.recent_error = f"input repo {repo} does not exist"
        return []

    async def _since_last_job(self, listed: list[CommitState]) -> list[CommitState]:
        """The part of a whole history, newest first, before the first commit that had a job or was left out.

        Needed when the branch was pointed at a commit that does not descend from the last one seen.
        """
        done = set(await self._registry.input_has_job(self.record.id))
        atom = self.record.spec.input
        if atom.from_commit:
            try:
                left_out = await self._files.list_commits(atom.repo, "", atom.from_commit, 0)
            except NotFoundError:  # it went with its repo, which was made again
                left_out = []
            done.update(commit.ref.id for commit in left_out)
        new = []
        for commit in listed:
            if commit.ref.id in done:
                break
            new.append(commit)
        return new

    async def _wait_for_change(self) -> None:
        threshold = self.record.spec.scale_down_ns
        if threshold:
            with trio.move_on_after(threshold / 1e9):
                await self._moved.wait()
                return
            if self._launcher.count(self.name) > 1:
                await self._launcher.launch(self.name, self.record.salt, 1)
        await self._moved.wait()

    # --- workers -----------------------------------------------------------------------------------------

    def summon(self) -> None:
        """Make sure that all workers are there, or on their way."""
        if self._nursery is not None:
            self._nursery.start_soon(self._launch)

    async def _launch(self) -> None:
        async with self._relaunch:
            if self._barren:  # they said that they can't work: perhaps they can by now
                await self._launcher.stop(self.name)
                self._barren = False
            count = self.record.spec.workers(nodes=1)
            await self._launcher.launch(self.name, self.record.salt, count)

    def worker_joined(self) -> None:
        """A worker is there."""
        self.state = PipelineState.RUNNING

    def worker_died(self, reason: str) -> None:
        """A worker ended that should not have; the launcher starts another one."""
        self.recent_error = reason
        self._say(reason)

    def workers_hopeless(self, reason: str) -> None:
        """The workers can't work: the pipeline fails, and so does the job that waits for them."""
        if self._barren:
            return
        self._barren = True
        self.state = PipelineState.FAILURE
        self.recent_error = reason
        self._say(f"pipeline {self.name} can't run: {reason}")
        if self.run_now is not None:
            self.run_now.give_up(reason)
        if self._nursery is not None:
            self._nursery.start_soon(self._launcher.stop, self.name)

    # --- trouble -----------------------------------------------------------------------------------------

    async def _patiently(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """What `function` returns, called again and again while the file system is not able to serve it."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await function(*args)
            except (UnavailableError, FullError) as error:
                reason = str(error)
            except PfsError as error:
                reason = str(error)
                pause = LONGEST_PAUSE_SECONDS  # nothing that time alone is likely to heal
            self.recent_error = reason
            logger.warning("pipeline %s waits %.1f s: %s", self.name, pause, reason)
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _say(self, text: str) -> None:
        logger.warning("pipeline %s: %s", self.name, text)
        self._logs.add(self.name, LogLine(time.time_ns(), text, master=True))
