"""The service's records as messages of the wire, and what workers send as plain values."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from pachproto import pfs_pb2, pps_pb2, ppsd_pb2
from ppsd.engine.jobs import input_files
from ppsd.engine.pool import CallOff, HandOut, Line, Order, Outcome, Session, Task
from ppsd.specs import datums, durations, inputs
from ppsd.specs.datums import Datum
from ppsd.specs.spec import PipelineSpec, TransformSpec
from ppsd.storage import datumcosts
from ppsd.storage.grpcfilesystem import to_commit
from ppsd.storage.logs import LogLine
from ppsd.storage.records import DatumState, JobRecord, PipelineRecord, PipelineState, Stats


def timestamp(nanoseconds: int) -> Timestamp:
    """A time, given as nanoseconds since the epoch."""
    made = Timestamp()
    made.FromNanoseconds(nanoseconds)
    return made


def transform(spec: TransformSpec) -> pps_pb2.Transform:
    """What a datum runs."""
    return pps_pb2.Transform(
        image=spec.image,
        cmd=spec.cmd,
        env=dict(spec.env),
        stdin=spec.stdin,
        accept_return_code=spec.accept_return_code,
        secrets=[pps_pb2.Secret(name=one.name, mount_path=one.mount_path) for one in spec.secrets],
        image_pull_secrets=spec.image_pull_secrets,
        debug=spec.debug,
    )


def pipeline_info(
    record: PipelineRecord, state: PipelineState, recent_error: str, job_counts: dict[int, int]
) -> pps_pb2.PipelineInfo:
    """A pipeline, how it is, and how many of its jobs are in each state."""
    spec = record.spec
    info = pps_pb2.PipelineInfo(
        pipeline=pps_pb2.Pipeline(name=spec.name),
        id=record.id,
        version=record.version,
        salt=record.salt,
        created_at=timestamp(record.created_ns),
        description=spec.description,
        transform=transform(spec.transform),
        input=inputs.to_wire(spec.input, ()),
        output_branch=spec.output_branch,
        state=pps_pb2.PipelineState.Name(state.value),
        recent_error=recent_error,
        job_counts=job_counts,
        cache_size=spec.cache_size,
        incremental=spec.incremental,
        enable_stats=spec.enable_stats,
        batch=spec.batch,
    )
    _add_optional(info, spec)
    if record.given:
        info.given.ParseFromString(record.given)
    if spec.scale_down_ns:
        info.scale_down_threshold.CopyFrom(durations.to_wire(spec.scale_down_ns))
    return info


def _add_optional(info: pps_pb2.PipelineInfo | pps_pb2.JobInfo, spec: PipelineSpec) -> None:
    if spec.constant or spec.coefficient:
        info.parallelism_spec.constant = spec.constant
        info.parallelism_spec.coefficient = spec.coefficient
    if spec.cpu or spec.memory or spec.gpu:
        info.resource_spec.CopyFrom(pps_pb2.ResourceSpec(cpu=spec.cpu, memory=spec.memory, gpu=spec.gpu))
    if spec.service is not None:
        ports = spec.service
        info.service.internal_port = ports.internal_port
        info.service.external_port = ports.external_port or ports.internal_port
    if spec.egress:
        info.egress.URL = spec.egress


def job_info(job: JobRecord, sessions: list[Session], queue_size: int) -> pps_pb2.JobInfo:
    """A job, with the workers that compute for it at present."""
    spec = job.spec
    info = pps_pb2.JobInfo(
        job=pps_pb2.Job(id=job.id),
        pipeline=pps_pb2.Pipeline(name=spec.name),
        pipeline_version=job.pipeline_version,
        salt=job.salt,
        transform=transform(spec.transform),
        input=inputs.to_wire(spec.input, [commit.id for commit in job.inputs]),
        output_repo=pfs_pb2.Repo(name=spec.name),
        output_branch=spec.output_branch,
        started=timestamp(job.started_ns),
        state=pps_pb2.JobState.Name(job.state.value),
        restart=job.restarts,
        data_total=job.total,
        data_skipped=job.skipped,
        data_processed=job.processed,
        stats=datumcosts.to_wire(job.stats),
        worker_status=[_worker_status(session, queue_size) for session in sessions],
        incremental=spec.incremental,
        enable_stats=spec.enable_stats,
        batch=spec.batch,
        reason=job.reason,
    )
    _add_optional(info, spec)
    if job.output is not None:
        info.output_commit.CopyFrom(to_commit(job.output))
    if job.stats_commit is not None:
        info.stats_commit.CopyFrom(to_commit(job.stats_commit))
    if job.finished_ns:
        info.finished.CopyFrom(timestamp(job.finished_ns))
    return info


def datum_info(job: JobRecord, datum: Datum, state: DatumState, costs: Stats | None = None) -> pps_pb2.DatumInfo:
    """A datum of a job; `costs` where its pipeline keeps them."""
    info = pps_pb2.DatumInfo(
        datum=pps_pb2.Datum(id=datum.id, job=pps_pb2.Job(id=job.id)),
        state=pps_pb2.DatumState.Name(state.value),
        data=_data(input_files(datum)),
    )
    if costs is not None:
        info.stats.CopyFrom(datumcosts.to_wire(costs))
    if job.stats_commit is not None:
        info.pfs_state.CopyFrom(pfs_pb2.File(commit=to_commit(job.stats_commit), path=f"/{datum.id}/pfs"))
    return info


def _worker_status(session: Session, queue_size: int) -> pps_pb2.WorkerStatus:
    task = session.task
    return pps_pb2.WorkerStatus(
        worker_id=session.worker_id,
        job_id=task.load.job.id if task is not None else "",
        data=_data(input_files(task.datum)) if task is not None else (),
        started=timestamp(session.since_ns),
        queue_size=queue_size,
    )


def _data(files: tuple[tuple[str, bytes], ...]) -> list[pps_pb2.InputFile]:
    return [pps_pb2.InputFile(path=path, hash=digest) for path, digest in files]


def log_message(pipeline: str, line: LogLine) -> pps_pb2.LogMessage:
    """A line of a pipeline's log; the message ends in a newline, because clients of 1.5 add none."""
    return pps_pb2.LogMessage(
        pipeline_name=pipeline,
        job_id=line.job_id,
        worker_id=line.worker_id,
        data=_data(line.data),
        ts=timestamp(line.time_ns),
        message=f"{line.message}\n",
        user=line.user,
        master=line.master,
    )


