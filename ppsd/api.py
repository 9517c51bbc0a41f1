"""`pps.API`: what clients of Pachyderm 1.5 call. The methods run in the asyncio thread and hand over to the engine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import pps_pb2
from pfsd.bridge import Bridge
from pfsd.errors import InvalidError
from ppsd import convert
from ppsd.engine import Engine
from ppsd.filesystem import from_commit
from ppsd.logs import LogLine
from ppsd.pipelines import Pipeline
from ppsd.records import JobRecord


class PipelineService:
    """The methods of `pps.API` that this version has; the others answer UNIMPLEMENTED."""

    def __init__(self, bridge: Bridge, engine: Engine) -> None:
        self._bridge = bridge
        self._engine = engine

    # --- pipelines ---------------------------------------------------------------------------------------

    async def CreatePipeline(self, request: pps_pb2.CreatePipelineRequest, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.create_pipeline, request)
        return Empty()

    async def InspectPipeline(self, request: pps_pb2.InspectPipelineRequest, _context: Any) -> pps_pb2.PipelineInfo:
        return await self._bridge.in_trio(self._inspect_pipeline, _name(request.pipeline))

    async def ListPipeline(self, _request: pps_pb2.ListPipelineRequest, _context: Any) -> pps_pb2.PipelineInfos:
        return pps_pb2.PipelineInfos(pipeline_info=await self._bridge.in_trio(self._list_pipelines))

    async def DeletePipeline(self, request: pps_pb2.DeletePipelineRequest, _context: Any) -> Empty:
        names = None if request.all else [_name(request.pipeline)]
        await self._bridge.in_trio(self._engine.delete_pipelines, names, request.delete_jobs, request.delete_repo)
        return Empty()

    async def DeleteAll(self, _request: Empty, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.delete_all)
        return Empty()

    async def GarbageCollect(
        self, _request: pps_pb2.GarbageCollectRequest, _context: Any
    ) -> pps_pb2.GarbageCollectResponse:
        await self._bridge.in_trio(self._engine.collect_garbage)
        return pps_pb2.GarbageCollectResponse()

    async def _inspect_pipeline(self, name: str) -> pps_pb2.PipelineInfo:
        return self._info(await self._engine.pipeline(name))

    async def _list_pipelines(self) -> list[pps_pb2.PipelineInfo]:
        return [self._info(pipeline) for pipeline in await self._engine.pipelines()]

    def _info(self, pipeline: Pipeline) -> pps_pb2.PipelineInfo:
        counts = dict(pipeline.progress.counts)
        for job in self._engine.open_jobs(pipeline.name):
            counts[job.state.value] = counts.get(job.state.value, 0) + 1
        return convert.pipeline_info(pipeline.record, pipeline.state, pipeline.recent_error, counts)

    # --- jobs --------------------------------------------------------------------------------------------

    async def InspectJob(self, request: pps_pb2.InspectJobRequest, _context: Any) -> pps_pb2.JobInfo:
        if not request.job.id:
            raise InvalidError("a job needs an id")
        return await self._bridge.in_trio(self._inspect_job, request.job.id, request.block_state)

    async def ListJob(self, request: pps_pb2.ListJobRequest, _context: Any) -> pps_pb2.JobInfos:
        inputs = [from_commit(commit) for commit in request.input_commit]
        jobs = await self._bridge.in_trio(self._engine.jobs, request.pipeline.name, inputs)
        return pps_pb2.JobInfos(job_info=[convert.job_info(job, [], 0) for job in jobs])

    async def _inspect_job(self, job_id: str, wait: bool) -> pps_pb2.JobInfo:
        job: JobRecord = await self._engine.job(job_id, wait)
        return convert.job_info(job, self._engine.sessions(job), self._engine.queue_size(job.pipeline))

    # --- logs --------------------------------------------------------------------------------------------

    async def GetLogs(self, request: pps_pb2.GetLogsRequest, _context: Any) -> AsyncIterator[pps_pb2.LogMessage]:
        if not request.pipeline.name and not request.job.id:
            raise InvalidError("logs belong to a pipeline or a job: name one")
        pipeline, lines = await self._bridge.in_trio(self._lines, request.pipeline.name, request.job.id)
        filters = [*request.data_filters, *([request.input_file_id] if request.input_file_id else [])]
        for line in lines:
            if line.master == request.master and matches(line, filters):
                yield convert.log_message(pipeline, line)

    async def _lines(self, pipeline: str, job_id: str) -> tuple[str, list[LogLine]]:
        lines = await self._engine.log(pipeline, job_id)
        if not pipeline:
            pipeline = (await self._engine.job(job_id, False)).pipeline
        return pipeline, lines


def _name(pipeline: pps_pb2.Pipeline) -> str:
    if not pipeline.name:
        raise InvalidError("a pipeline needs a name")
    return pipeline.name


def matches(line: LogLine, filters: Sequence[str]) -> bool:
    """Whether each filter is the path or the content hash (hex or base64) of one of the line's input files."""
    return all(any(_is_file(text, path, digest) for path, digest in line.data) for text in filters)


def _is_file(text: str, path: str, digest: bytes) -> bool:
    return text.strip("/") == path.strip("/") or digest in _hashes(text)


def _hashes(text: str) -> list[bytes]:
    """The bytes that `text` may mean."""
    found = []
    try:
        found.append(bytes.fromhex(text))
    except ValueError:
        pass
    try:
        found.append(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        pass
    return found
