"""`pps.API`: what clients of Pachyderm 1.5 call. The methods run in the asyncio thread and hand over to the engine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import pps_pb2, ppsd_pb2
from pfsd.bridge import Bridge, Send
from pfsd.calls.convert import packed
from pfsd.errors import InvalidError, NotFoundError
from pfsd.runtime.threads import WALK, in_thread
from ppsd.engine.engine import Engine
from ppsd.engine.jobs import input_files
from ppsd.engine.pipelines import Pipeline
from ppsd.services import convert, requests
from ppsd.specs.datums import Datum
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.grpcfilesystem import from_commit
from ppsd.storage.logs import LogLine
from ppsd.storage.records import JobRecord

UNCHANGED = "ppsd-unchanged"
"""Metadata at the end of a CreatePipeline that is an update to what is there: the pipeline's name."""


class PipelineService:
    """The methods of `pps.API` that this version has; the others answer UNIMPLEMENTED."""

    def __init__(self, bridge: Bridge, engine: Engine) -> None:
        self._bridge = bridge
        self._engine = engine

    # --- pipelines ---------------------------------------------------------------------------------------

    async def CreatePipeline(self, request: pps_pb2.CreatePipelineRequest, context: Any) -> Empty:
        if not await self._bridge.in_trio(self._engine.create_pipeline, request):
            context.set_trailing_metadata(((UNCHANGED, request.pipeline.name),))
        return Empty()

    async def InspectPipeline(self, request: pps_pb2.InspectPipelineRequest, _context: Any) -> pps_pb2.PipelineInfo:
        return await self._bridge.in_trio(self._inspect_pipeline, _name(request.pipeline))

    async def ListPipeline(self, _request: pps_pb2.ListPipelineRequest, _context: Any) -> pps_pb2.PipelineInfos:
        return pps_pb2.PipelineInfos(pipeline_info=await self._bridge.in_trio(self._list_pipelines))

    async def StopPipeline(self, request: pps_pb2.StopPipelineRequest, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.stop_pipeline, _name(request.pipeline))
        return Empty()

    async def StartPipeline(self, request: pps_pb2.StartPipelineRequest, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.start_pipeline, _name(request.pipeline))
        return Empty()

    async def RerunPipeline(self, request: pps_pb2.RerunPipelineRequest, _context: Any) -> Empty:
        include, exclude = map(from_commit, request.include), map(from_commit, request.exclude)
        name = _name(request.pipeline)
        await self._bridge.in_trio(self._engine.rerun_pipeline, name, list(include), list(exclude))
        return Empty()

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

    async def CreateJob(self, request: pps_pb2.CreateJobRequest, _context: Any) -> pps_pb2.Job:
        commits = requests.commits_of_job(request)

        def change(wanted: PipelineSpec) -> PipelineSpec:
            return requests.overridden(wanted, request)

        job = await self._bridge.in_trio(self._engine.run_pipeline, request.pipeline.name, commits, change)
        return pps_pb2.Job(id=job.id)

    async def InspectJob(self, request: pps_pb2.InspectJobRequest, _context: Any) -> pps_pb2.JobInfo:
        return await self._bridge.in_trio(self._inspect_job, _id(request.job), request.block_state)

    async def StopJob(self, request: pps_pb2.StopJobRequest, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.stop_job, _id(request.job))
        return Empty()

    async def DeleteJob(self, request: pps_pb2.DeleteJobRequest, _context: Any) -> Empty:
        await self._bridge.in_trio(self._engine.delete_job, _id(request.job))
        return Empty()

    async def ListJob(self, request: pps_pb2.ListJobRequest, _context: Any) -> bytes:
        inputs = [from_commit(commit) for commit in request.input_commit]
        jobs = await self._bridge.in_trio(self._engine.jobs, request.pipeline.name, inputs)
        infos = (convert.job_info(job, [], 0) for job in jobs)
        return await in_thread(WALK, packed, pps_pb2.JobInfos, "job_info", infos)

    async def _inspect_job(self, job_id: str, wait: bool) -> pps_pb2.JobInfo:
        job: JobRecord = await self._engine.job(job_id, wait)
        return convert.job_info(job, self._engine.sessions(job), self._engine.queue_size(job.pipeline))

    # --- datums ------------------------------------------------------------------------------------------

    async def ListDatum(self, request: pps_pb2.ListDatumRequest, _context: Any) -> bytes:
        infos = await self._bridge.in_trio(self._datums, _id(request.job))
        return await in_thread(WALK, packed, pps_pb2.DatumInfos, "datum_info", infos)

    async def InspectDatum(self, request: pps_pb2.InspectDatumRequest, _context: Any) -> pps_pb2.DatumInfo:
        job_id, datum_id = _id(request.datum.job), request.datum.id
        for info in await self._bridge.in_trio(self._datums, job_id, datum_id):
            return info
        raise NotFoundError(f"job {job_id} has no datum {datum_id!r}: list-datum shows those that it has")

    async def _datums(self, job_id: str, datum_id: str = "") -> Iterator[pps_pb2.DatumInfo]:
        """The datums of a job, or the one of an id. The messages are made as they are asked for."""
        found = await self._engine.datums(job_id)
        if datum_id:
            found = [(datum, state) for datum, state in found if datum.id == datum_id]
        job = await self._engine.job(job_id, False)
        costs = await self._engine.datum_stats(job_id, [datum for datum, _ in found])
        return (convert.datum_info(job, datum, state, costs.get(datum.id)) for datum, state in found)

    async def RestartDatum(self, request: pps_pb2.RestartDatumRequest, _context: Any) -> Empty:
        filters = list(request.data_filters)

        def wanted(datum: Datum) -> bool:
            return matches(input_files(datum), filters)

        if not await self._bridge.in_trio(self._engine.restart_datums, _id(request.job), wanted):
            what = " and ".join(filters) or "any file"
            raise NotFoundError(f"no datum with {what} is being computed for job {request.job.id}")
        return Empty()

    # --- logs --------------------------------------------------------------------------------------------

    async def GetLogs(self, request: pps_pb2.GetLogsRequest, _context: Any) -> AsyncIterator[pps_pb2.LogMessage]:
        async for message in log_messages(self._bridge, self._engine, ppsd_pb2.LogsRequest(log=request)):
            yield message


