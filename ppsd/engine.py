"""The engine: all pipelines of a daemon, run by whichever pipeline service holds the lease.

What the gRPC services ask for comes in here, in the trio thread. Until the lease is held, callers wait a while and
are then turned away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import outcome
import trio

from pachproto import pps_pb2
from pfsd.errors import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    PfsError,
    StateError,
    UnavailableError,
)
from ppsd import datums, records, spec
from ppsd.filesystem import CommitRef, FileSystem
from ppsd.jobs import input_files
from ppsd.launcher import Launcher
from ppsd.logs import LogLine, Logs
from ppsd.pipelines import Pipeline
from ppsd.pool import Line, Outcome, Session
from ppsd.records import Deletion, JobRecord, PipelineRecord, PipelineState, ProgressRecord
from ppsd.registry import Registry

T = TypeVar("T")

logger = logging.getLogger(__name__)

LEASE = "ppsd"
LEASE_PATIENCE_SECONDS = 10.0
"""How long a caller waits for this service to hold the lease."""
RETRY_SECONDS = 0.5


class Engine:
    """Runs the pipelines. `run` never returns; the other methods answer the services."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._leading = trio.Event()
        self._change = trio.Lock()
        """Held while a pipeline is made or deleted."""
        self._pipelines: dict[str, Pipeline] = {}
        self._nursery: trio.Nursery | None = None
        # Set before `_leading`, on which all who use them wait:
        self._files: FileSystem
        self._registry: Registry
        self._logs: Logs
        self._launcher: Launcher

    async def run(self, files: FileSystem, make_launcher: Callable[[trio.Nursery], Launcher]) -> None:
        """Hold the lease and run all pipelines, for ever; begin anew when the lease or the daemon is lost."""
        while True:
            try:
                async with files.hold_lease(LEASE, self._holder):
                    await self._lead(files, make_launcher)
            except* (UnavailableError, StateError) as group:
                logger.warning("the pipelines stand still: %s", _first(group))
            await trio.sleep(RETRY_SECONDS)

    async def _lead(self, files: FileSystem, make_launcher: Callable[[trio.Nursery], Launcher]) -> None:
        self._files = files
        self._registry = Registry(files)
        self._logs = Logs(files)
        stored = await self._registry.load()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._launcher = make_launcher(nursery)
                self._pipelines = {record.name: self._pipeline(record) for record in stored}
                nursery.start_soon(self._logs.run)
                for pipeline in self._pipelines.values():
                    begin = self._finish_deletion if pipeline.record.deletion else self._run_pipeline
                    nursery.start_soon(begin, pipeline)
                nursery.start_soon(self._watch)
                self._leading.set()
                logger.info("running %d pipelines", len(stored))
        finally:
            self._leading = trio.Event()
            self._nursery = None
            self._registry.close()

    def _pipeline(self, record: PipelineRecord) -> Pipeline:
        return Pipeline(record, self._files, self._registry, self._logs, self._launcher)

    async def _run_pipeline(self, pipeline: Pipeline, launch_now: bool = False) -> None:
        """Run one pipeline; a defect that stops it leaves the others running."""
        try:
            await pipeline.run(launch_now)
        except Exception as error:
            logger.exception("pipeline %s has stopped", pipeline.name)
            pipeline.state = PipelineState.FAILURE
            pipeline.recent_error = f"a defect in ppsd stopped the pipeline: {error!r}; see its log"

    async def _watch(self) -> None:
        """Tell the pipelines that read a repo when something moved in it."""
        while True:
            try:
                async with self._files.watch_changes() as changes:
                    async for repos in changes:
                        for pipeline in self._pipelines.values():
                            if not repos or repos.intersection(spec.input_repos(pipeline.record.spec)):
                                pipeline.notify()
            except* UnavailableError as group:
                logger.warning("changes are not seen for the moment: %s", _first(group))
            await trio.sleep(RETRY_SECONDS)

    # --- for the services --------------------------------------------------------------------------------

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
            except PfsError as error:
                result = outcome.Error(error)
            finally:
                done.set()

        self._nursery.start_soon(work)
        await done.wait()
        return result.unwrap()

    def _find(self, name: str) -> Pipeline:
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            raise NotFoundError(f"pipeline {name!r} does not exist: list-pipeline shows those that do")
        return pipeline

    async def create_pipeline(self, request: pps_pb2.CreatePipelineRequest) -> None:
        """Make a pipeline and its output repo."""
        wanted = spec.validate(request)
        if request.update:
            raise StateError(f"pipeline {wanted.name} can't be updated by this version: delete it and create it anew")
        await self._detached(self._create, wanted)

    async def _create(self, wanted: spec.PipelineSpec) -> None:
        async with self._change:
            name, atom = wanted.name, wanted.input
            if name in self._pipelines:
                raise AlreadyExistsError(f"pipeline {name} already exists: delete it first, or take another name")
            if not await self._files.repo_exists(atom.repo):
                raise NotFoundError(f"input repo {atom.repo} does not exist: create it first")
            if atom.from_commit:
                commit = await self._files.inspect_commit(CommitRef(atom.repo, atom.from_commit))
                wanted = replace(wanted, input=replace(atom, from_commit=commit.ref.id))
            made = await self._take_repo(wanted)
            record = PipelineRecord(wanted, records.new_id(), 1, records.new_id(), time.time_ns())
            try:
                await self._registry.put_pipeline(record, ProgressRecord(cursor=wanted.input.from_commit))
            except PfsError:
                if made:
                    await self._files.delete_repo(name)
                raise
            self._begin(record)

    async def _take_repo(self, wanted: spec.PipelineSpec) -> bool:
        """Make the output repo, or take over one that is empty or a former pipeline's; whether it was made."""
        name = wanted.name
        exists = await self._files.repo_exists(name)
        if exists:
            below = await self._files.repos_below(name)
            if wanted.input.repo in below:
                raise InvalidError(f"pipeline {name} would read what is computed from its own output")
            used = await self._files.list_commits(name, "", "", 1)
            if used and not await self._registry.made_repo(name):
                raise AlreadyExistsError(
                    f"repo {name} already exists and holds data: take another name for the pipeline"
                )
        await self._files.create_repo(name, spec.input_repos(wanted), f"Output of pipeline {name}.", exists)
        return not exists

    def _begin(self, record: PipelineRecord) -> None:
        pipeline = self._pipelines[record.name] = self._pipeline(record)
        if self._nursery is not None:
            self._nursery.start_soon(self._run_pipeline, pipeline, True)

    async def delete_pipelines(self, names: Sequence[str] | None, jobs: bool, repo: bool) -> None:
        """Delete pipelines (None: all), with their jobs and their output repos if so asked."""
        await self._detached(self._delete, names, jobs, repo)

    async def _delete(self, names: Sequence[str] | None, jobs: bool, repo: bool) -> None:
        async with self._change:
            doomed = [self._find(name) for name in (self._pipelines if names is None else names)]
            if repo:
                await self._check_repos_unused(doomed)
            for pipeline in _downstream_first(doomed):
                pipeline.record = replace(pipeline.record, deletion=Deletion(jobs, repo))
                await self._registry.put_pipeline(pipeline.record)
                await pipeline.stop()
                await self._finish_deletion(pipeline)

    async def _check_repos_unused(self, doomed: list[Pipeline]) -> None:
        names = {pipeline.name for pipeline in doomed}
        for pipeline in doomed:
            users = set(await self._files.repos_below(pipeline.name)) - names
            if users:
                raise StateError(
                    f"repo {pipeline.name} is the input of {', '.join(sorted(users))}: "
                    "delete those first, or delete the pipeline without its repo"
                )

    async def _finish_deletion(self, pipeline: Pipeline) -> None:
        """Do what is left of a deletion that is recorded."""
        record = pipeline.record
        wanted = record.deletion or Deletion(jobs=False, repo=False)
        await self._launcher.stop(record.name)
        pipeline.progress = await self._registry.progress(record.name)
        await pipeline.kill_open_jobs(f"pipeline {record.name} was deleted")
        await self._files.delete_tag_prefix(datums.tag_prefix(record.salt))
        if wanted.repo:
            try:
                await self._files.delete_repo(record.name)
            except NotFoundError:  # somebody was quicker
                pass
        if wanted.jobs:
            await self._logs.forget(record.name)
        await self._registry.forget_pipeline(record, wanted.jobs, wanted.repo)
        self._pipelines.pop(record.name, None)

    async def delete_all(self) -> None:
        """Delete every pipeline and every job; the repos stay."""
        await self._detached(self._delete_all)

    async def _delete_all(self) -> None:
        await self._delete(None, True, False)
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
        """Jobs of a pipeline (empty: of all) that read all of `inputs`, newest first."""
        await self._ready()
        await self._registry.settled()
        wanted = [(await self._files.inspect_commit(commit)).ref for commit in inputs]
        found = await self._registry.jobs(pipeline)
        if pipeline and not found:
            self._find(pipeline)
        return [job for job in found if all(commit == job.input for commit in wanted)]

    def sessions(self, job: JobRecord) -> list[Session]:
        """The workers that compute a datum of a job at present."""
        pipeline = self._pipelines.get(job.pipeline)
        sessions = pipeline.pool.sessions if pipeline is not None else []
        return [one for one in sessions if one.task is not None and one.task.load.job.id == job.id]

    def queue_size(self, pipeline: str) -> int:
        """How many of a pipeline's datums wait for a worker."""
        return self._pipelines[pipeline].pool.queue_size if pipeline in self._pipelines else 0

    async def log(self, pipeline: str, job_id: str) -> list[LogLine]:
        """What is kept of a pipeline's log, or of one job's, oldest first."""
        await self._ready()
        if job_id:
            job = await self._registry.job(job_id)
            if pipeline not in ("", job.pipeline):
                raise NotFoundError(f"job {job_id} is not one of pipeline {pipeline}'s")
            return [line for line in await self._logs.read(job.pipeline) if line.job_id == job_id]
        lines = await self._logs.read(pipeline)
        if not lines:
            self._find(pipeline)
        return lines

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
        found.worker_joined()
        return found

    def _version(self, pipeline: str, salt: str) -> Pipeline:
        found = self._find(pipeline)
        if found.record.salt != salt or found.record.deletion:
            raise StateError(f"this version of pipeline {pipeline} is gone: its workers are to end")
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
            self._logs.add(pipeline.name, entry)
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


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One of the errors in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _downstream_first(doomed: list[Pipeline]) -> list[Pipeline]:
    """The pipelines so ordered that each comes before those whose output it reads."""
    waiting = {pipeline.name: pipeline for pipeline in doomed}
    ordered = []
    while waiting:
        read = {repo for one in waiting.values() for repo in spec.input_repos(one.record.spec)}
        free = [name for name in waiting if name not in read] or list(waiting)
        ordered += [waiting.pop(name) for name in free]
    return ordered
