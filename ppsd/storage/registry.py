"""The records of pipelines and jobs: reading them, and changing them in steps that a crash can't split.

Holds the open jobs in memory, so that calls that wait for a job's end are woken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import trio

from pfsd.errors import CorruptError, NotFoundError, UnavailableError
from pfsd.model import derivations
from pfsd.model.derivations import Derivation
from ppsd.specs import inputs
from ppsd.specs.spec import PipelineSpec
from ppsd.storage import codec, records
from ppsd.storage.filesystem import CommitRef, FileSystem
from ppsd.storage.records import FORM, JobRecord, JobState, PipelineRecord, ProgressRecord

T = TypeVar("T")

logger = logging.getLogger(__name__)

TODO_BATCH = 4096
"""Datums to a record of those that a job has to compute."""

CLOSING_SECONDS = 2.0
"""How long at most a reader waits for jobs that are about to end."""


class Registry:
    """Pipelines and jobs as they are kept in the daemon."""

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._ids = records.JobIds()
        self._open: dict[str, JobRecord] = {}
        self._ended: dict[str, trio.Event] = {}
        self._closed = False
        self.on_end: Callable[[JobRecord], None] = lambda _: None
        """Called with each job that has come to its end."""
        self._closing: dict[str, trio.Event] = {}

    async def load(self) -> list[PipelineRecord]:
        """Begin anew: read the open jobs into memory, and give all pipelines.

        What is damaged is logged and left out. Raises FormatError for what a newer version has written.
        """
        last = await self._files.scan_records(records.JOB_IDS, limit=1, reverse=True)
        self._ids = records.JobIds(last[0][0].removeprefix(records.JOB_IDS) if last else "")
        self._open.clear()
        for key, _ in await self._files.scan_records(records.OPEN_JOBS):
            try:
                job = await self._stored_job(key.removeprefix(records.OPEN_JOBS))
            except (NotFoundError, CorruptError) as error:
                logger.warning("%s is passed over: %s", key, error)
                continue
            self._open[job.id] = job
        pipelines = list(_readable(PipelineRecord, await self._files.scan_records(records.PIPELINES)))
        told = {key for key, _ in await self._files.scan_records(derivations.PREFIX)}
        for one in pipelines:
            if derivations.key(one.name) not in told:  # made by a version that did not tell
                await self._tell_derived(one)
        return pipelines

    async def _tell_derived(self, pipeline: PipelineRecord) -> None:
        try:
            cursors = (await self.progress(pipeline.name)).cursors
        except CorruptError as error:
            logger.warning("how far pipeline %s is can't be told: %s", pipeline.name, error)
            cursors = ()
        await self._files.write_records(_derived(pipeline.spec, cursors))

    def close(self) -> None:
        """Turn away all who wait for a job: its end will not be seen here."""
        self._closed = True
        for event in self._ended.values():
            event.set()
        self._ended.clear()

    # --- pipelines ---------------------------------------------------------------------------------------

    async def put_pipeline(
        self, pipeline: PipelineRecord, progress: ProgressRecord | None = None, forget_inputs: bool = False
    ) -> None:
        """Keep a pipeline, and with `progress` begin its course, `forget_inputs` as if it had had no job yet.

        The daemon is told in the same step what its repo is computed from, or that it is no more.
        """
        put = {records.pipeline_key(pipeline.name): codec.dump(pipeline, FORM)}
        if pipeline.deletion is not None:
            put[derivations.key(pipeline.name)] = derivations.dump(Derivation())
        elif progress is not None:
            put |= _derived(pipeline.spec, progress.cursors)
        if progress is not None:
            put[records.progress_key(pipeline.name)] = codec.dump(progress, FORM)
            put[records.made_repo_key(pipeline.name)] = b""
        await self._files.write_records(put, (), [records.input_prefix(pipeline.id)] if forget_inputs else [])

    async def progress(self, name: str) -> ProgressRecord:
        """How far a pipeline is."""
        data = await self._value(records.progress_key(name))
        return ProgressRecord() if data is None else codec.load(ProgressRecord, data, FORM)

    async def forget_pipeline(self, pipeline: PipelineRecord, jobs: bool, repo: bool) -> None:
        """Remove a pipeline's records; with `jobs` its jobs and their logs, with `repo` that it made one."""
        name = pipeline.name
        gone = [records.pipeline_key(name), records.progress_key(name)]
        below = [records.input_prefix(pipeline.id)]
        if jobs:
            gone += [records.job_id_key(job.id) for job in await self.jobs(name)]
            below += [records.job_prefix(name), records.log_prefix(name), records.todo_prefix(name)]
        if repo:
            gone += [records.made_repo_key(name), derivations.key(name)]
        await self._files.write_records({}, gone, below)

    async def made_repo(self, name: str) -> bool:
        """Whether a repo was made as a pipeline's output."""
        return await self._value(records.made_repo_key(name)) is not None

    async def clock_of(self, repo: str) -> str:
        """The pipeline to whose cron input a repo belongs, or empty."""
        return (await self._value(records.clock_key(repo)) or b"").decode(errors="replace")

    async def claim_clock(self, repo: str, pipeline: str) -> None:
        """Note that a repo belongs to a pipeline's cron input."""
        await self._files.write_records({records.clock_key(repo): pipeline.encode()})

    async def release_clock(self, repo: str) -> None:
        """Forget that a repo belongs to a pipeline's cron input."""
        await self._files.write_records({}, [records.clock_key(repo)])

    # --- jobs --------------------------------------------------------------------------------------------

    def draw_job_id(self) -> str:
        """A new job id, above all others."""
        return self._ids.draw()

    async def add_job(self, job: JobRecord, progress: ProgressRecord | None = None, set_key: str = "") -> None:
        """Keep a new job; one made for a set of commits together with the progress that it means for its pipeline."""
        put = {
            records.job_key(job.pipeline, job.id): codec.dump(job, FORM),
            records.job_id_key(job.id): job.pipeline.encode(),
            records.open_job_key(job.id): b"",
        }
        if progress is not None:
            put[records.input_prefix(job.pipeline_id) + set_key] = job.id.encode()
            put[records.progress_key(job.pipeline)] = codec.dump(progress, FORM)
        with trio.CancelScope(shield=True):  # a job that is kept has to be known
            await self._files.write_records(put)
            self._open[job.id] = job

    async def put_todo(self, job: JobRecord, datum_ids: Sequence[str]) -> None:
        """Keep which datums a job has to compute; on disk with the next change of the job."""
        prefix = records.todo_prefix(job.pipeline, job.id)
        for number, at in enumerate(range(0, len(datum_ids), TODO_BATCH)):
            ids = b"".join(map(bytes.fromhex, datum_ids[at : at + TODO_BATCH]))
            await self._files.write_records({f"{prefix}{number:08x}": ids}, sync=False)

    async def todo(self, job: JobRecord) -> set[str]:
        """Which datums a job had to compute."""
        batches = [data for _, data in await self._files.scan_records(records.todo_prefix(job.pipeline, job.id))]
        return {batch[at : at + 32].hex() for batch in batches for at in range(0, len(batch), 32)}

    async def forget_job(self, job: JobRecord) -> None:
        """Remove a job that is at its end."""
        gone = [records.job_key(job.pipeline, job.id), records.job_id_key(job.id)]
        await self._files.write_records({}, gone, [records.todo_prefix(job.pipeline, job.id)])

    async def update_job(
        self,
        job: JobRecord,
        progress: ProgressRecord | None = None,
        sync: bool = True,
        taken: Sequence[str] | None = None,
    ) -> None:
        """Keep what became of an open job; with `progress`, what its pipeline's became by it.

        `taken` are the pipeline's cursors, where the output of all up to these is started by now.
        """
        if not job.state.final:
            self._open[job.id] = job
        put = {records.job_key(job.pipeline, job.id): codec.dump(job, FORM)}
        if progress is not None:
            put[records.progress_key(job.pipeline)] = codec.dump(progress, FORM)
        if taken is not None:
            put |= _derived(job.spec, taken)
        ended = [records.open_job_key(job.id)] if job.state.final else []
        with trio.CancelScope(shield=True):
            await self._files.write_records(put, ended, sync=sync)
            if job.state.final:
                self._open.pop(job.id, None)
                self.on_end(job)
                event = self._ended.pop(job.id, None)
                if event is not None:
                    event.set()

    def note_job(self, job: JobRecord) -> None:
        """Show an open job's progress to those who ask, without writing it."""
        self._open[job.id] = job

    def open_jobs(self, pipeline: str) -> list[JobRecord]:
        """A pipeline's jobs that are not at their end, oldest first."""
        return sorted((job for job in self._open.values() if job.pipeline == pipeline), key=lambda job: job.id)

    async def job(self, job_id: str) -> JobRecord:
        """A job as it is now; raises NotFoundError."""
        return self._open.get(job_id) or await self._stored_job(job_id)

    @contextmanager
    def closing(self, job: JobRecord) -> Iterator[None]:
        """Mark that a job is about to end: its output commit may be seen finished before its record says so."""
        self._closing.setdefault(job.id, trio.Event())
        try:
            yield
        finally:
            self._closing.pop(job.id).set()

    async def settled(self) -> None:
        """Wait until no job is about to end, so that who has seen a commit finish sees its job ended too."""
        with trio.move_on_after(CLOSING_SECONDS):
            for event in list(self._closing.values()):
                await event.wait()

    def end_of(self, job: JobRecord) -> trio.Event:
        """What is set when a job is at its end, or when its end will not be seen here."""
        event = trio.Event()
        if job.state.final or self._closed:
            event.set()
            return event
        return self._ended.setdefault(job.id, event)

    async def ended_job(self, job_id: str) -> JobRecord:
        """A job once it is at its end."""
        job = await self.job(job_id)
        while not job.state.final:
            if self._closed:
                raise UnavailableError("the pipeline service is stopping: ask again")
            await self.end_of(job).wait()
            job = await self.job(job_id)
        return job

    async def jobs(self, pipeline: str) -> list[JobRecord]:
        """The jobs of a pipeline, or with an empty name all jobs; newest first."""
        stored = await self._files.scan_records(records.job_prefix(pipeline) if pipeline else records.JOBS)
        found = _readable(JobRecord, stored)
        return sorted((self._open.get(job.id, job) for job in found), key=lambda job: job.id, reverse=True)

    async def input_has_job(self, pipeline_id: str) -> dict[str, str]:
        """The sets of input commits of a pipeline for which a job was made, each with the job's id."""
        prefix = records.input_prefix(pipeline_id)
        found = await self._files.scan_records(prefix)
        return {key.removeprefix(prefix): data.decode(errors="replace") for key, data in found}

    async def forget_all_jobs(self) -> None:
        """Remove every job and every log line."""
        below: Sequence[str] = (
            records.JOBS,
            records.JOB_IDS,
            records.OPEN_JOBS,
            records.LOGS,
            records.REMAINING,
        )
        await self._files.write_records({}, (), below)

    async def _stored_job(self, job_id: str) -> JobRecord:
        pipeline = await self._value(records.job_id_key(job_id))
        if pipeline is not None:
            data = await self._value(records.job_key(pipeline.decode(errors="replace"), job_id))
        else:
            data = None
        if data is None:
            raise NotFoundError(f"job {job_id!r} does not exist: list-job shows those that do")
        return codec.load(JobRecord, data, FORM)

    async def _value(self, key: str) -> bytes | None:
        for found, data in await self._files.scan_records(key, limit=1):
            if found == key:
                return data
        return None


def _readable(kind: type[T], stored: Iterable[tuple[str, bytes]]) -> Iterator[T]:
    """The records among these, but those that are damaged."""
    for key, data in stored:
        try:
            yield codec.load(kind, data, FORM)
        except CorruptError as error:
            logger.warning("%s is passed over: %s", key, error)


def _derived(spec: PipelineSpec, cursors: Sequence[str]) -> dict[str, bytes]:
    """The record that tells the daemon from what a pipeline's repo is computed, and how far that is."""
    sources = inputs.sources(spec.input)
    seen = cursors or [source.from_commit for source in sources]
    told = Derivation(
        f"pipeline {spec.name}",
        spec.output_branch,
        tuple(derivations.Source(source.repo, source.branch, last) for source, last in zip(sources, seen, strict=True)),
    )
    return {derivations.key(spec.name): derivations.dump(told)}


def ended(job: JobRecord, state: JobState, now_ns: int) -> JobRecord:
    """The job at its end."""
    return replace(job, state=state, verdict=None, finished_ns=now_ns)


def output_of(job: JobRecord) -> CommitRef:
    """The output commit of a job that has one."""
    if job.output is None:
        raise ValueError(f"job {job.id} has no output commit")
    return job.output
