"""The engine: all pipelines of a daemon, run by whichever pipeline service holds the lease.

What the gRPC services ask for comes in here, in the trio thread. Until the lease is held, callers wait a while and
are then turned away.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import outcome
import trio

from pachproto import pps_pb2
from pfsd.errors import FormatError, NotFoundError, StateError, UnavailableError, leaves
from pfsd.runtime.apart import apart, reason_of
from ppsd.engine import stats
from ppsd.engine.changes import Changes
from ppsd.engine.enumeration import all_datums
from ppsd.engine.figures import Ended, PipelineFigures
from ppsd.engine.heads import Lineage
from ppsd.engine.jobs import input_files
from ppsd.engine.launcher import Launcher
from ppsd.engine.pipelines import Pipeline
from ppsd.engine.pool import Line, Outcome, Session
from ppsd.engine.reruns import Reruns
from ppsd.specs import datums, inputs, spec
from ppsd.specs.datums import Datum
from ppsd.specs.inputs import Source
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.filesystem import CommitRef, FileSystem
from ppsd.storage.logs import LogLine, Logs, pieces
from ppsd.storage.records import DatumState, JobRecord, JobState, PipelineRecord, PipelineState, Stats
from ppsd.storage.registry import Registry

T = TypeVar("T")

logger = logging.getLogger(__name__)

LEASE = "ppsd"
LEASE_PATIENCE_SECONDS = 10.0
"""How long a caller waits for this service to hold the lease."""
RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0


class Engine:
    """Runs the pipelines. `run` never returns; the other methods answer the services."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._leading = trio.Event()
        self._pipelines: dict[str, Pipeline] = {}
        self._ended: dict[str, Ended] = {}
        """By pipeline."""
        self._nursery: trio.Nursery | None = None
        # Set before `_leading`, on which all who use them wait:
        self._files: FileSystem
        self._registry: Registry
        self._logs: Logs
        self._launcher: Launcher
        self._changes: Changes
        self._reruns: Reruns

    async def run(self, files: FileSystem, make_launcher: Callable[[trio.Nursery], Launcher]) -> None:
        """Hold the lease and run all pipelines, for ever; begin anew when the lease or the daemon is lost.

        After a defect too, with a pause that grows. Raises FormatError, which only another version can mend.
        """
        pause = RETRY_SECONDS
        while True:
            try:
                async with files.hold_lease(LEASE, self._holder):
                    await self._lead(files, make_launcher)
            except* (UnavailableError, StateError) as group:
                logger.warning("the pipelines stand still: %s", leaves(group)[0])
                pause = RETRY_SECONDS
            except* FormatError:
                raise
            except* Exception as group:  # noqa: BLE001 (it is told, and all begins anew)
                reason_of(group, "the pipeline service")
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
            await trio.sleep(pause)

    async def _lead(self, files: FileSystem, make_launcher: Callable[[trio.Nursery], Launcher]) -> None:
        self._files = files
        self._registry = Registry(files)
        self._registry.on_end = self._note_end
        self._logs = Logs(files)
        stored = await self._registry.load()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._launcher = make_launcher(nursery)
                self._pipelines = {record.name: self._pipeline(record) for record in stored}
                self._changes = Changes(
                    self._pipelines, files, self._registry, self._logs, self._launcher, self._pipeline, self._begin
                )
                self._reruns = Reruns(self._find, files, self._registry)
                names = [one.name for one in stored if not one.stopped]
                nursery.start_soon(apart, "taking up workers", None, self._launcher.take_up, names)
                nursery.start_soon(self._logs.run)
                for pipeline in list(self._pipelines.values()):
                    self._take_up(nursery, pipeline)
                nursery.start_soon(self._watch)
                self._leading.set()
                logger.info("running %d pipelines", len(stored))
        finally:
            self._leading = trio.Event()
            self._nursery = None
            self._registry.close()
            self._logs.close()

    def _take_up(self, nursery: trio.Nursery, pipeline: Pipeline) -> None:
        """Let a pipeline of a former run go on where it was."""
        record = pipeline.record
        if record.deletion or record.succession:
            what = f"what was left of a change of pipeline {pipeline.name}"
            nursery.start_soon(apart, what, pipeline.fail, self._changes.finish, pipeline)
        elif record.stopped:
            pipeline.state = PipelineState.PAUSED
        else:
            nursery.start_soon(self._run_pipeline, pipeline)

    def _pipeline(self, record: PipelineRecord) -> Pipeline:
        return Pipeline(record, self._files, self._registry, self._logs, self._launcher, self._lineage)

    def _begin(self, pipeline: Pipeline) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._run_pipeline, pipeline, True)

    def _lineage(self, source: Source) -> Lineage:
        """What a source is computed from, itself included."""
        found: dict[str, set[str]] = {}
        waiting = [source]
        while waiting:
            one = waiting.pop()
            if one.branch in found.setdefault(one.repo, set()):
                continue
            found[one.repo].add(one.branch)
            maker = self._pipelines.get(one.repo)
            if maker is not None and maker.record.spec.output_branch == one.branch:
                waiting += inputs.sources(maker.record.spec.input)
        return {repo: frozenset(branches) for repo, branches in found.items()}

    async def _run_pipeline(self, pipeline: Pipeline, launch_now: bool = False) -> None:
        """Run one pipeline; a defect that stops it leaves the others running."""

        def told(reason: str) -> None:
            pipeline.fail(f"the pipeline has stopped, until it is stopped and started: {reason}")

        await apart(f"pipeline {pipeline.name}", told, pipeline.run, launch_now)

    async def _watch(self) -> None:
        """Tell the pipelines that read a repo when something moved in it."""
        while True:
            try:
                async with self._files.watch_changes() as changes:
                    async for repos in changes:
                        for pipeline in self._pipelines.values():
                            if not repos or not repos.isdisjoint(pipeline.repos):
                                pipeline.notify()
            except* UnavailableError as group:
                logger.warning("changes are not seen for the moment: %s", leaves(group)[0])
            except* Exception as group:  # noqa: BLE001 (it is told, and all begins anew)
                reason_of(group, "watching for changes")
            await trio.sleep(RETRY_SECONDS)

    # --- for the services --------------------------------------------------------------------------------

    def figures(self) -> list[PipelineFigures]:
        """How the pipelines are now; none where another service runs them."""
        if not self._leading.is_set():
            return []
        return [
            PipelineFigures(
                pipeline.name,
                pipeline.state,
                Counter(job.state for job in self._registry.open_jobs(pipeline.name)),
                self._ended.get(pipeline.name, Ended(Counter())),
                len(pipeline.pool.sessions),
                pipeline.pool.queue_size,
            )
            for pipeline in self._pipelines.values()
        ]

    def _note_end(self, job: JobRecord) -> None:
        self._ended = {name: ended for name, ended in self._ended.items() if name in self._pipelines}
        self._ended[job.pipeline] = self._ended.get(job.pipeline, Ended(Counter())).with_job(job)

    async def _ready(self) -> None:
        with trio.move_on_after(LEASE_PATIENCE_SECONDS):
            await self._leading.wait()
        if not self._leading.is_set():
            raise UnavailableError("the pipeline service does not hold the lease yet: ask again")

    async def _detached(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """What `function` returns; it runs to its end even when the caller goes away."""
        await self._ready()
        if self._nursery is None:
            raise UnavailableError("the pipeline service is stopping: ask again")
        done = trio.Event()
        result: outcome.Outcome[T] = outcome.Error(UnavailableError("the pipeline service is stopping: ask again"))

        async def work() -> None:
            nonlocal result
            try:
                result = outcome.Value(await function(*args))
            except Exception as error:  # noqa: BLE001 (the caller is told, and nobody else)
                result = outcome.Error(error)
            finally:
                done.set()

        self._nursery.start_soon(work)
        await done.wait()
        return result.unwrap()

    def _find(self, name: str) -> Pipeline:
        return self._changes.find(name)

    async def create_pipeline(self, request: pps_pb2.CreatePipelineRequest) -> bool:
        """Make a pipeline and its output repo, or with `update` the next version of one.

        Gives whether anything changed, which it does not where an update asks for what is there.
        """
        wanted = spec.validate(request)
        given = pps_pb2.CreatePipelineRequest()
        given.CopyFrom(request)
        given.ClearField("update")
        given.ClearField("reprocess")
        kept = given.SerializeToString(deterministic=True)
        await self._ready()
        if request.update:
            return await self._detached(self._changes.update, wanted, kept, request.reprocess)
        await self._detached(self._changes.create, wanted, kept)
        return True

    async def stop_pipeline(self, name: str) -> None:
        """Let a pipeline rest until it is started."""
        await self._ready()
        await self._detached(self._changes.stop, name)

    async def start_pipeline(self, name: str) -> None:
        """Let a pipeline that was stopped run again."""
        await self._ready()
        await self._detached(self._changes.start, name)

    async def delete_pipelines(self, names: Sequence[str] | None, jobs: bool, repo: bool) -> None:
        """Delete pipelines (None: all), with their jobs and their output repos if so asked."""
        await self._ready()
        await self._detached(self._changes.delete, names, jobs, repo)

    async def delete_all(self) -> None:
        """Delete every pipeline and every job; the repos stay."""
        await self._detached(self._delete_all)

    async def _delete_all(self) -> None:
        await self._changes.delete(None, True, False)
        await self._registry.forget_all_jobs()

    async def pipeline(self, name: str) -> Pipeline:
        """A pipeline as it is now."""
        await self._ready()
        await self._registry.settled()
        return self._find(name)

    async def pipelines(self) -> list[Pipeline]:
        """All pipelines, newest first."""
        await self._ready()
        await self._registry.settled()
        return sorted(self._pipelines.values(), key=lambda one: one.record.created_ns, reverse=True)

    def open_jobs(self, pipeline: str) -> list[JobRecord]:
        """A pipeline's jobs that are not at their end."""
        return self._registry.open_jobs(pipeline)

    async def job(self, job_id: str, wait: bool) -> JobRecord:
        """A job; with `wait`, once it is at its end."""
        await self._ready()
        await self._registry.settled()
        return await (self._registry.ended_job(job_id) if wait else self._registry.job(job_id))

    async def jobs(self, pipeline: str, inputs: Sequence[CommitRef]) -> list[JobRecord]:
        """Jobs of a pipeline (empty: of all) that read all of `inputs`, newest first.

        A pipeline that was deleted may have left some; one that never was has none.
        """
        await self._ready()
        await self._registry.settled()
        wanted = [(await self._files.inspect_commit(commit)).ref for commit in inputs]
        found = await self._registry.jobs(pipeline)
        return [job for job in found if all(commit in job.inputs for commit in wanted)]

    async def run_pipeline(
        self, name: str, commits: Mapping[str, str], change: Callable[[PipelineSpec], PipelineSpec]
    ) -> JobRecord:
        """A new job for the last set of commits that a pipeline ran on, or with other commits for some inputs.

        `commits` gives an id or branch for each of those inputs, by name; `change` the job's spec for the pipeline's.
        """
        await self._ready()
        return await self._detached(self._reruns.run_again, name, commits, change)

    async def rerun_pipeline(self, name: str, include: Sequence[CommitRef], exclude: Sequence[CommitRef]) -> None:
        """New jobs for the sets of commits that had one: those with any of `include`, if given, none of `exclude`."""
        await self._ready()
        await self._detached(self._reruns.rerun, name, include, exclude)

    async def stop_job(self, job_id: str) -> None:
        """End a job as killed; one that has ended stays as it is."""
        await self._detached(self._stop_job, job_id)

    async def _stop_job(self, job_id: str) -> None:
        job = await self._registry.job(job_id)
        if job.state.final:
            return
        reason = f"job {job_id} was stopped"
        pipeline = self._find(job.pipeline)
        pipeline.stop_job(job_id, reason)
        if not pipeline.runs:
            await pipeline.kill_job(job, reason)
        await self._registry.ended_job(job_id)

    async def delete_job(self, job_id: str) -> None:
        """End a job if it runs, and forget it; its output stays."""
        await self._detached(self._delete_job, job_id)

    async def _delete_job(self, job_id: str) -> None:
        await self._stop_job(job_id)
        await self._registry.forget_job(await self._registry.job(job_id))

    async def datums(self, job_id: str) -> list[tuple[Datum, DatumState]]:
        """The datums of a job, in order, each with how it is."""
        await self._ready()
        job = await self._registry.job(job_id)
        found = await all_datums(job, self._files)
        todo = await self._registry.todo(job)
        present: Sequence[bool] = [True] * len(found)
        if job.state is not JobState.SUCCESS and found:
            present = await self._files.has_tags([datums.tag(job.salt, one.id) for one in found])
        pairs = zip(found, present, strict=True)
        return [(datum, _datum_state(job, datum, is_there, todo)) for datum, is_there in pairs]

    async def datum_stats(self, job_id: str, datums: Sequence[Datum]) -> dict[str, Stats]:
        """What datums cost, by their ids, where that is kept: for at most `stats.MOST_READ` of them."""
        job = await self._registry.job(job_id)
        return await stats.read(job, datums, self._files)

    async def restart_datums(self, job_id: str, wanted: Callable[[Datum], bool]) -> int:
        """Begin anew the datums of a job that are being computed and wanted; gives how many they are."""
        await self._ready()
        job = await self._registry.job(job_id)
        count = 0
        for session in self.sessions(job):
            if session.task is not None and wanted(session.task.datum):
                self._find(job.pipeline).pool.restart(session)
                count += 1
        return count

    def sessions(self, job: JobRecord) -> list[Session]:
        """The workers that compute a datum of a job at present."""
        pipeline = self._pipelines.get(job.pipeline)
        sessions = pipeline.pool.sessions if pipeline is not None else []
        return [one for one in sessions if one.task is not None and one.task.load.job.id == job.id]

    def queue_size(self, pipeline: str) -> int:
        """How many of a pipeline's datums wait for a worker."""
        return self._pipelines[pipeline].pool.queue_size if pipeline in self._pipelines else 0

    async def read_log(
        self, pipeline: str, job_id: str, follow: bool, take: Callable[[str, Sequence[LogLine]], Awaitable[None]]
    ) -> None:
        """Give `take` the pipeline's name and what is kept of its log, or of one job's, oldest first.

        With `follow`, also what comes: of a job until it has ended, of a pipeline for ever.
        """
        await self._ready()
        over, found_some = trio.Event(), False
        if job_id:
            job = await self._registry.job(job_id)
            if pipeline not in ("", job.pipeline):
                raise NotFoundError(f"job {job_id} is not one of pipeline {pipeline}'s")
            pipeline, over = job.pipeline, self._registry.end_of(job)
        elif follow:
            self._find(pipeline)
        if not follow:
            over = trio.Event()
            over.set()

        async def take_own(lines: Sequence[LogLine]) -> None:
            nonlocal found_some
            found_some = True
            await take(pipeline, [line for line in lines if job_id in ("", line.job_id)])

        await self._logs.read(pipeline, over, take_own)
        if not found_some and not job_id:
            self._find(pipeline)

    async def collect_garbage(self) -> None:
        """Have the file system remove what nothing can reach any more, while everything goes on."""
        await self._ready()
        await self._files.collect_garbage()

    # --- for the workers ---------------------------------------------------------------------------------

    async def join(self, session: Session, pipeline: str, salt: str) -> Pipeline:
        """A worker has come."""
        await self._ready()
        found = self._version(pipeline, salt)
        found.pool.join(session)
        if not session.is_over:
            found.worker_joined()
        return found

    def _version(self, pipeline: str, salt: str) -> Pipeline:
        found = self._find(pipeline)
        if found.record.salt != salt or found.record.deletion:
            raise StateError(f"this version of pipeline {pipeline} is gone: its workers have to end")
        return found

    async def worker_hopeless(self, pipeline: str, salt: str, reason: str) -> None:
        """A worker says that it can't work."""
        await self._ready()
        self._version(pipeline, salt).workers_hopeless(reason)

    def leave(self, session: Session, pipeline: Pipeline) -> None:
        """A worker's stream has ended."""
        pipeline.pool.leave(session)

    async def take_lines(self, session: Session, pipeline: Pipeline, lines: Sequence[Line]) -> None:
        """A worker's log lines; waits while they come faster than they can be stored."""
        task = session.task
        for line in lines:
            known = task is not None and task.datum.id == line.datum_id
            data = input_files(task.datum) if task is not None and known else ()
            entry = LogLine(line.time_ns, line.message, line.job_id, session.worker_id, line.datum_id, data, line.user)
            for piece in pieces(line.message):
                self._logs.add(pipeline.name, replace(entry, message=piece))
        await self._logs.room(pipeline.name)

    def settle(self, session: Session, pipeline: Pipeline, lease: int, result: Outcome) -> None:
        """A worker has done with a datum."""
        pipeline.pool.settle(session, lease, result)

    # --- for the launcher --------------------------------------------------------------------------------

    def worker_died(self, pipeline: str, reason: str, hopeless: bool) -> None:
        """A worker ended by itself."""
        found = self._pipelines.get(pipeline)
        if found is None or found.record.deletion:
            return
        if hopeless:
            found.workers_hopeless(reason)
        else:
            found.worker_died(reason)

    def workers_held_up(self, pipeline: str, reason: str) -> None:
        """Workers can't be started before something changes."""
        found = self._pipelines.get(pipeline)
        if found is not None and not found.record.deletion:
            found.workers_held_up(reason)


def _datum_state(job: JobRecord, datum: Datum, is_computed: bool, todo: set[str]) -> DatumState:
    if job.counted and datum.id not in todo:
        return DatumState.SKIPPED
    if datum.id == job.failed:
        return DatumState.FAILED
    return DatumState.SUCCESS if job.counted and is_computed else DatumState.STARTING
