"""The course of one job: from an input commit to a finished output commit, or to a failure.

Every step may be taken again after a crash: the record says how far the job is, the daemon whether the step after
that was done. An output commit that was started but not recorded is found at the head of the output branch; datums
that are done are known by their tags; the final state is recorded before what it takes is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import trio

from pfsd.errors import FullError, NotFoundError, StateError, UnavailableError
from pfsd.runtime.apart import known_error, reason_of
from pfsd.runtime.requestids import on_behalf_of
from ppsd.engine import egress, enumeration, incremental, stats
from ppsd.engine.pool import Outcome, Pool, Session, Task
from ppsd.specs import datums, inputs
from ppsd.specs.datums import Datum
from ppsd.storage.filesystem import CommitRef, CommitState, FileSystem
from ppsd.storage.logs import LogLine, Logs
from ppsd.storage.records import JobRecord, JobState, MergeRecord, ProgressRecord
from ppsd.storage.registry import Registry, ended, output_of

logger = logging.getLogger(__name__)

MAX_TRIES = 4
"""A datum that failed so often makes its job fail."""

SILENT_SECONDS = 15
"""After this long a worker that was handed a datum, and of which nothing is heard, has lost it."""

CHECKPOINT_SECONDS = 1.0
"""How old the progress that a crash forgets may be (counts of finished datums are never lost: their tags tell)."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the jobs of a pipeline have in common."""

    files: FileSystem
    registry: Registry
    logs: Logs
    pool: Pool
    summon: Callable[[], None]
    """Makes sure that the pipeline's workers are there."""
    dismiss: Callable[[str], None]
    """Ends a worker that does not answer."""
    begun: Callable[[], None]
    """Called when a job's output commit is there."""


