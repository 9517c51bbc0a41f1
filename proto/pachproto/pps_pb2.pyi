import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pachproto import pfs_pb2 as _pfs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STARTING: _ClassVar[JobState]
    JOB_RUNNING: _ClassVar[JobState]
    JOB_FAILURE: _ClassVar[JobState]
    JOB_SUCCESS: _ClassVar[JobState]
    JOB_KILLED: _ClassVar[JobState]

class DatumState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILED: _ClassVar[DatumState]
    SUCCESS: _ClassVar[DatumState]
    SKIPPED: _ClassVar[DatumState]
    STARTING: _ClassVar[DatumState]

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POD_RUNNING: _ClassVar[WorkerState]
    POD_SUCCESS: _ClassVar[WorkerState]
    POD_FAILED: _ClassVar[WorkerState]

class PipelineState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIPELINE_STARTING: _ClassVar[PipelineState]
    PIPELINE_RUNNING: _ClassVar[PipelineState]
    PIPELINE_RESTARTING: _ClassVar[PipelineState]
    PIPELINE_FAILURE: _ClassVar[PipelineState]
    PIPELINE_PAUSED: _ClassVar[PipelineState]
JOB_STARTING: JobState
JOB_RUNNING: JobState
JOB_FAILURE: JobState
JOB_SUCCESS: JobState
JOB_KILLED: JobState
FAILED: DatumState
SUCCESS: DatumState
SKIPPED: DatumState
STARTING: DatumState
POD_RUNNING: WorkerState
POD_SUCCESS: WorkerState
POD_FAILED: WorkerState
PIPELINE_STARTING: PipelineState
PIPELINE_RUNNING: PipelineState
PIPELINE_RESTARTING: PipelineState
PIPELINE_FAILURE: PipelineState
PIPELINE_PAUSED: PipelineState

class Secret(_message.Message):
    __slots__ = ("name", "mount_path")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MOUNT_PATH_FIELD_NUMBER: _ClassVar[int]
    name: str
    mount_path: str
    def __init__(self, name: _Optional[str] = ..., mount_path: _Optional[str] = ...) -> None: ...

class Transform(_message.Message):
    __slots__ = ("image", "cmd", "env", "secrets", "stdin", "accept_return_code", "debug", "image_pull_secrets")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CMD_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PULL_SECRETS_FIELD_NUMBER: _ClassVar[int]
    image: str
    cmd: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    secrets: _containers.RepeatedCompositeFieldContainer[Secret]
    stdin: _containers.RepeatedScalarFieldContainer[str]
    accept_return_code: _containers.RepeatedScalarFieldContainer[int]
    debug: bool
    image_pull_secrets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, image: _Optional[str] = ..., cmd: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., secrets: _Optional[_Iterable[_Union[Secret, _Mapping]]] = ..., stdin: _Optional[_Iterable[str]] = ..., accept_return_code: _Optional[_Iterable[int]] = ..., debug: _Optional[bool] = ..., image_pull_secrets: _Optional[_Iterable[str]] = ...) -> None: ...

