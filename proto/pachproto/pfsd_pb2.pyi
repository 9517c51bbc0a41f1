from google.protobuf import empty_pb2 as _empty_pb2
from pachproto import pfs_pb2 as _pfs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoreInfo(_message.Message):
    __slots__ = ("id", "format", "object_store", "spool", "cache_dir", "cache_bytes", "handing")
    ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_STORE_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    CACHE_DIR_FIELD_NUMBER: _ClassVar[int]
    CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HANDING_FIELD_NUMBER: _ClassVar[int]
    id: str
    format: int
    object_store: str
    spool: str
    cache_dir: str
    cache_bytes: int
    handing: str
    def __init__(self, id: _Optional[str] = ..., format: _Optional[int] = ..., object_store: _Optional[str] = ..., spool: _Optional[str] = ..., cache_dir: _Optional[str] = ..., cache_bytes: _Optional[int] = ..., handing: _Optional[str] = ...) -> None: ...

class CommitTree(_message.Message):
    __slots__ = ("info", "root", "files", "directories", "lease", "attributes")
    INFO_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    info: _pfs_pb2.CommitInfo
    root: bytes
    files: int
    directories: int
    lease: int
    attributes: bytes
    def __init__(self, info: _Optional[_Union[_pfs_pb2.CommitInfo, _Mapping]] = ..., root: _Optional[bytes] = ..., files: _Optional[int] = ..., directories: _Optional[int] = ..., lease: _Optional[int] = ..., attributes: _Optional[bytes] = ...) -> None: ...

class NodeRequest(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class NodeBatch(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, nodes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ChunkRequest(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ChunkLocation(_message.Message):
    __slots__ = ("pack", "offset", "size")
    PACK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    pack: str
    offset: int
    size: int
    def __init__(self, pack: _Optional[str] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class ChunkLocations(_message.Message):
    __slots__ = ("locations",)
    LOCATIONS_FIELD_NUMBER: _ClassVar[int]
    locations: _containers.RepeatedCompositeFieldContainer[ChunkLocation]
    def __init__(self, locations: _Optional[_Iterable[_Union[ChunkLocation, _Mapping]]] = ...) -> None: ...

class PackRequest(_message.Message):
    __slots__ = ("packs",)
    PACKS_FIELD_NUMBER: _ClassVar[int]
    packs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, packs: _Optional[_Iterable[str]] = ...) -> None: ...

class PackAddresses(_message.Message):
    __slots__ = ("addresses", "seconds")
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    seconds: int
    def __init__(self, addresses: _Optional[_Iterable[str]] = ..., seconds: _Optional[int] = ...) -> None: ...

class ChunkData(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class GlobRequest(_message.Message):
    __slots__ = ("commit", "pattern", "recursive")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    pattern: str
    recursive: bool
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., pattern: _Optional[str] = ..., recursive: _Optional[bool] = ...) -> None: ...

class PathEntry(_message.Message):
    __slots__ = ("path", "entry")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    path: str
    entry: bytes
    def __init__(self, path: _Optional[str] = ..., entry: _Optional[bytes] = ...) -> None: ...

class PathEntryBatch(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[PathEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[PathEntry, _Mapping]]] = ...) -> None: ...

class GlobChangesRequest(_message.Message):
    __slots__ = ("old", "new", "pattern", "recursive")
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    old: _pfs_pb2.Commit
    new: _pfs_pb2.Commit
    pattern: str
    recursive: bool
    def __init__(self, old: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., new: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., pattern: _Optional[str] = ..., recursive: _Optional[bool] = ...) -> None: ...

class PathChange(_message.Message):
    __slots__ = ("path", "old_entry", "new_entry")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OLD_ENTRY_FIELD_NUMBER: _ClassVar[int]
    NEW_ENTRY_FIELD_NUMBER: _ClassVar[int]
    path: str
    old_entry: bytes
    new_entry: bytes
    def __init__(self, path: _Optional[str] = ..., old_entry: _Optional[bytes] = ..., new_entry: _Optional[bytes] = ...) -> None: ...

class PathChangeBatch(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[PathChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[PathChange, _Mapping]]] = ...) -> None: ...

class TreeWrite(_message.Message):
    __slots__ = ("path", "data", "entry", "directory", "zeros", "handed", "attributes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    ZEROS_FIELD_NUMBER: _ClassVar[int]
    HANDED_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    data: bytes
    entry: bytes
    directory: bool
    zeros: int
    handed: HandedRange
    attributes: bytes
    def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ..., entry: _Optional[bytes] = ..., directory: _Optional[bool] = ..., zeros: _Optional[int] = ..., handed: _Optional[_Union[HandedRange, _Mapping]] = ..., attributes: _Optional[bytes] = ...) -> None: ...

class PutTreeRequest(_message.Message):
    __slots__ = ("tag", "writes", "last", "holder")
    TAG_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    tag: str
    writes: _containers.RepeatedCompositeFieldContainer[TreeWrite]
    last: bool
    holder: bytes
    def __init__(self, tag: _Optional[str] = ..., writes: _Optional[_Iterable[_Union[TreeWrite, _Mapping]]] = ..., last: _Optional[bool] = ..., holder: _Optional[bytes] = ...) -> None: ...

class TreeInfo(_message.Message):
    __slots__ = ("object", "root", "size_bytes", "files", "bytes_written")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    object: _pfs_pb2.Object
    root: bytes
    size_bytes: int
    files: int
    bytes_written: int
    def __init__(self, object: _Optional[_Union[_pfs_pb2.Object, _Mapping]] = ..., root: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., files: _Optional[int] = ..., bytes_written: _Optional[int] = ...) -> None: ...

class TagRequest(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tags: _Optional[_Iterable[str]] = ...) -> None: ...

class TagPresence(_message.Message):
    __slots__ = ("present",)
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    present: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, present: _Optional[_Iterable[bool]] = ...) -> None: ...