class JobRun:
    """Takes one job to its end; `notices` are said in the job's log as it begins."""

    def __init__(self, job: JobRecord, context: JobContext, notices: Sequence[str]) -> None:
        self.job = job
        self._files = context.files
        self._registry = context.registry
        self._logs = context.logs
        self._pool = context.pool
        self._summon = context.summon
        self._dismiss = context.dismiss
        self._notices = notices
        self._begun = context.begun
        self._work = trio.CancelScope()
        self._stop_reason = ""
        self._left = 0
        self._failure = ""
        self._settled = trio.Event()
        self._noticed: set[str] = set()
        self._progress = ProgressRecord()
        """Of the pipeline, before this job."""
        self._merged: MergeRecord | None = None
        """What this job leaves to the next, if it succeeds."""

    async def run(self, progress: ProgressRecord) -> ProgressRecord:
        """Run the job to its end; returns what its pipeline's progress became by it.

        Raises UnavailableError or FullError when it must be called again later. Whatever else goes wrong
        makes the job fail.
        """
        with on_behalf_of(self.job.id):
            return await self._run(progress)

    async def _run(self, progress: ProgressRecord) -> ProgressRecord:
        self._progress = progress
        if self.job.verdict is None:
            with self._work:
                await self._attempt(self._start_output, self._compute, self._push_output)
            if self._stop_reason and self.job.verdict is None:
                await self._attempt(self._start_output)  # which is then failed, so that nobody waits for it
                await self.decide(JobState.KILLED, self._stop_reason)
        if self.job.output is None:  # it could not be started, and will not be
            await self._registry.update_job(self.job, taken=progress.cursors)
        with self._registry.closing(self.job):
            if self.job.verdict is None:
                await self._attempt(self._finish)
            return await self.conclude(progress)

    def stop(self, reason: str) -> None:
        """Let the job end as killed, unless it is about to end by itself."""
        self._stop_reason = reason
        self._work.cancel()

    async def _attempt(self, *steps: Callable[[], Awaitable[None]]) -> None:
        """Take steps until one fails; then the job's verdict is that it failed."""
        try:
            for step in steps:
                if not self._failure:
                    await step()
        except (UnavailableError, FullError):
            raise
        except Exception as error:
            known = known_error(error)
            if isinstance(known, UnavailableError | FullError):
                raise known from error
            self._failure = reason_of(error, f"job {self.job.id}") if known is None else str(known)
        if self._failure:
            await self.decide(JobState.FAILURE, self._failure)

    async def decide(self, verdict: JobState, reason: str, discard: bool = False) -> None:
        """Settle that the job ends as a failure, or killed; with `discard` its output commit is to go."""
        self._pool.withdraw(self)
        self.job = replace(self.job, verdict=verdict, reason=reason, discard=discard)
        await self._registry.update_job(self.job)
        self._say(f"job {self.job.id} {'failed' if verdict is JobState.FAILURE else 'was killed'}: {reason}")

    async def conclude(self, progress: ProgressRecord) -> ProgressRecord:
        """Do what the verdict takes (none: the job succeeded), and record the job's end."""
        job = self.job
        state = job.verdict or JobState.SUCCESS
        if job.discard:
            output = job.output or await self._unrecorded_output()
            if output is not None:
                await self._tolerant(self._files.delete_commit, output)
        elif job.output is not None and state is not JobState.SUCCESS:
            await self._tolerant(self._files.fail_commit, job.output, job.reason)
            await self._move_branch_back(job.output)
        merge = self._merged if state is JobState.SUCCESS else None
        kept = await self._keep_stats()
        if job.computes_alone:
            await self._files.delete_tag_prefix(datums.tag_prefix(job.salt))
            merge = None
        if merge is not None:
            merge = replace(merge, stats_tag=kept)
        trouble = {JobState.SUCCESS: "", JobState.FAILURE: f"job {job.id} failed: {job.reason}"}
        progress = replace(
            progress,
            counts=progress.counted(state),
            merge=merge or progress.merge,
            trouble=trouble.get(state, progress.trouble),
        )
        self.job = ended(self.job, state, time.time_ns())
        await self._registry.update_job(self.job, progress)
        if state is JobState.SUCCESS:
            self._say(f"job {job.id} succeeded: {job.processed} datums computed, {job.skipped} skipped")
        return progress

    async def _keep_stats(self) -> str:
        """Commit how the datums went, if the spec asks for it; gives the tag that the next job may go on from."""
        job = self.job
        if not job.spec.enable_stats or not job.counted or job.discard:
            return ""
        try:
            made, tag = await stats.commit(job, self._progress.merge, self._files)
            self.job = replace(job, stats_commit=made)
            return tag
        except (UnavailableError, FullError):
            raise
        except Exception as error:  # noqa: BLE001 (a defect in them does not fail the job)
            self._say(f"the stats of job {job.id} can't be kept: {reason_of(error, f'keeping stats of job {job.id}')}")
            return ""

    async def _finish(self) -> None:
        """Finish the output commit, unless that was done before."""
        output = output_of(self.job)
        if not (await self._files.inspect_commit(output)).finished:
            await self._files.finish_commit(output)

    # --- the output commit -------------------------------------------------------------------------------

    async def _start_output(self) -> None:
        """Start the output commit, or find the one that was started before."""
        if self.job.output is not None:
            self._begun()
            return
        if self.job.requested:
            await self._forget_failures()
        repo, branch = self.job.spec.name, self.job.spec.output_branch
        head = await self._head()
        parent = await self._last_finished(head)
        if head is not None and self._is_ours(head):
            output = head.ref
        else:
            if head is not None and not parent:
                await self._files.delete_branch(repo, branch)
            started = await self._files.start_commit(repo, branch, parent, self.job.provenance)
            output = CommitRef(repo, started)
        self.job = replace(self.job, output=output, output_parent=parent)
        await self._registry.update_job(self.job, taken=self._progress.cursors)
        self._begun()

    async def _forget_failures(self) -> None:
        """Drop what former jobs from the same commits left unfinished: this one may do better."""
        for job in await self._registry.jobs(self.job.pipeline):
            failed = job.state in (JobState.FAILURE, JobState.KILLED)
            if failed and job.output is not None and job.inputs == self.job.inputs:
                await self._tolerant(self._files.delete_commit, job.output)

    def _is_ours(self, head: CommitState) -> bool:
        return not head.finished and set(self.job.inputs) <= set(head.provenance)

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
        if (await self._files.inspect_commit(output)).finished:  # a former run got that far, and could not say so
            self.job = replace(self.job, processed=self.job.total - self.job.skipped)
            return
        former = self._progress.merge
        found = await enumeration.difference(self.job, former, self._files)
        tags = [datums.tag(self.job.salt, datum.id) for datum in found.added]
        present = await self._files.has_tags(tags) if tags else []
        # What several members of a union have alike is computed once, and merged for each.
        missing = (datum for datum, is_there in zip(found.added, present, strict=True) if not is_there)
        todo = datums.each_once(missing)
        await self._count(found.total, todo)
        await self._hand_out(todo, found.removed)
        if self._failure:
            return
        result = datums.merge_tag(self.job.salt, former.tag if former else "")
        changes = {datum.order: "" for datum in found.removed}
        changes |= {datum.order: tag for datum, tag in zip(found.added, tags, strict=True)}
        await self._files.merge_trees(output, changes, found.base, result)
        read = inputs.without_starts(self.job.spec.input)
        self._merged = MergeRecord(result, read, self.job.inputs, found.total, repeats=True)

    async def _push_output(self) -> None:
        """Push what was computed to where the spec's egress says."""
        url, output = self.job.spec.egress, output_of(self.job)
        if not url or (await self._files.inspect_commit(output)).finished:  # it is finished after it was pushed
            return
        self._say(f"job {self.job.id} pushes its output to {url}")
        pushed = await egress.push(output, url, self._files)
        self._say(f"job {self.job.id} has pushed {pushed.files} files, {pushed.size_bytes} bytes, to {url}")

    async def _count(self, total: int, todo: Sequence[Datum]) -> None:
        """Record how much there is to do; once begun, what is done beyond the skipped was done by this job."""
        done = total - len(todo)
        if self.job.counted:
            self.job = replace(self.job, processed=done - self.job.skipped)
        else:
            await self._registry.put_todo(self.job, [datum.id for datum in todo])
            self.job = replace(self.job, counted=True, total=total, skipped=done)
            commits = ", ".join(map(str, self.job.provenance))
            self._say(f"job {self.job.id} started on {commits}: {total} datums, {done} already computed")
            for sentence in self._notices:
                self._notice(sentence)
        self.job = replace(self.job, state=JobState.RUNNING)
        await self._registry.update_job(self.job)

    async def _hand_out(self, todo: Sequence[Datum], removed: Sequence[Datum]) -> None:
        formers = await incremental.formers(self.job, todo, removed, self._files)
        tasks = [Task(self, datum, formers.get(datum.id)) for datum in todo]
        if formers:
            self._say(f"job {self.job.id}: {len(formers)} datums go on from their former output")
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
                self._dismiss_silent()
                if not self._settled.is_set() and self.job is not written:
                    written = self.job
                    await self._registry.update_job(written, sync=False)
        finally:
            self._pool.withdraw(self)

    def _dismiss_silent(self) -> None:
        """End the workers that do not show any more that they live; to be called every `CHECKPOINT_SECONDS`."""
        for session in self._pool.silent(self, int(SILENT_SECONDS / CHECKPOINT_SECONDS)):
            self._dismiss(session.worker_id)

    def give_up(self, reason: str) -> None:
        """The datums can't be computed: the job fails."""
        self._failure = self._failure or reason
        self._settled.set()

    def task_handed_out(self, task: Task, session: Session) -> None:
        if session.notice:
            self._notice(session.notice)

    def task_ended(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        try:
            self._count_task(task, session, outcome)
        except Exception as error:  # noqa: BLE001 (whose task is lost so is the job, not the worker that had it)
            self.give_up(reason_of(error, f"job {self.job.id}"))

    def _count_task(self, task: Task, session: Session | None, outcome: Outcome) -> None:
        if self._failure:
            return
        if not outcome.error:
            self._left -= 1
            total = self.job.stats + outcome.stats
            self.job = replace(self.job, processed=self.job.processed + 1, stats=total)
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
            self.job = replace(self.job, failed=task.datum.id)
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