class Egress(_message.Message):
    __slots__ = ("URL",)
    URL_FIELD_NUMBER: _ClassVar[int]
    URL: str
    def __init__(self, URL: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("internal_port", "external_port")
    INTERNAL_PORT_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_PORT_FIELD_NUMBER: _ClassVar[int]
    internal_port: int
    external_port: int
    def __init__(self, internal_port: _Optional[int] = ..., external_port: _Optional[int] = ...) -> None: ...

class AtomInput(_message.Message):
    __slots__ = ("name", "repo", "branch", "commit", "glob", "lazy", "from_commit", "recursive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPO_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    GLOB_FIELD_NUMBER: _ClassVar[int]
    LAZY_FIELD_NUMBER: _ClassVar[int]
    FROM_COMMIT_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    repo: str
    branch: str
    commit: str
    glob: str
    lazy: bool
    from_commit: str
    recursive: bool
    def __init__(self, name: _Optional[str] = ..., repo: _Optional[str] = ..., branch: _Optional[str] = ..., commit: _Optional[str] = ..., glob: _Optional[str] = ..., lazy: _Optional[bool] = ..., from_commit: _Optional[str] = ..., recursive: _Optional[bool] = ...) -> None: ...

class CronInput(_message.Message):
    __slots__ = ("name", "repo", "commit", "spec", "start")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPO_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    name: str
    repo: str
    commit: str
    spec: str
    start: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., repo: _Optional[str] = ..., commit: _Optional[str] = ..., spec: _Optional[str] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("atom", "cross", "union", "cron")
    ATOM_FIELD_NUMBER: _ClassVar[int]
    CROSS_FIELD_NUMBER: _ClassVar[int]
    UNION_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    atom: AtomInput
    cross: _containers.RepeatedCompositeFieldContainer[Input]
    union: _containers.RepeatedCompositeFieldContainer[Input]
    cron: CronInput
    def __init__(self, atom: _Optional[_Union[AtomInput, _Mapping]] = ..., cross: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., union: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., cron: _Optional[_Union[CronInput, _Mapping]] = ...) -> None: ...

class JobInput(_message.Message):
    __slots__ = ("commit", "glob", "lazy", "name")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    GLOB_FIELD_NUMBER: _ClassVar[int]
    LAZY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    glob: str
    lazy: bool
    name: str
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., glob: _Optional[str] = ..., lazy: _Optional[bool] = ..., name: _Optional[str] = ...) -> None: ...

class ParallelismSpec(_message.Message):
    __slots__ = ("constant", "coefficient")
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    constant: int
    coefficient: float
    def __init__(self, constant: _Optional[int] = ..., coefficient: _Optional[float] = ...) -> None: ...

class InputFile(_message.Message):
    __slots__ = ("path", "hash")
    PATH_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    path: str
    hash: bytes
    def __init__(self, path: _Optional[str] = ..., hash: _Optional[bytes] = ...) -> None: ...

class Datum(_message.Message):
    __slots__ = ("id", "job")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    id: str
    job: Job
    def __init__(self, id: _Optional[str] = ..., job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DatumInfo(_message.Message):
    __slots__ = ("datum", "state", "stats", "pfs_state", "data")
    DATUM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    PFS_STATE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    datum: Datum
    state: DatumState
    stats: ProcessStats
    pfs_state: _pfs_pb2.File
    data: _containers.RepeatedCompositeFieldContainer[InputFile]
    def __init__(self, datum: _Optional[_Union[Datum, _Mapping]] = ..., state: _Optional[_Union[DatumState, str]] = ..., stats: _Optional[_Union[ProcessStats, _Mapping]] = ..., pfs_state: _Optional[_Union[_pfs_pb2.File, _Mapping]] = ..., data: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ...) -> None: ...

class DatumInfos(_message.Message):
    __slots__ = ("datum_info",)
    DATUM_INFO_FIELD_NUMBER: _ClassVar[int]
    datum_info: _containers.RepeatedCompositeFieldContainer[DatumInfo]
    def __init__(self, datum_info: _Optional[_Iterable[_Union[DatumInfo, _Mapping]]] = ...) -> None: ...

class Aggregate(_message.Message):
    __slots__ = ("count", "mean", "stddev", "fifth_percentile", "ninety_fifth_percentile")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STDDEV_FIELD_NUMBER: _ClassVar[int]
    FIFTH_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    NINETY_FIFTH_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    count: int
    mean: float
    stddev: float
    fifth_percentile: float
    ninety_fifth_percentile: float
    def __init__(self, count: _Optional[int] = ..., mean: _Optional[float] = ..., stddev: _Optional[float] = ..., fifth_percentile: _Optional[float] = ..., ninety_fifth_percentile: _Optional[float] = ...) -> None: ...

class ProcessStats(_message.Message):
    __slots__ = ("download_time", "process_time", "upload_time", "download_bytes", "upload_bytes")
    DOWNLOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    download_time: _duration_pb2.Duration
    process_time: _duration_pb2.Duration
    upload_time: _duration_pb2.Duration
    download_bytes: int
    upload_bytes: int
    def __init__(self, download_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., process_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., upload_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., download_bytes: _Optional[int] = ..., upload_bytes: _Optional[int] = ...) -> None: ...

class AggregateProcessStats(_message.Message):
    __slots__ = ("download_time", "process_time", "upload_time", "download_bytes", "upload_bytes")
    DOWNLOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TIME_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    download_time: Aggregate
    process_time: Aggregate
    upload_time: Aggregate
    download_bytes: Aggregate
    upload_bytes: Aggregate
    def __init__(self, download_time: _Optional[_Union[Aggregate, _Mapping]] = ..., process_time: _Optional[_Union[Aggregate, _Mapping]] = ..., upload_time: _Optional[_Union[Aggregate, _Mapping]] = ..., download_bytes: _Optional[_Union[Aggregate, _Mapping]] = ..., upload_bytes: _Optional[_Union[Aggregate, _Mapping]] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("worker_id", "job_id", "data", "started", "stats", "queue_size")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SIZE_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    job_id: str
    data: _containers.RepeatedCompositeFieldContainer[InputFile]
    started: _timestamp_pb2.Timestamp
    stats: ProcessStats
    queue_size: int
    def __init__(self, worker_id: _Optional[str] = ..., job_id: _Optional[str] = ..., data: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stats: _Optional[_Union[ProcessStats, _Mapping]] = ..., queue_size: _Optional[int] = ...) -> None: ...

class ResourceSpec(_message.Message):
    __slots__ = ("cpu", "memory", "gpu")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    memory: str
    gpu: int
    def __init__(self, cpu: _Optional[float] = ..., memory: _Optional[str] = ..., gpu: _Optional[int] = ...) -> None: ...

class JobInfo(_message.Message):
    __slots__ = ("job", "transform", "pipeline", "inputs", "parent_job", "started", "finished", "output_commit", "state", "parallelism_spec", "pipeline_version", "service", "egress", "output_branch", "output_repo", "restart", "data_processed", "data_total", "worker_status", "resource_spec", "input", "new_branch", "incremental", "stats_commit", "data_skipped", "stats", "enable_stats", "salt", "batch", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COMMIT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_SPEC_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BRANCH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_REPO_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    DATA_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    DATA_TOTAL_FIELD_NUMBER: _ClassVar[int]
    WORKER_STATUS_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    NEW_BRANCH_FIELD_NUMBER: _ClassVar[int]
    INCREMENTAL_FIELD_NUMBER: _ClassVar[int]
    STATS_COMMIT_FIELD_NUMBER: _ClassVar[int]
    DATA_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_STATS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: Job
    transform: Transform
    pipeline: Pipeline
    inputs: _containers.RepeatedCompositeFieldContainer[JobInput]
    parent_job: Job
    started: _timestamp_pb2.Timestamp
    finished: _timestamp_pb2.Timestamp
    output_commit: _pfs_pb2.Commit
    state: JobState
    parallelism_spec: ParallelismSpec
    pipeline_version: int
    service: Service
    egress: Egress
    output_branch: str
    output_repo: _pfs_pb2.Repo
    restart: int
    data_processed: int
    data_total: int
    worker_status: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    resource_spec: ResourceSpec
    input: Input
    new_branch: _pfs_pb2.BranchInfo
    incremental: bool
    stats_commit: _pfs_pb2.Commit
    data_skipped: int
    stats: ProcessStats
    enable_stats: bool
    salt: str
    batch: bool
    reason: str
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[JobInput, _Mapping]]] = ..., parent_job: _Optional[_Union[Job, _Mapping]] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., output_commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., state: _Optional[_Union[JobState, str]] = ..., parallelism_spec: _Optional[_Union[ParallelismSpec, _Mapping]] = ..., pipeline_version: _Optional[int] = ..., service: _Optional[_Union[Service, _Mapping]] = ..., egress: _Optional[_Union[Egress, _Mapping]] = ..., output_branch: _Optional[str] = ..., output_repo: _Optional[_Union[_pfs_pb2.Repo, _Mapping]] = ..., restart: _Optional[int] = ..., data_processed: _Optional[int] = ..., data_total: _Optional[int] = ..., worker_status: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., resource_spec: _Optional[_Union[ResourceSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., new_branch: _Optional[_Union[_pfs_pb2.BranchInfo, _Mapping]] = ..., incremental: _Optional[bool] = ..., stats_commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., data_skipped: _Optional[int] = ..., stats: _Optional[_Union[ProcessStats, _Mapping]] = ..., enable_stats: _Optional[bool] = ..., salt: _Optional[str] = ..., batch: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("name", "state")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: WorkerState
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[WorkerState, str]] = ...) -> None: ...

class JobInfos(_message.Message):
    __slots__ = ("job_info",)
    JOB_INFO_FIELD_NUMBER: _ClassVar[int]
    job_info: _containers.RepeatedCompositeFieldContainer[JobInfo]
    def __init__(self, job_info: _Optional[_Iterable[_Union[JobInfo, _Mapping]]] = ...) -> None: ...

class Pipeline(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class PipelineInput(_message.Message):
    __slots__ = ("repo", "branch", "glob", "lazy", "name")
    REPO_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    GLOB_FIELD_NUMBER: _ClassVar[int]
    LAZY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    repo: _pfs_pb2.Repo
    branch: str
    glob: str
    lazy: bool
    name: str
    def __init__(self, repo: _Optional[_Union[_pfs_pb2.Repo, _Mapping]] = ..., branch: _Optional[str] = ..., glob: _Optional[str] = ..., lazy: _Optional[bool] = ..., name: _Optional[str] = ..., **kwargs) -> None: ...

class PipelineInfo(_message.Message):
    __slots__ = ("pipeline", "transform", "inputs", "created_at", "state", "recent_error", "job_counts", "parallelism_spec", "version", "egress", "output_branch", "id", "scale_down_threshold", "resource_spec", "input", "description", "incremental", "cache_size", "enable_stats", "salt", "capability", "batch", "service")
    class JobCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECENT_ERROR_FIELD_NUMBER: _ClassVar[int]
    JOB_COUNTS_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_SPEC_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BRANCH_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SCALE_DOWN_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INCREMENTAL_FIELD_NUMBER: _ClassVar[int]
    CACHE_SIZE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_STATS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    transform: Transform
    inputs: _containers.RepeatedCompositeFieldContainer[PipelineInput]
    created_at: _timestamp_pb2.Timestamp
    state: PipelineState
    recent_error: str
    job_counts: _containers.ScalarMap[int, int]
    parallelism_spec: ParallelismSpec
    version: int
    egress: Egress
    output_branch: str
    id: str
    scale_down_threshold: _duration_pb2.Duration
    resource_spec: ResourceSpec
    input: Input
    description: str
    incremental: bool
    cache_size: str
    enable_stats: bool
    salt: str
    capability: str
    batch: bool
    service: Service
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[PipelineInput, _Mapping]]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[PipelineState, str]] = ..., recent_error: _Optional[str] = ..., job_counts: _Optional[_Mapping[int, int]] = ..., parallelism_spec: _Optional[_Union[ParallelismSpec, _Mapping]] = ..., version: _Optional[int] = ..., egress: _Optional[_Union[Egress, _Mapping]] = ..., output_branch: _Optional[str] = ..., id: _Optional[str] = ..., scale_down_threshold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resource_spec: _Optional[_Union[ResourceSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., description: _Optional[str] = ..., incremental: _Optional[bool] = ..., cache_size: _Optional[str] = ..., enable_stats: _Optional[bool] = ..., salt: _Optional[str] = ..., capability: _Optional[str] = ..., batch: _Optional[bool] = ..., service: _Optional[_Union[Service, _Mapping]] = ...) -> None: ...

class PipelineInfos(_message.Message):
    __slots__ = ("pipeline_info",)
    PIPELINE_INFO_FIELD_NUMBER: _ClassVar[int]
    pipeline_info: _containers.RepeatedCompositeFieldContainer[PipelineInfo]
    def __init__(self, pipeline_info: _Optional[_Iterable[_Union[PipelineInfo, _Mapping]]] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("transform", "pipeline", "inputs", "parallelism_spec", "service", "egress", "pipeline_version", "output_branch", "output_repo", "parent_job", "resource_spec", "input", "new_branch", "incremental", "enable_stats", "salt", "batch")
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_SPEC_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BRANCH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_REPO_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    NEW_BRANCH_FIELD_NUMBER: _ClassVar[int]
    INCREMENTAL_FIELD_NUMBER: _ClassVar[int]
    ENABLE_STATS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    transform: Transform
    pipeline: Pipeline
    inputs: _containers.RepeatedCompositeFieldContainer[JobInput]
    parallelism_spec: ParallelismSpec
    service: Service
    egress: Egress
    pipeline_version: int
    output_branch: str
    output_repo: _pfs_pb2.Repo
    parent_job: Job
    resource_spec: ResourceSpec
    input: Input
    new_branch: _pfs_pb2.BranchInfo
    incremental: bool
    enable_stats: bool
    salt: str
    batch: bool
    def __init__(self, transform: _Optional[_Union[Transform, _Mapping]] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[JobInput, _Mapping]]] = ..., parallelism_spec: _Optional[_Union[ParallelismSpec, _Mapping]] = ..., service: _Optional[_Union[Service, _Mapping]] = ..., egress: _Optional[_Union[Egress, _Mapping]] = ..., pipeline_version: _Optional[int] = ..., output_branch: _Optional[str] = ..., output_repo: _Optional[_Union[_pfs_pb2.Repo, _Mapping]] = ..., parent_job: _Optional[_Union[Job, _Mapping]] = ..., resource_spec: _Optional[_Union[ResourceSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., new_branch: _Optional[_Union[_pfs_pb2.BranchInfo, _Mapping]] = ..., incremental: _Optional[bool] = ..., enable_stats: _Optional[bool] = ..., salt: _Optional[str] = ..., batch: _Optional[bool] = ...) -> None: ...

class InspectJobRequest(_message.Message):
    __slots__ = ("job", "block_state")
    JOB_FIELD_NUMBER: _ClassVar[int]
    BLOCK_STATE_FIELD_NUMBER: _ClassVar[int]
    job: Job
    block_state: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., block_state: _Optional[bool] = ...) -> None: ...

class ListJobRequest(_message.Message):
    __slots__ = ("pipeline", "input_commit")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    INPUT_COMMIT_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    input_commit: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.Commit]
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., input_commit: _Optional[_Iterable[_Union[_pfs_pb2.Commit, _Mapping]]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class StopJobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetLogsRequest(_message.Message):
    __slots__ = ("job", "pipeline", "data_filters", "input_file_id", "master")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    DATA_FILTERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FILE_ID_FIELD_NUMBER: _ClassVar[int]
    MASTER_FIELD_NUMBER: _ClassVar[int]
    job: Job
    pipeline: Pipeline
    data_filters: _containers.RepeatedScalarFieldContainer[str]
    input_file_id: str
    master: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., data_filters: _Optional[_Iterable[str]] = ..., input_file_id: _Optional[str] = ..., master: _Optional[bool] = ...) -> None: ...

class LogMessage(_message.Message):
    __slots__ = ("pipeline_name", "job_id", "data", "ts", "message", "worker_id", "user", "input_file_id", "master")
    PIPELINE_NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FILE_ID_FIELD_NUMBER: _ClassVar[int]
    MASTER_FIELD_NUMBER: _ClassVar[int]
    pipeline_name: str
    job_id: str
    data: _containers.RepeatedCompositeFieldContainer[InputFile]
    ts: _timestamp_pb2.Timestamp
    message: str
    worker_id: str
    user: bool
    input_file_id: str
    master: bool
    def __init__(self, pipeline_name: _Optional[str] = ..., job_id: _Optional[str] = ..., data: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ..., ts: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., message: _Optional[str] = ..., worker_id: _Optional[str] = ..., user: _Optional[bool] = ..., input_file_id: _Optional[str] = ..., master: _Optional[bool] = ...) -> None: ...

class RestartDatumRequest(_message.Message):
    __slots__ = ("job", "data_filters")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DATA_FILTERS_FIELD_NUMBER: _ClassVar[int]
    job: Job
    data_filters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., data_filters: _Optional[_Iterable[str]] = ...) -> None: ...