class DeleteTagPrefixRequest(_message.Message):
    __slots__ = ("prefix",)
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    def __init__(self, prefix: _Optional[str] = ...) -> None: ...

class TreeChange(_message.Message):
    __slots__ = ("order", "tag")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    order: str
    tag: str
    def __init__(self, order: _Optional[str] = ..., tag: _Optional[str] = ...) -> None: ...

class MergeTreesRequest(_message.Message):
    __slots__ = ("commit", "base", "result", "changes")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    base: str
    result: str
    changes: _containers.RepeatedCompositeFieldContainer[TreeChange]
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., base: _Optional[str] = ..., result: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[TreeChange, _Mapping]]] = ...) -> None: ...

class FailCommitRequest(_message.Message):
    __slots__ = ("commit", "reason")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    reason: str
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Changes(_message.Message):
    __slots__ = ("repos",)
    REPOS_FIELD_NUMBER: _ClassVar[int]
    repos: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, repos: _Optional[_Iterable[str]] = ...) -> None: ...

class ListFilesRequest(_message.Message):
    __slots__ = ("file", "recursive", "content_bytes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    file: _pfs_pb2.File
    recursive: bool
    content_bytes: int
    def __init__(self, file: _Optional[_Union[_pfs_pb2.File, _Mapping]] = ..., recursive: _Optional[bool] = ..., content_bytes: _Optional[int] = ...) -> None: ...

class FileBatch(_message.Message):
    __slots__ = ("files", "contents")
    FILES_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.FileInfo]
    contents: _containers.RepeatedCompositeFieldContainer[FileContent]
    def __init__(self, files: _Optional[_Iterable[_Union[_pfs_pb2.FileInfo, _Mapping]]] = ..., contents: _Optional[_Iterable[_Union[FileContent, _Mapping]]] = ...) -> None: ...

class FileContent(_message.Message):
    __slots__ = ("index", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    data: bytes
    def __init__(self, index: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class DiffBatch(_message.Message):
    __slots__ = ("new_files", "old_files")
    NEW_FILES_FIELD_NUMBER: _ClassVar[int]
    OLD_FILES_FIELD_NUMBER: _ClassVar[int]
    new_files: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.FileInfo]
    old_files: _containers.RepeatedCompositeFieldContainer[_pfs_pb2.FileInfo]
    def __init__(self, new_files: _Optional[_Iterable[_Union[_pfs_pb2.FileInfo, _Mapping]]] = ..., old_files: _Optional[_Iterable[_Union[_pfs_pb2.FileInfo, _Mapping]]] = ...) -> None: ...

class ChunkPresence(_message.Message):
    __slots__ = ("present",)
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    present: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, present: _Optional[_Iterable[bool]] = ...) -> None: ...

class ChunkReference(_message.Message):
    __slots__ = ("hash", "size")
    HASH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    size: int
    def __init__(self, hash: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class FilePut(_message.Message):
    __slots__ = ("path", "overwrite", "data", "chunks", "zeros", "more", "base", "size", "offset", "handed", "tell", "attributes", "other", "also")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    ZEROS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HANDED_FIELD_NUMBER: _ClassVar[int]
    TELL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    ALSO_FIELD_NUMBER: _ClassVar[int]
    path: str
    overwrite: bool
    data: bytes
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkReference]
    zeros: int
    more: bool
    base: bytes
    size: int
    offset: int
    handed: HandedRange
    tell: bool
    attributes: bytes
    other: bytes
    also: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., overwrite: _Optional[bool] = ..., data: _Optional[bytes] = ..., chunks: _Optional[_Iterable[_Union[ChunkReference, _Mapping]]] = ..., zeros: _Optional[int] = ..., more: _Optional[bool] = ..., base: _Optional[bytes] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., handed: _Optional[_Union[HandedRange, _Mapping]] = ..., tell: _Optional[bool] = ..., attributes: _Optional[bytes] = ..., other: _Optional[bytes] = ..., also: _Optional[_Iterable[str]] = ...) -> None: ...

class HandedRange(_message.Message):
    __slots__ = ("ticket", "offset", "size")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    offset: int
    size: int
    def __init__(self, ticket: _Optional[bytes] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class PutFilesRequest(_message.Message):
    __slots__ = ("commit", "files", "lease", "holder")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    files: _containers.RepeatedCompositeFieldContainer[FilePut]
    lease: int
    holder: bytes
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., files: _Optional[_Iterable[_Union[FilePut, _Mapping]]] = ..., lease: _Optional[int] = ..., holder: _Optional[bytes] = ...) -> None: ...

