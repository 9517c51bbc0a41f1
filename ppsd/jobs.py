"""The course of one job: from an input commit to a finished output commit, or to a failure.

Every step may be taken again after a crash: the record says how far the job is, the daemon whether the step after
that was done. An output commit that was started but not recorded is found at the head of the output branch; datums
that are done are known by their tags; the final state is recorded before what it takes is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from pfsd.errors import FullError, NotFoundError, PfsError, StateError, UnavailableError
from ppsd import datums
from ppsd.datums import Datum
from ppsd.filesystem import CommitRef, CommitState, FileSystem
from ppsd.logs import LogLine, Logs
from ppsd.pool import Outcome, Pool, Session, Task
from ppsd.records import JobRecord, JobState, ProgressRecord
from ppsd.registry import Registry, ended, output_of

logger = logging.getLogger(__name__)

MAX_TRIES = 4
"""A datum that failed so often makes its job fail."""

CHECKPOINT_SECONDS = 1.0
"""How old the progress that a crash forgets may be (counts of finished datums are never lost: their tags tell)."""


class JobRun:
    """Takes one job to its end.

    `summon` makes sure that the pipeline's workers are there; `notices` are said in the job's log as it begins.
    """

    def __init__(
        self,
        job: JobRecord,
        files: FileSystem,
        registry: Registry,
        logs: Logs,
        pool: Pool,
        summon: Callable[[], None],
        notices: Sequence[str] = (),
    ) -> None:
        self.job = job
        self._files = files
        self._registry = registry
        self._logs = logs
        self._pool = pool
        self._summon = summon
        self._notices = notices
        self._left = 0
        self._failure = ""
        self._settled = trio.Event()
        self._noticed: set[str] = set()

    async def run(self, progress: ProgressRecord) -> ProgressRecord:
        """Run the job to its end; returns what its pipeline's progress became by it.

        Raises UnavailableError or FullError when it must be called again later. Whatever else goes wrong
        makes the job fail.
        """
        if self.job.verdict is None:
            await self._attempt(self._start_output, self._compute)
        with self._registry.closing(self.job):
            if self.job.verdict is None:
                await self._attempt(self._finish)
            return await self.conclude(progress)

    async def _attempt(self, *steps: Callable[[], Awaitable[None]]) -> None:
        """Take steps until one fails; then the job's verdict is that it failed."""
        try:
            for step in steps:
                if not self._failure:
                    await step()
        except (UnavailableError, FullError):
            raise
        except PfsError as error:
            self._failure = str(error)
        if self._failure:
            await self.decide(JobState.FAILURE, self._failure)

    async def decide(self, verdict: JobState, reason: str) -> None:
        """Settle that the job ends as a failure, or killed."""
        self._pool.withdraw(self)
        self.job = replace(self.job, verdict=verdict, reason=reason)
        await self._registry.update_job(self.job)
        self._say(f"job {self.job.id} {'failed' if verdict is JobState.FAILURE else 'was killed'}: {reason}")

    async def conclude(self, progress: ProgressRecord) -> ProgressRecord:
        """Do what the verdict takes (none: the job succeeded), and record the job's end."""
        job = self.job
        state = job.verdict or JobState.SUCCESS
        if job.output is not None and state is JobState.FAILURE:
            await self._tolerant(self._files.fail_commit, job.output, job.reason)
            await self._move_branch_back(job.output)
        elif state is JobState.KILLED:
            output = job.output or await self._unrecorded_output()
            if output is not None:
                await self._tolerant(self._files.delete_commit, output)
        progress = replace(progress, counts=progress.counted(state))
        self.job = ended(job, state, time.time_ns())
        await self._registry.update_job(self.job, progress)
        if state is JobState.SUCCESS:
            self._say(f"job {job.id} succeeded: {job.processed} datums computed, {job.skipped} skipped")
        return progress

    async def _finish(self) -> None:
        """Finish the output commit, unless that was done before."""
        output = output_of(self.job)
        if not (await self._files.inspect_commit(output)).finished:
            await self._files.finish_commit(output)

    # --- the output commit -------------------------------------------------------------------------------

    async def _start_output(self) -> None:
        """Start the output commit, or find the one that was started before."""
        if self.job.output is not None:
            return
        repo, branch = self.job.spec.name, self.job.spec.output_branch
        head = await self._head()
        parent = await self._last_finished(head)
        if head is not None and self._is_ours(head):
            output = head.ref
        else:
            if head is not None and not parent:
                await self._files.delete_branch(repo, branch)
            started = await self._files.start_commit(repo, branch, parent, [self.job.input])
            output = CommitRef(repo, started)
        self.job = replace(self.job, output=output, output_parent=parent)
        await self._registry.update_job(self.job)

    def _is_ours(self, head: CommitState) -> bool:
        return not head.finished and self.job.input in head.provenance

    async def _unrecorded_output(self) -> CommitRef | None:
        head = await self._head()
        return head.ref if head is not None and self._is_ours(head) else None

    async def _head(self) -> CommitState | None:
        """The head of the output branch, if it has one."""
        try:
            return await self._files.inspect_commit(CommitRef(self.job.spec.name, self.job.spec.output_branch))
        except NotFoundError:
            return None

    async def _last_finished(self, commit: CommitState | None) -> str:
        """The id of the nearest finished commit from `commit` back through its parents, or empty."""
        while commit is not None and not commit.finished:
            if not commit.parent:
                return ""
            commit = await self._files.inspect_commit(CommitRef(commit.ref.repo, commit.parent))
        return "" if commit is None else commit.ref.id

    async def _move_branch_back(self, output: CommitRef) -> None:
        """Make the output branch show the last finished commit again."""
        branch = self.job.spec.output_branch
        head = await self._head()
        if head is None or head.ref != output or head.finished:
            return
        if self.job.output_parent:
            await self._tolerant(self._files.set_branch, output.repo, branch, self.job.output_parent)
        else:
            await self._tolerant(self._files.delete_branch, output.repo, branch)

    async def _tolerant(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Call what may have been done before, or be impossible because somebody removed the repo or the commit."""
        try:
            await function(*args)
        except (NotFoundError, StateError) as error:
            logger.info("job %s: %s", self.job.id, error)

    # --- the datums --------------------------------------------------------------------------------------

    async def _compute(self) -> None:
        """Have all datums computed and merged; sets `_failure` when a datum fails for good."""
        output = output_of(self.job)
        if (await self._files.inspect_commit(output)).finished:
            return
        spec = self.job.spec
        matches = await self._files.glob_entries(self.job.input, spec.input.glob)
        found = datums.from_glob(self.job.salt, spec.input.name, matches)
        tags = [datums.tag(self.job.salt, datum.id) for datum in found]
        present = await self._files.has_tags(tags) if tags else []
        await self._count(len(found), sum(present))
        await self._hand_out(found, present)
        if self._failure:
            return
        await self._files.merge_trees(output, tags)

    async def _count(self, total: int, done: int) -> None:
        """Record how much there is to do; once begun, what is done beyond the skipped was done by this job."""
        if self.job.counted:
            self.job = replace(self.job, processed=done - self.job.skipped)
        else:
            self.job = replace(self.job, counted=True, total=total, skipped=done)
            self._say(f"job {self.job.id} started on {self.job.input}: {total} datums, {done} already computed")
            for sentence in self._notices:
                self._notice(sentence)
        self.job = replace(self.job, state=JobState.RUNNING)
        await self._registry.update_job(self.job)

    async def _hand_out(self, found: Sequence[Datum], present: Sequence[bool]) -> None:
        tasks = [Task(self, index, datum) for index, datum in enumerate(found) if not present[index]]
        self._left = len(tasks)
        if not tasks:
            return
        self._summon()
        self._pool.submit(tasks)
        written = self.job
        try:
            while not self._settled.is_set():
                with trio.move_on_after(CHECKPOINT_SECONDS):
                    await self._settled.wait()
                if not self._settled.is_set() and self.job is not written:
                    written = self.job
                    await self._registry.update_job(written, sync=False)
        finally:
            self._pool.withdraw(self)

    def give_up(self, reason: str) -> None:
        """The datums can't be computed: the job fails."""
        self._failure = self._failure or reason
        self._settled.set()

    def task_handed_out(self, task: Task, session: Session) -> None:
        if session.notice:
            self._notice(session.notice)

    def task_ended(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        if self._failure:
            return
        if not outcome.error:
            self._left -= 1
            stats = self.job.stats + outcome.stats
            self.job = replace(self.job, processed=self.job.processed + 1, stats=stats)
            self._registry.note_job(self.job)
            if not self._left:
                self._settled.set()
        else:
            self._task_failed(task, session, outcome)

    def _task_failed(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        task.tries += 1
        name = ", ".join(one.path for one in task.datum.inputs)
        line = LogLine(
            time.time_ns(),
            f"datum {name} failed (try {task.tries} of {MAX_TRIES}): {outcome.error}",
            job_id=self.job.id,
            worker_id=session.worker_id if session else "",
            datum_id=task.datum.id,
            data=input_files(task.datum),
        )
        self._logs.add(self.job.pipeline, line)
        if session is None or task.tries >= MAX_TRIES:
            self.give_up(f"datum {name} failed: {outcome.error}")
        else:
            self._pool.submit([task])

    # --- the log -----------------------------------------------------------------------------------------

    def _notice(self, text: str) -> None:
        """Say something in the job's log, once."""
        if text not in self._noticed:
            self._noticed.add(text)
            self._logs.add(self.job.pipeline, LogLine(time.time_ns(), text, job_id=self.job.id))

    def _say(self, text: str) -> None:
        logger.info("pipeline %s: %s", self.job.pipeline, text)
        line = LogLine(time.time_ns(), text, job_id=self.job.id, master=True)
        self._logs.add(self.job.pipeline, line)


def input_files(datum: Datum) -> tuple[tuple[str, bytes], ...]:
    """A datum's input files as log lines carry them: path and content hash."""
    return tuple((one.path, one.hash) for one in datum.inputs)