class InspectDatumRequest(_message.Message):
    __slots__ = ("datum",)
    DATUM_FIELD_NUMBER: _ClassVar[int]
    datum: Datum
    def __init__(self, datum: _Optional[_Union[Datum, _Mapping]] = ...) -> None: ...

class ListDatumRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class CreatePipelineRequest(_message.Message):
    __slots__ = ("pipeline", "transform", "inputs", "update", "parallelism_spec", "egress", "output_branch", "scale_down_threshold", "resource_spec", "input", "description", "incremental", "cache_size", "enable_stats", "reprocess", "batch", "service")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    PARALLELISM_SPEC_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BRANCH_FIELD_NUMBER: _ClassVar[int]
    SCALE_DOWN_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INCREMENTAL_FIELD_NUMBER: _ClassVar[int]
    CACHE_SIZE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_STATS_FIELD_NUMBER: _ClassVar[int]
    REPROCESS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    transform: Transform
    inputs: _containers.RepeatedCompositeFieldContainer[PipelineInput]
    update: bool
    parallelism_spec: ParallelismSpec
    egress: Egress
    output_branch: str
    scale_down_threshold: _duration_pb2.Duration
    resource_spec: ResourceSpec
    input: Input
    description: str
    incremental: bool
    cache_size: str
    enable_stats: bool
    reprocess: bool
    batch: bool
    service: Service
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[PipelineInput, _Mapping]]] = ..., update: _Optional[bool] = ..., parallelism_spec: _Optional[_Union[ParallelismSpec, _Mapping]] = ..., egress: _Optional[_Union[Egress, _Mapping]] = ..., output_branch: _Optional[str] = ..., scale_down_threshold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resource_spec: _Optional[_Union[ResourceSpec, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., description: _Optional[str] = ..., incremental: _Optional[bool] = ..., cache_size: _Optional[str] = ..., enable_stats: _Optional[bool] = ..., reprocess: _Optional[bool] = ..., batch: _Optional[bool] = ..., service: _Optional[_Union[Service, _Mapping]] = ...) -> None: ...

class InspectPipelineRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class ListPipelineRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeletePipelineRequest(_message.Message):
    __slots__ = ("pipeline", "delete_jobs", "delete_repo", "all")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    DELETE_JOBS_FIELD_NUMBER: _ClassVar[int]
    DELETE_REPO_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    delete_jobs: bool
    delete_repo: bool
    all: bool
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., delete_jobs: _Optional[bool] = ..., delete_repo: _Optional[bool] = ..., all: _Optional[bool] = ...) -> None: ...

class StartPipelineRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class StopPipelineRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ...) -> None: ...

class RerunPipelineRequest(_message.Message):
    __slots__ = ("pipeline", "exclude", "include")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    exclude: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.Commit]
    include: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.Commit]
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., exclude: _Optional[_Iterable[_Union[_pfs_pb2.Commit, _Mapping]]] = ..., include: _Optional[_Iterable[_Union[_pfs_pb2.Commit, _Mapping]]] = ...) -> None: ...

class GarbageCollectRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GarbageCollectResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
