"""Making, updating, stopping, starting and deleting pipelines: one change at a time, each whole after any crash.

A change is recorded first, then carried out; what a crash leaves undone of it is done at the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import trio

from pfsd.errors import AlreadyExistsError, InvalidError, NotFoundError, StateError
from ppsd.engine import cron
from ppsd.engine.cron import CronRepos
from ppsd.engine.launcher import Launcher
from ppsd.engine.pipelines import Pipeline
from ppsd.specs import datums, inputs, spec
from ppsd.specs.inputs import Source
from ppsd.specs.spec import PipelineSpec
from ppsd.storage import records
from ppsd.storage.filesystem import CommitRef, CommitState, FileSystem
from ppsd.storage.logs import Logs
from ppsd.storage.records import Deletion, JobState, PipelineRecord, PipelineState, ProgressRecord, Succession
from ppsd.storage.registry import Registry

BEGIN_PATIENCE_SECONDS = 10.0
"""How long at most an update waits for the new version to be under way, so that flush-commit waits for its output."""


class Changes:
    """Changes the pipelines in `pipelines`; `make` gives one for a record, `begin` lets it run."""

    def __init__(
        self,
        pipelines: dict[str, Pipeline],
        files: FileSystem,
        registry: Registry,
        logs: Logs,
        launcher: Launcher,
        make: Callable[[PipelineRecord], Pipeline],
        begin: Callable[[Pipeline], None],
    ) -> None:
        self._pipelines = pipelines
        self._files = files
        self._registry = registry
        self._logs = logs
        self._launcher = launcher
        self._make = make
        self._begin = begin
        self._cron_repos = CronRepos(files, registry, lambda name: name in pipelines)
        self._lock = trio.Lock()

    def find(self, name: str) -> Pipeline:
        """The pipeline called `name`; raises NotFoundError."""
        pipeline = self._pipelines.get(name)
        if pipeline is None:
            raise NotFoundError(f"pipeline {name!r} does not exist: list-pipeline shows those that do")
        return pipeline

    async def finish(self, pipeline: Pipeline) -> None:
        """Do what a former run left undone of a change of a pipeline."""
        async with self._lock:
            if self._pipelines.get(pipeline.name) is not pipeline:
                return
            if pipeline.record.deletion:
                await self._finish_deletion(pipeline)
            elif pipeline.record.succession:
                await self._finish_update(pipeline)

    # --- making ------------------------------------------------------------------------------------------

    async def create(self, wanted: PipelineSpec, given: bytes) -> None:
        """Make a pipeline and its output repo; `given` is the request."""
        async with self._lock:
            name = wanted.name
            if name in self._pipelines:
                raise AlreadyExistsError(f"pipeline {name} already exists: update it, or take another name")
            wanted = await self._resolved(wanted)
            async with self._cron_repos.made(wanted):
                made = await self._take_repo(wanted)
                record = PipelineRecord(wanted, records.new_id(), 1, records.new_id(), time.time_ns(), given=given)
                cursors = tuple(source.from_commit for source in inputs.sources(wanted.input))
                try:
                    await self._registry.put_pipeline(record, ProgressRecord(cursors=cursors))
                except Exception:
                    if made:
                        await self._files.delete_repo(name)
                    raise
            self._start(record)

    async def _resolved(self, wanted: PipelineSpec) -> PipelineSpec:
        """The spec with ids for `from_commit` and starts for schedules; raises NotFoundError for what is not there."""
        wanted = cron.started(wanted)
        for repo in inputs.repos(wanted.input):
            if repo not in cron.crons(wanted) and not await self._files.repo_exists(repo):
                raise NotFoundError(f"input repo {repo} does not exist: create it first")
        starts = {}
        for source in inputs.sources(wanted.input):
            if source.from_commit:
                commit = await self._files.inspect_commit(CommitRef(source.repo, source.from_commit))
                starts[source] = commit.ref.id
        return replace(wanted, input=inputs.with_starts(wanted.input, starts))

    async def _take_repo(self, wanted: PipelineSpec) -> bool:
        """Make the output repo, or take over one that is empty or a former pipeline's; whether it was made."""
        name = wanted.name
        exists = await self._files.repo_exists(name)
        if exists:
            used = await self._files.list_commits(name, "", "", 1)
            if used and not await self._registry.made_repo(name):
                raise AlreadyExistsError(
                    f"repo {name} already exists and holds data: take another name for the pipeline"
                )
        await self._put_repo(wanted, exists)
        return not exists

    async def _put_repo(self, wanted: PipelineSpec, exists: bool) -> None:
        """Let the output repo have the input repos as its provenance."""
        read = inputs.repos(wanted.input)
        if exists and set(read) & set(await self._files.repos_below(wanted.name)):
            raise InvalidError(f"pipeline {wanted.name} would read what is computed from its own output")
        await self._files.create_repo(wanted.name, read, f"Output of pipeline {wanted.name}.", exists)

    def _start(self, record: PipelineRecord) -> Pipeline:
        """Let a version run, unless it is stopped."""
        pipeline = self._pipelines[record.name] = self._make(record)
        if record.stopped:
            pipeline.state = PipelineState.PAUSED
            pipeline.under_way.set()
        else:
            self._begin(pipeline)
        return pipeline

    # --- updating ----------------------------------------------------------------------------------------

    async def update(self, wanted: PipelineSpec, given: bytes, reprocess: bool) -> bool:
        """Replace a pipeline by its next version; gives whether anything changed. `given` is the request.

        One that computes the same, into the same branch, goes on where the former was. Else the former's jobs are
        stopped and the present heads of the inputs are processed anew, on a new commit tree; the former's output is
        kept under the branch BRANCH-vVERSION. With a `from_commit`, what comes after it is processed, and the output
        goes on from the former's.
        """
        async with self._lock:
            pipeline = self.find(wanted.name)
            if pipeline.record.succession:  # of an update that failed half-way
                pipeline = await self._finish_update(pipeline)
            old = pipeline.record
            wanted = await self._resolved(cron.going_on(wanted, old.spec))
            async with self._cron_repos.made(wanted):
                await self._put_repo(wanted, await self._files.repo_exists(wanted.name))
            keeps_salt = not reprocess and spec.same_computation(old.spec, wanted)
            if wanted == old.spec and not reprocess:
                pipeline.summon()  # where workers could not work, they may by now
                return False
            record = replace(old, spec=wanted, version=old.version + 1, given=given)
            same_sources = inputs.sources(old.spec.input) == inputs.sources(wanted.input)
            if keeps_salt and same_sources and old.spec.output_branch == wanted.output_branch:
                await self._registry.put_pipeline(record)
                pipeline.revise(record)
                return True
            pipeline = await self._begin_anew(pipeline, record, keeps_salt)
        with trio.move_on_after(BEGIN_PATIENCE_SECONDS):
            await pipeline.under_way.wait()
        return True

    async def _begin_anew(self, pipeline: Pipeline, record: PipelineRecord, keeps_salt: bool) -> Pipeline:
        """Replace a pipeline by a version that does not go on where it was."""
        old, wanted = pipeline.record, record.spec
        await pipeline.stop()
        try:
            branch = old.spec.output_branch
            goes_on = branch != wanted.output_branch or spec.starts_after_commit(wanted)
            succession = Succession(
                old_salt="" if keeps_salt else old.salt,
                branch=branch,
                archive="" if goes_on else f"{branch}-v{old.version}",
            )
            salt = old.salt if keeps_salt else records.new_id()
            record = replace(record, salt=salt, succession=succession)
            cursors = tuple([await self._start_of(source) for source in inputs.sources(wanted.input)])
            counts = (await self._registry.progress(record.name)).counts
            progress = ProgressRecord(cursors=cursors, counts=counts)
            await self._registry.put_pipeline(record, progress, forget_inputs=True)
        except Exception:
            self._start(old)
            raise
        return await self._finish_update(self._make(record))

    async def _start_of(self, source: Source) -> str:
        """After which commit a new version begins: `from_commit`, or what is before the last finished commit."""
        if source.from_commit:
            return source.from_commit
        head = await self._head(source.repo, source.branch)
        while head is not None and not head.finished:
            head = await self._files.inspect_commit(CommitRef(source.repo, head.parent)) if head.parent else None
        return "" if head is None else head.parent

    async def _head(self, repo: str, branch: str) -> CommitState | None:
        try:
            return await self._files.inspect_commit(CommitRef(repo, branch))
        except NotFoundError:
            return None

    async def _finish_update(self, pipeline: Pipeline) -> Pipeline:
        """Do what is left of an update that is recorded, and let the new version run."""
        self._pipelines[pipeline.name] = pipeline
        try:
            return await self._carry_out_update(pipeline)
        except Exception as error:
            pipeline.fail(f"its update is not finished, update it again: {error}")
            raise

    async def _carry_out_update(self, pipeline: Pipeline) -> Pipeline:
        record = pipeline.record
        left = record.succession
        if left is not None:
            await self._launcher.stop(record.name)
            pipeline.progress = await self._registry.progress(record.name)
            await pipeline.kill_open_jobs(f"pipeline {record.name} was updated")
            await self._forget_failures(record.name)
            if left.archive:
                await self._archive(record.name, left)
            if left.old_salt:
                await self._files.delete_tag_prefix(datums.tag_prefix(left.old_salt))
            record = replace(record, succession=None)
            await self._registry.put_pipeline(record)
        return self._start(record)

    async def _forget_failures(self, name: str) -> None:
        """Drop the commits that failed jobs left unfinished, on which flush-commit would fail for ever."""
        for job in await self._registry.jobs(name):
            if job.output is not None and job.state in (JobState.FAILURE, JobState.KILLED):
                try:
                    await self._files.delete_commit(job.output)
                except (NotFoundError, StateError):  # it went with a former update, or is used
                    pass

    async def _archive(self, repo: str, left: Succession) -> None:
        """Move the former version's output to a branch of its own."""
        head = await self._head(repo, left.branch)
        if head is not None:
            await self._files.set_branch(repo, left.archive, head.ref.id)
            await self._files.delete_branch(repo, left.branch)

    # --- stopping and starting ---------------------------------------------------------------------------

    async def stop(self, name: str) -> None:
        """Let a pipeline rest: it makes no jobs, and has no workers; the job that runs goes on when it is started."""
        async with self._lock:
            pipeline = self.find(name)
            if pipeline.record.stopped:
                return
            pipeline.record = replace(pipeline.record, stopped=True)
            await self._registry.put_pipeline(pipeline.record)
            await pipeline.stop()
            await self._launcher.stop(name)
            pipeline.state = PipelineState.PAUSED

    async def start(self, name: str) -> None:
        """Let a pipeline that was stopped run again."""
        async with self._lock:
            pipeline = self.find(name)
            if not pipeline.record.stopped:
                return
            record = replace(pipeline.record, stopped=False)
            await self._registry.put_pipeline(record)
            self._start(record)

    # --- deleting ----------------------------------------------------------------------------------------

    async def delete(self, names: Sequence[str] | None, jobs: bool, repo: bool) -> None:
        """Delete pipelines (None: all), with their jobs and their output repos if so asked."""
        async with self._lock:
            doomed = [self.find(name) for name in (self._pipelines if names is None else names)]
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
            if not await self._files.repo_exists(pipeline.name):
                continue
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
        await self._registry.put_pipeline(record)  # a job may have begun, and said so, after it was recorded first
        former = [record.succession.old_salt] if record.succession and record.succession.old_salt else []
        for salt in (record.salt, *former):
            await self._files.delete_tag_prefix(datums.tag_prefix(salt))
        if wanted.repo:
            try:
                await self._files.delete_repo(record.name)
            except NotFoundError:  # somebody was quicker
                pass
            await self._cron_repos.remove(record.spec)
        if wanted.jobs:
            await self._logs.forget(record.name)
        await self._registry.forget_pipeline(record, wanted.jobs, wanted.repo)
        self._pipelines.pop(record.name, None)


def _downstream_first(doomed: Iterable[Pipeline]) -> list[Pipeline]:
    """The pipelines so ordered that each comes before those whose output it reads."""
    waiting = {pipeline.name: pipeline for pipeline in doomed}
    ordered = []
    while waiting:
        read = {repo for one in waiting.values() for repo in inputs.repos(one.record.spec.input)}
        free = [name for name in waiting if name not in read] or list(waiting)
        ordered += [waiting.pop(name) for name in free]
    return ordered