# --- workers ---------------------------------------------------------------------------------------------


def order(given: Order) -> ppsd_pb2.ToWorker:
    """An order for a worker."""
    if isinstance(given, CallOff):
        return ppsd_pb2.ToWorker(cancel=given.lease)
    return ppsd_pb2.ToWorker(assignment=_assignment(given))


def _assignment(given: HandOut) -> ppsd_pb2.Assignment:
    task: Task = given.task
    job = task.load.job
    atoms = inputs.atoms(job.spec.input)
    former = task.former
    entries = [one.entry for one in former.inputs] if former is not None else [b""] * len(task.datum.inputs)
    made = ppsd_pb2.Assignment(
        lease=given.lease,
        job_id=job.id,
        datum_id=task.datum.id,
        tag=datums.tag(job.salt, task.datum.id),
        inputs=[
            ppsd_pb2.DatumInput(
                name=one.name,
                commit=to_commit(job.inputs[one.atom]),
                path=one.path,
                entry=one.entry,
                lazy=atoms[one.atom].lazy,
                former_entry=entry,
            )
            for one, entry in zip(task.datum.inputs, entries, strict=True)
        ],
        transform=transform(job.spec.transform),
        former_tag=datums.tag(job.salt, former.id) if former is not None else "",
        stats_tag=datums.stats_tag(job.salt, task.datum.id) if job.spec.enable_stats else "",
        coming=dict.fromkeys(
            one.entry for later in given.coming for one in later.datum.inputs if not atoms[one.atom].lazy
        ),
    )
    if job.output is not None:
        made.output_commit.CopyFrom(to_commit(job.output))
    return made


def line(sent: ppsd_pb2.LogLine) -> Line:
    """A log line that a worker sent."""
    return Line(sent.job_id, sent.datum_id, sent.user, sent.time_ns, sent.message)


def outcome(sent: ppsd_pb2.Outcome) -> Outcome:
    """What a worker says of a datum."""
    return Outcome(sent.error, datumcosts.from_wire(sent.stats))