class PutFilesResponse(_message.Message):
    __slots__ = ("files", "entries")
    FILES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    files: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, files: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ...) -> None: ...

class MountMessage(_message.Message):
    __slots__ = ("attach", "writes", "rests", "done", "busy")
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    RESTS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    attach: Attachment
    writes: str
    rests: str
    done: int
    busy: int
    def __init__(self, attach: _Optional[_Union[Attachment, _Mapping]] = ..., writes: _Optional[str] = ..., rests: _Optional[str] = ..., done: _Optional[int] = ..., busy: _Optional[int] = ...) -> None: ...

class Attachment(_message.Message):
    __slots__ = ("session", "writes")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    session: str
    writes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., writes: _Optional[_Iterable[str]] = ...) -> None: ...

class MountRequest(_message.Message):
    __slots__ = ("number", "lease_ms", "writes", "recall", "send")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    number: int
    lease_ms: int
    writes: str
    recall: _pfs_pb2.Commit
    send: _pfs_pb2.Commit
    def __init__(self, number: _Optional[int] = ..., lease_ms: _Optional[int] = ..., writes: _Optional[str] = ..., recall: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., send: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class WriteRecordsRequest(_message.Message):
    __slots__ = ("put", "delete", "delete_prefix", "sync")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_PREFIX_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    put: _containers.RepeatedCompositeFieldContainer[Record]
    delete: _containers.RepeatedScalarFieldContainer[str]
    delete_prefix: _containers.RepeatedScalarFieldContainer[str]
    sync: bool
    def __init__(self, put: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., delete: _Optional[_Iterable[str]] = ..., delete_prefix: _Optional[_Iterable[str]] = ..., sync: _Optional[bool] = ...) -> None: ...

class ScanRecordsRequest(_message.Message):
    __slots__ = ("prefix", "after", "limit", "reverse")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: str
    limit: int
    reverse: bool
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[str] = ..., limit: _Optional[int] = ..., reverse: _Optional[bool] = ...) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class LeaseRequest(_message.Message):
    __slots__ = ("name", "holder")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    holder: str
    def __init__(self, name: _Optional[str] = ..., holder: _Optional[str] = ...) -> None: ...

class LeaseHeld(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FsckRequest(_message.Message):
    __slots__ = ("fix",)
    FIX_FIELD_NUMBER: _ClassVar[int]
    fix: bool
    def __init__(self, fix: _Optional[bool] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("what", "touches", "touched", "fixed")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    TOUCHES_FIELD_NUMBER: _ClassVar[int]
    TOUCHED_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    what: str
    touches: _containers.RepeatedScalarFieldContainer[str]
    touched: int
    fixed: bool
    def __init__(self, what: _Optional[str] = ..., touches: _Optional[_Iterable[str]] = ..., touched: _Optional[int] = ..., fixed: _Optional[bool] = ...) -> None: ...

class FsckMessage(_message.Message):
    __slots__ = ("problem", "summary")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    problem: Problem
    summary: FsckSummary
    def __init__(self, problem: _Optional[_Union[Problem, _Mapping]] = ..., summary: _Optional[_Union[FsckSummary, _Mapping]] = ...) -> None: ...

class FsckSummary(_message.Message):
    __slots__ = ("repos", "commits", "nodes", "chunks", "packs", "bytes", "problems", "fixed")
    REPOS_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    PACKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    repos: int
    commits: int
    nodes: int
    chunks: int
    packs: int
    bytes: int
    problems: int
    fixed: int
    def __init__(self, repos: _Optional[int] = ..., commits: _Optional[int] = ..., nodes: _Optional[int] = ..., chunks: _Optional[int] = ..., packs: _Optional[int] = ..., bytes: _Optional[int] = ..., problems: _Optional[int] = ..., fixed: _Optional[int] = ...) -> None: ...

class GarbageReport(_message.Message):
    __slots__ = ("nodes_kept", "nodes_removed", "chunks_kept", "chunks_removed", "packs_removed", "packs_rewritten", "bytes_freed")
    NODES_KEPT_FIELD_NUMBER: _ClassVar[int]
    NODES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_KEPT_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    PACKS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    PACKS_REWRITTEN_FIELD_NUMBER: _ClassVar[int]
    BYTES_FREED_FIELD_NUMBER: _ClassVar[int]
    nodes_kept: int
    nodes_removed: int
    chunks_kept: int
    chunks_removed: int
    packs_removed: int
    packs_rewritten: int
    bytes_freed: int
    def __init__(self, nodes_kept: _Optional[int] = ..., nodes_removed: _Optional[int] = ..., chunks_kept: _Optional[int] = ..., chunks_removed: _Optional[int] = ..., packs_removed: _Optional[int] = ..., packs_rewritten: _Optional[int] = ..., bytes_freed: _Optional[int] = ...) -> None: ...
