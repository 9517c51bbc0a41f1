"""Runs one pipeline: a job for every new set of finished commits of its inputs, in order, one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import trio

from pfsd.errors import FullError, UnavailableError
from pfsd.runtime.apart import apart, known_error, reason_of
from ppsd.engine import cron
from ppsd.engine.cron import Clock
from ppsd.engine.heads import Heads, InputSet, Lineage
from ppsd.engine.jobs import JobContext, JobRun
from ppsd.engine.launcher import Launcher
from ppsd.engine.pool import Pool
from ppsd.engine.servicejobs import ServiceRun
from ppsd.specs import inputs, spec
from ppsd.specs.inputs import Source
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.filesystem import CommitRef, FileSystem
from ppsd.storage.logs import LogLine, Logs
from ppsd.storage.records import JobRecord, JobState, PipelineRecord, PipelineState, ProgressRecord
from ppsd.storage.registry import Registry

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
"""Between tries of what the file system could not do."""
LONGEST_DEFECT_PAUSE_SECONDS = 1800.0
"""Between tries of what meets a defect each time."""


class Pipeline:
    """A pipeline that runs. Level-triggered: `notify` says that its inputs may have moved, and it looks.

    `lineage` says what a source is computed from.
    """

    def __init__(
        self,
        record: PipelineRecord,
        files: FileSystem,
        registry: Registry,
        logs: Logs,
        launcher: Launcher,
        lineage: Callable[[Source], Lineage],
    ) -> None:
        self.record = record
        self.repos = frozenset([record.name, *inputs.repos(record.spec.input)])
        """Those that it writes to and reads."""
        self.progress = ProgressRecord()
        self.pool = Pool()
        self.state = PipelineState.STARTING
        self.recent_error = ""
        self.run_now: JobRun | None = None
        self.under_way = trio.Event()
        """Set once the output commit of its first job is there, or nothing is to do."""
        self._files = files
        self._registry = registry
        self._logs = logs
        self._launcher = launcher
        self._lineage = lineage
        self._heads: Heads
        """Set as `run` begins."""
        self._later: list[InputSet] = []
        """Sets that were found while a service ran."""
        self._newer = trio.Event()
        """Set when the service that runs is to make room for one over newer commits."""
        self._stop_jobs: dict[str, str] = {}
        """Jobs that are to end as killed, each with the reason."""
        self._moved = trio.Event()
        self._scope = trio.CancelScope()
        self._stopped: trio.Event | None = None
        """Set when `run` is over; None while it has not begun."""
        self._relaunch = trio.Lock()
        self._nursery: trio.Nursery | None = None
        self._clocks = trio.CancelScope()
        """Of the clocks that tick for its cron inputs."""
        self._barren = False
        """Whether its workers said that they can't work."""
        self._standstill = ""
        """Why it makes no jobs for the moment; empty where it does."""

    @property
    def name(self) -> str:
        return self.record.name

    def notify(self) -> None:
        """An input branch may have moved, or a job may have been asked for."""
        self._moved.set()

    async def run(self, launch_now: bool) -> None:
        """Run until `stop`; with `launch_now` the workers start at once, else with the first job."""
        stopped = self._stopped = trio.Event()
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self.progress = await self._patiently(self._registry.progress, self.name)
                    self.recent_error = self.recent_error or self.progress.trouble
                    self._start_clocks()
                    if launch_now:
                        what = f"preparing workers of pipeline {self.name}"
                        self._nursery.start_soon(apart, what, self._complain, self._prepare)
                    made = await self._patiently(self._registry.input_has_job, self.record.id)
                    sources = inputs.sources(self.record.spec.input)
                    heads = self._heads = Heads(sources, self.progress, set(made), self._files, self._lineage)
                    await self._go_on()
                    while True:
                        await self._look(heads)
        finally:
            self._nursery = None
            self.under_way.set()
            stopped.set()

    async def stop(self) -> None:
        """End `run`; the records stay as they are."""
        self._scope.cancel()
        if self._stopped is not None:
            await self._stopped.wait()

    @property
    def runs(self) -> bool:
        """Whether `run` has begun and is not over."""
        return self._stopped is not None and not self._stopped.is_set()

    def revise(self, record: PipelineRecord) -> None:
        """Go on as a version that computes the same."""
        self.record = record
        self._start_clocks()
        self.summon()

    # --- cron inputs -------------------------------------------------------------------------------------

    def _start_clocks(self) -> None:
        """Let the clocks of this version tick, in the place of those of a former one."""
        self._clocks.cancel()
        clocks = [Clock(repo, one, self._files, self._say) for repo, one in cron.crons(self.record.spec).items()]
        self._clocks = trio.CancelScope()
        if clocks and self._nursery is not None:
            what = f"the clock of pipeline {self.name}"
            self._nursery.start_soon(apart, what, self.fail, self._tick, clocks, self._clocks)

    async def _tick(self, clocks: Sequence[Clock], scope: trio.CancelScope) -> None:
        async def run(clock: Clock) -> None:
            while True:
                await self._patiently(clock.tick)

        with scope:
            async with trio.open_nursery() as nursery:
                for clock in clocks:
                    nursery.start_soon(run, clock)

    # --- jobs --------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Take up the jobs that a former run left open."""
        for job in self._registry.open_jobs(self.name):
            if job.output is not None or not job.requested:
                job = replace(job, restarts=job.restarts + 1)
                await self._patiently(self._registry.update_job, job)
            await self._run_job(job)

    async def _look(self, heads: Heads) -> None:
        """Run the jobs that were asked for and one for each new set of commits; for want of both, wait for a change."""
        self._moved = trio.Event()
        await self._run_requested()
        self._note_standstill(await self._patiently(self._missing_repo))
        sets: list[InputSet] = []
        if not self._standstill:
            sets, self._later = self._later or await self._patiently(heads.next_sets), []
        if not sets:
            if self.state is PipelineState.STARTING:
                self.state = PipelineState.RUNNING
            self.under_way.set()
            await self._wait_for_change()
        for left, one in zip(reversed(range(len(sets))), sets, strict=True):
            await self._run_requested()
            job = self.new_job(one.commits)
            heads_used = tuple(commit.id for commit in one.commits)
            self.progress = replace(self.progress, cursors=one.cursors, heads=heads_used)
            await self._patiently(self._registry.add_job, job, self.progress, one.key)
            await self._run_job(job, outdated=left > 0)

    async def _run_requested(self) -> None:
        for job in self._registry.open_jobs(self.name):
            await self._run_job(job)

    def new_job(
        self, commits: Sequence[CommitRef], requested: bool = False, wanted: PipelineSpec | None = None
    ) -> JobRecord:
        """A job of this version for a set of commits, one of each source; `wanted` is its spec, if it is another."""
        own = wanted or self.record.spec
        job_id = self._registry.draw_job_id()
        alone = not spec.same_computation(own, self.record.spec)
        source_commits = dict(zip(inputs.sources(self.record.spec.input), commits, strict=True))
        return JobRecord(
            id=job_id,
            spec=own,
            pipeline_id=self.record.id,
            pipeline_version=self.record.version,
            salt=f"{self.record.salt}-{job_id}" if alone else self.record.salt,
            inputs=tuple(source_commits[inputs.source_of(atom)] for atom in inputs.atoms(self.record.spec.input)),
            started_ns=time.time_ns(),
            requested=requested,
        )

    async def _missing_repo(self) -> str:
        """What to say of a repo without which the pipeline stands still; empty where all are there."""
        for repo in sorted(self.repos):
            if not await self._files.repo_exists(repo):
                what = "output" if repo == self.name else "input"
                return f"{what} repo {repo} was deleted: make it again, or delete the pipeline"
        return ""

    def _note_standstill(self, reason: str) -> None:
        """Show that the pipeline stands still, or with an empty reason that it goes on."""
        former, self._standstill = self._standstill, reason
        if reason and reason != former:
            self._say(f"pipeline {self.name} stands still: {reason}")
        if reason:
            self.state, self.recent_error = PipelineState.FAILURE, reason
        elif former:
            self.state = PipelineState.RUNNING
            self.recent_error = "" if self.recent_error == former else self.recent_error

    async def _run_job(self, job: JobRecord, outdated: bool = False) -> None:
        """Take a job to its end; `outdated` says that another one is to follow at once."""
        former = self.progress.trouble
        if job.spec.service is None:
            self.progress = await self._patiently(self._run_once, job.id)
        else:
            self._newer = trio.Event()
            if outdated:
                self._newer.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_for_newer)
                self.progress = await self._patiently(self._run_once, job.id)
                nursery.cancel_scope.cancel()
        self._stop_jobs.pop(job.id, None)
        if self.progress.trouble:
            self.recent_error = self.progress.trouble
        elif self.recent_error == former:
            self.recent_error = ""

    async def _look_for_newer(self) -> None:
        """Tell a service that runs when there are newer commits for it, or another job was asked for."""
        while not self._newer.is_set():
            self._moved = trio.Event()
            self._later = await self._patiently(self._heads.next_sets)
            if self._later or len(self._registry.open_jobs(self.name)) > 1:
                self._newer.set()
            else:
                await self._moved.wait()

    async def _run_once(self, job_id: str) -> ProgressRecord:
        job = await self._registry.job(job_id)
        if job.state.final:  # the answer to the write that ended it was lost
            return await self._registry.progress(self.name)
        self.run_now = self._job_run(job)
        if job_id in self._stop_jobs:
            self.run_now.stop(self._stop_jobs[job_id])
        try:
            return await self.run_now.run(self.progress)
        finally:
            self.run_now = None

    def _job_run(self, job: JobRecord) -> JobRun:
        notices = [*job.spec.unapplied(), *self._launcher.notices(job.spec)]
        context = JobContext(
            self._files, self._registry, self._logs, self.pool, self.summon, self.dismiss, self.under_way.set
        )
        if job.spec.service is None:
            return JobRun(job, context, notices)
        return ServiceRun(job, context, notices, self._newer)

    async def kill_open_jobs(self, reason: str) -> None:
        """End the open jobs as killed, without a trace in the output repo; `run` is over by then."""
        for job in self._registry.open_jobs(self.name):
            await self.kill_job(job, reason, discard=True)

    async def kill_job(self, job: JobRecord, reason: str, discard: bool = False) -> None:
        """End an open job as killed; `run` is over by then."""
        run = self._job_run(job)
        if job.verdict is None:
            await run.decide(JobState.KILLED, reason, discard)
        self.progress = await run.conclude(await self._registry.progress(self.name))

    def stop_job(self, job_id: str, reason: str) -> None:
        """Let a job end as killed, now or when its turn comes."""
        self._stop_jobs[job_id] = reason
        if self.run_now is not None and self.run_now.job.id == job_id:
            self.run_now.stop(reason)

    async def _wait_for_change(self) -> None:
        self._launcher.release(self.name)
        threshold = self.record.spec.scale_down_ns
        if threshold:
            with trio.move_on_after(threshold / 1e9):
                await self._moved.wait()
                return
            if self._launcher.count(self.name) > 1:
                await self._launcher.launch(self.record, 1)
                self._launcher.release(self.name)
        await self._moved.wait()

    # --- workers -----------------------------------------------------------------------------------------

    def summon(self) -> None:
        """Make sure that all workers are there, or on their way."""
        if self._nursery is not None:
            what = f"starting workers of pipeline {self.name}"
            self._nursery.start_soon(apart, what, self.workers_hopeless, self._launch)

    def dismiss(self, worker_id: str) -> None:
        """A worker does not answer any more: end it, so that another one takes its place."""
        self._say(f"worker {worker_id} does not answer: what it had goes to another one")
        if self._nursery is not None:
            what = f"replacing worker {worker_id}"
            self._nursery.start_soon(apart, what, self._complain, self._launcher.replace, self.name, worker_id)

    async def _launch(self) -> None:
        async with self._relaunch:
            if self._barren:  # they said that they can't work: perhaps they can by now
                self._barren = False
                await self._launcher.stop(self.name)
            await self._launcher.launch(self.record, await self._workers())
            if self.run_now is None:  # the job that wanted them was quicker, or there was none
                self._launcher.release(self.name)

    async def _prepare(self) -> None:
        async with self._relaunch:
            await self._launcher.prepare(self.record, await self._workers())

    async def _workers(self) -> int:
        return self.record.spec.workers(await self._launcher.nodes() if self.record.spec.counts_nodes else 1)

    def worker_joined(self) -> None:
        """A worker is there."""
        self.state = PipelineState.RUNNING

    def worker_died(self, reason: str) -> None:
        """A worker ended that should not have; the launcher starts another one."""
        self._complain(reason)

    def workers_held_up(self, reason: str) -> None:
        """No worker can be started before something changes. Its job waits; those that are there go on."""
        if not self.pool.sessions:
            self.state = PipelineState.FAILURE
        self._complain(reason)

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
            what = f"stopping workers of pipeline {self.name}"
            self._nursery.start_soon(apart, what, self._complain, self._launcher.stop, self.name)

    # --- trouble -----------------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """The pipeline does not get on any more, or only now and then: this is why."""
        self.state = PipelineState.FAILURE
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        self.recent_error = reason
        self._say(reason)

    async def _patiently(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """What `function` returns, called again and again while the file system is not able to serve it.

        After a defect too: the pipeline has failed until it returns.
        """
        pause, longest = FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
        failed = False
        while True:
            try:
                found = await function(*args)
                if failed:
                    self.state = PipelineState.RUNNING
                return found
            except Exception as error:  # noqa: BLE001 (it is told, and tried again)
                known = known_error(error)
                reason = reason_of(error, f"pipeline {self.name}") if known is None else str(known)
            if known is None:
                failed, longest = True, LONGEST_DEFECT_PAUSE_SECONDS
                self.fail(reason)
            if not isinstance(known, UnavailableError | FullError):
                pause = max(pause, LONGEST_PAUSE_SECONDS)  # nothing that time alone is likely to heal
            self.recent_error = reason
            logger.warning("pipeline %s waits %.1f s: %s", self.name, pause, reason)
            await trio.sleep(pause)
            pause = min(2 * pause, longest)

    def _say(self, text: str) -> None:
        logger.warning("pipeline %s: %s", self.name, text)
        self._logs.add(self.name, LogLine(time.time_ns(), text, master=True))
