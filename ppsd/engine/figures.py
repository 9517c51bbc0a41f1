"""Figures of the pipelines, for those who watch over a daemon. Jobs and datums are counted since the service began."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ppsd.storage.records import JobRecord, JobState, PipelineState


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a pipeline's jobs that are at their end."""

    jobs: Counter[JobState]
    processed: int = 0
    skipped: int = 0

    def with_job(self, job: JobRecord) -> Ended:
        """The same with one more."""
        return Ended(self.jobs + Counter((job.state,)), self.processed + job.processed, self.skipped + job.skipped)


@dataclass(frozen=True, slots=True)
class PipelineFigures:
    """Of one pipeline."""

    name: str
    state: PipelineState
    open_jobs: Counter[JobState]
    ended: Ended
    workers: int
    """That are connected."""
    waiting: int
    """Tasks, of one or more datums each, that wait for a worker."""
