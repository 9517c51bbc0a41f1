from pachproto import pfs_pb2 as _pfs_pb2
from pachproto import pps_pb2 as _pps_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("pipeline", "worker_id", "salt", "notice")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    worker_id: str
    salt: str
    notice: str
    def __init__(self, pipeline: _Optional[str] = ..., worker_id: _Optional[str] = ..., salt: _Optional[str] = ..., notice: _Optional[str] = ...) -> None: ...

class DatumInput(_message.Message):
    __slots__ = ("name", "commit", "path", "entry", "lazy", "former_entry")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    LAZY_FIELD_NUMBER: _ClassVar[int]
    FORMER_ENTRY_FIELD_NUMBER: _ClassVar[int]
    name: str
    commit: _pfs_pb2.Commit
    path: str
    entry: bytes
    lazy: bool
    former_entry: bytes
    def __init__(self, name: _Optional[str] = ..., commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., path: _Optional[str] = ..., entry: _Optional[bytes] = ..., lazy: _Optional[bool] = ..., former_entry: _Optional[bytes] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("lease", "job_id", "datum_id", "tag", "inputs", "transform", "output_commit", "former_tag", "stats_tag", "coming")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATUM_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COMMIT_FIELD_NUMBER: _ClassVar[int]
    FORMER_TAG_FIELD_NUMBER: _ClassVar[int]
    STATS_TAG_FIELD_NUMBER: _ClassVar[int]
    COMING_FIELD_NUMBER: _ClassVar[int]
    lease: int
    job_id: str
    datum_id: str
    tag: str
    inputs: _containers.RepeatedCompositeFieldContainer[DatumInput]
    transform: _pps_pb2.Transform
    output_commit: _pfs_pb2.Commit
    former_tag: str
    stats_tag: str
    coming: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lease: _Optional[int] = ..., job_id: _Optional[str] = ..., datum_id: _Optional[str] = ..., tag: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[DatumInput, _Mapping]]] = ..., transform: _Optional[_Union[_pps_pb2.Transform, _Mapping]] = ..., output_commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., former_tag: _Optional[str] = ..., stats_tag: _Optional[str] = ..., coming: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("lease", "error", "stats")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    lease: int
    error: str
    stats: _pps_pb2.ProcessStats
    def __init__(self, lease: _Optional[int] = ..., error: _Optional[str] = ..., stats: _Optional[_Union[_pps_pb2.ProcessStats, _Mapping]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("job_id", "datum_id", "user", "time_ns", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATUM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    datum_id: str
    user: bool
    time_ns: int
    message: str
    def __init__(self, job_id: _Optional[str] = ..., datum_id: _Optional[str] = ..., user: _Optional[bool] = ..., time_ns: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class FromWorker(_message.Message):
    __slots__ = ("hello", "outcome", "log", "fatal")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    FATAL_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    outcome: Outcome
    log: _containers.RepeatedCompositeFieldContainer[LogLine]
    fatal: str
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., log: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ..., fatal: _Optional[str] = ...) -> None: ...

class ToWorker(_message.Message):
    __slots__ = ("assignment", "cancel")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    cancel: int
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ..., cancel: _Optional[int] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("log", "datum_id", "follow")
    LOG_FIELD_NUMBER: _ClassVar[int]
    DATUM_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    log: _pps_pb2.GetLogsRequest
    datum_id: str
    follow: bool
    def __init__(self, log: _Optional[_Union[_pps_pb2.GetLogsRequest, _Mapping]] = ..., datum_id: _Optional[str] = ..., follow: _Optional[bool] = ...) -> None: ...
