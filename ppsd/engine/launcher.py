"""What starts a pipeline's workers: the interface, the same for processes and pods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ppsd.specs.spec import PipelineSpec
from ppsd.storage.records import PipelineRecord


class Launcher(Protocol):
    """Keeps as many workers of each pipeline running as it was told to."""

    async def take_up(self, pipelines: Iterable[str]) -> None:
        """These are the pipelines that run, as a service starts: workers that a former service left of others go."""

    async def nodes(self) -> int:
        """How many machines there are for workers."""

    async def launch(self, record: PipelineRecord, count: int) -> None:
        """Have `count` workers of a pipeline's version from now on: starts or stops what that takes."""

    async def prepare(self, record: PipelineRecord, count: int) -> None:
        """Start workers ahead of the first job that needs them, where that costs others nothing."""

    def release(self, pipeline: str) -> None:
        """A pipeline has no job at present: its workers may be stopped for others' sake, until `launch` wants them."""

    async def stop(self, pipeline: str) -> None:
        """Stop all workers of a pipeline; none is left when this returns."""

    async def replace(self, pipeline: str, worker_id: str) -> None:
        """End a worker that does not answer, and start another one in its place."""

    def count(self, pipeline: str) -> int:
        """How many workers of a pipeline are wanted at present."""

    def notices(self, spec: PipelineSpec) -> list[str]:
        """Sentences for the job's log: what of the spec does not apply to workers that are started here."""


class Reports(Protocol):
    """Where a launcher tells of its workers."""

    def worker_died(self, pipeline: str, reason: str, hopeless: bool) -> None:
        """A worker ended by itself; `hopeless` when starting more of them makes no sense."""

    def workers_held_up(self, pipeline: str, reason: str) -> None:
        """Workers can't be started before something changes; the launcher goes on trying."""