class LogsService:
    """The method of `ppsd.Logs`."""

    def __init__(self, bridge: Bridge, engine: Engine) -> None:
        self._bridge = bridge
        self._engine = engine

    async def Read(self, request: ppsd_pb2.LogsRequest, _context: Any) -> AsyncIterator[pps_pb2.LogMessage]:
        async for message in log_messages(self._bridge, self._engine, request):
            yield message


async def log_messages(
    bridge: Bridge, engine: Engine, request: ppsd_pb2.LogsRequest
) -> AsyncIterator[pps_pb2.LogMessage]:
    """The lines that a request asks for."""
    pipeline, job_id = request.log.pipeline.name, request.log.job.id
    if not pipeline and not job_id:
        raise InvalidError("logs belong to a pipeline or a job: name one")
    filters = [*request.log.data_filters, *([request.log.input_file_id] if request.log.input_file_id else [])]

    def wanted(line: LogLine) -> bool:
        is_datum = request.datum_id in ("", line.datum_id)
        return line.master == request.log.master and is_datum and matches(line.data, filters)

    async def read(send: Send) -> None:
        async def take(name: str, lines: Sequence[LogLine]) -> None:
            await send([convert.log_message(name, line) for line in lines if wanted(line)])

        await engine.read_log(pipeline, job_id, request.follow, take)

    async for messages in bridge.in_trio_stream(read):
        for message in messages:
            yield message


def _name(pipeline: pps_pb2.Pipeline) -> str:
    if not pipeline.name:
        raise InvalidError("a pipeline needs a name")
    return pipeline.name


def _id(job: pps_pb2.Job) -> str:
    if not job.id:
        raise InvalidError("a job needs an id")
    return job.id


def matches(files: Sequence[tuple[str, bytes]], filters: Sequence[str]) -> bool:
    """Whether each filter is the path or the content hash (hex or base64) of one of the input files."""
    return all(any(_is_file(text, path, digest) for path, digest in files) for text in filters)


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
