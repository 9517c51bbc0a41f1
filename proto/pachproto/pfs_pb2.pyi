import datetime

from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from pachproto import auth_pb2 as _auth_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVED: _ClassVar[FileType]
    FILE: _ClassVar[FileType]
    DIR: _ClassVar[FileType]

class Delimiter(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[Delimiter]
    JSON: _ClassVar[Delimiter]
    LINE: _ClassVar[Delimiter]

class ListFileMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ListFile_NORMAL: _ClassVar[ListFileMode]
    ListFile_FAST: _ClassVar[ListFileMode]
    ListFile_RECURSE: _ClassVar[ListFileMode]
RESERVED: FileType
FILE: FileType
DIR: FileType
NONE: Delimiter
JSON: Delimiter
LINE: Delimiter
ListFile_NORMAL: ListFileMode
ListFile_FAST: ListFileMode
ListFile_RECURSE: ListFileMode

class Repo(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("repo", "id")
    REPO_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    id: str
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., id: _Optional[str] = ...) -> None: ...

class Commits(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: _containers.RepeatedCompositeFieldContainer[Commit]
    def __init__(self, commit: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ...) -> None: ...

class BranchInfo(_message.Message):
    __slots__ = ("name", "head")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    head: Commit
    def __init__(self, name: _Optional[str] = ..., head: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class BranchInfos(_message.Message):
    __slots__ = ("branch_info",)
    BRANCH_INFO_FIELD_NUMBER: _ClassVar[int]
    branch_info: _containers.RepeatedCompositeFieldContainer[BranchInfo]
    def __init__(self, branch_info: _Optional[_Iterable[_Union[BranchInfo, _Mapping]]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("commit", "path")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    path: str
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., path: _Optional[str] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: str
    def __init__(self, hash: _Optional[str] = ...) -> None: ...

class Object(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: str
    def __init__(self, hash: _Optional[str] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RepoInfo(_message.Message):
    __slots__ = ("repo", "created", "size_bytes", "provenance", "description")
    REPO_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    created: _timestamp_pb2.Timestamp
    size_bytes: int
    provenance: _containers.RepeatedCompositeFieldContainer[Repo]
    description: str
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., provenance: _Optional[_Iterable[_Union[Repo, _Mapping]]] = ..., description: _Optional[str] = ...) -> None: ...

class RepoInfos(_message.Message):
    __slots__ = ("repo_info", "scopes")
    REPO_INFO_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    repo_info: _containers.RepeatedCompositeFieldContainer[RepoInfo]
    scopes: _containers.RepeatedScalarFieldContainer[_auth_pb2.Scope]
    def __init__(self, repo_info: _Optional[_Iterable[_Union[RepoInfo, _Mapping]]] = ..., scopes: _Optional[_Iterable[_Union[_auth_pb2.Scope, str]]] = ...) -> None: ...

class CommitInfo(_message.Message):
    __slots__ = ("commit", "parent_commit", "started", "finished", "size_bytes", "provenance", "tree")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PARENT_COMMIT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    parent_commit: Commit
    started: _timestamp_pb2.Timestamp
    finished: _timestamp_pb2.Timestamp
    size_bytes: int
    provenance: _containers.RepeatedCompositeFieldContainer[Commit]
    tree: Object
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., parent_commit: _Optional[_Union[Commit, _Mapping]] = ..., started: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., provenance: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., tree: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class CommitInfos(_message.Message):
    __slots__ = ("commit_info",)
    COMMIT_INFO_FIELD_NUMBER: _ClassVar[int]
    commit_info: _containers.RepeatedCompositeFieldContainer[CommitInfo]
    def __init__(self, commit_info: _Optional[_Iterable[_Union[CommitInfo, _Mapping]]] = ...) -> None: ...

class FileInfo(_message.Message):
    __slots__ = ("file", "file_type", "size_bytes", "children", "hash", "objects", "attributes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    FILE_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    file: File
    file_type: FileType
    size_bytes: int
    children: _containers.RepeatedScalarFieldContainer[str]
    hash: bytes
    objects: _containers.RepeatedCompositeFieldContainer[Object]
    attributes: FileAttributes
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ..., file_type: _Optional[_Union[FileType, str]] = ..., size_bytes: _Optional[int] = ..., children: _Optional[_Iterable[str]] = ..., hash: _Optional[bytes] = ..., objects: _Optional[_Iterable[_Union[Object, _Mapping]]] = ..., attributes: _Optional[_Union[FileAttributes, _Mapping]] = ...) -> None: ...

class FileAttributes(_message.Message):
    __slots__ = ("mode", "uid", "gid", "modified", "symlink", "extended", "link", "special_kind", "device")
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    SYMLINK_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_KIND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    mode: int
    uid: int
    gid: int
    modified: _timestamp_pb2.Timestamp
    symlink: bytes
    extended: _containers.RepeatedCompositeFieldContainer[ExtendedAttribute]
    link: bytes
    special_kind: int
    device: int
    def __init__(self, mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., modified: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., symlink: _Optional[bytes] = ..., extended: _Optional[_Iterable[_Union[ExtendedAttribute, _Mapping]]] = ..., link: _Optional[bytes] = ..., special_kind: _Optional[int] = ..., device: _Optional[int] = ...) -> None: ...

class ExtendedAttribute(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    value: bytes
    def __init__(self, name: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class FileInfos(_message.Message):
    __slots__ = ("file_info",)
    FILE_INFO_FIELD_NUMBER: _ClassVar[int]
    file_info: _containers.RepeatedCompositeFieldContainer[FileInfo]
    def __init__(self, file_info: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ...) -> None: ...

class ByteRange(_message.Message):
    __slots__ = ("lower", "upper")
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    lower: int
    upper: int
    def __init__(self, lower: _Optional[int] = ..., upper: _Optional[int] = ...) -> None: ...

class BlockRef(_message.Message):
    __slots__ = ("block", "range")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    block: Block
    range: ByteRange
    def __init__(self, block: _Optional[_Union[Block, _Mapping]] = ..., range: _Optional[_Union[ByteRange, _Mapping]] = ...) -> None: ...

class ObjectInfo(_message.Message):
    __slots__ = ("object", "block_ref")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_REF_FIELD_NUMBER: _ClassVar[int]
    object: Object
    block_ref: BlockRef
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ..., block_ref: _Optional[_Union[BlockRef, _Mapping]] = ...) -> None: ...

class CreateRepoRequest(_message.Message):
    __slots__ = ("repo", "provenance", "description", "update")
    REPO_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    provenance: _containers.RepeatedCompositeFieldContainer[Repo]
    description: str
    update: bool
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., provenance: _Optional[_Iterable[_Union[Repo, _Mapping]]] = ..., description: _Optional[str] = ..., update: _Optional[bool] = ...) -> None: ...

class InspectRepoRequest(_message.Message):
    __slots__ = ("repo",)
    REPO_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ...) -> None: ...

class ListRepoRequest(_message.Message):
    __slots__ = ("provenance", "include_auth")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_AUTH_FIELD_NUMBER: _ClassVar[int]
    provenance: _containers.RepeatedCompositeFieldContainer[Repo]
    include_auth: bool
    def __init__(self, provenance: _Optional[_Iterable[_Union[Repo, _Mapping]]] = ..., include_auth: _Optional[bool] = ...) -> None: ...

class DeleteRepoRequest(_message.Message):
    __slots__ = ("repo", "force", "all")
    REPO_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    force: bool
    all: bool
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., force: _Optional[bool] = ..., all: _Optional[bool] = ...) -> None: ...

class StartCommitRequest(_message.Message):
    __slots__ = ("parent", "provenance", "branch")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    parent: Commit
    provenance: _containers.RepeatedCompositeFieldContainer[Commit]
    branch: str
    def __init__(self, parent: _Optional[_Union[Commit, _Mapping]] = ..., provenance: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., branch: _Optional[str] = ...) -> None: ...

class BuildCommitRequest(_message.Message):
    __slots__ = ("parent", "provenance", "tree", "branch")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    parent: Commit
    provenance: _containers.RepeatedCompositeFieldContainer[Commit]
    tree: Object
    branch: str
    def __init__(self, parent: _Optional[_Union[Commit, _Mapping]] = ..., provenance: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., tree: _Optional[_Union[Object, _Mapping]] = ..., branch: _Optional[str] = ...) -> None: ...

class FinishCommitRequest(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class InspectCommitRequest(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class ListCommitRequest(_message.Message):
    __slots__ = ("repo", "to", "number")
    REPO_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    to: Commit
    number: int
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., to: _Optional[_Union[Commit, _Mapping]] = ..., number: _Optional[int] = ..., **kwargs) -> None: ...

class ListBranchRequest(_message.Message):
    __slots__ = ("repo",)
    REPO_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ...) -> None: ...

class SetBranchRequest(_message.Message):
    __slots__ = ("commit", "branch")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    branch: str
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., branch: _Optional[str] = ...) -> None: ...

class DeleteBranchRequest(_message.Message):
    __slots__ = ("repo", "branch")
    REPO_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    branch: str
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., branch: _Optional[str] = ...) -> None: ...

class DeleteCommitRequest(_message.Message):
    __slots__ = ("commit",)
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ...) -> None: ...

class FlushCommitRequest(_message.Message):
    __slots__ = ("commits", "to_repos")
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    TO_REPOS_FIELD_NUMBER: _ClassVar[int]
    commits: _containers.RepeatedCompositeFieldContainer[Commit]
    to_repos: _containers.RepeatedCompositeFieldContainer[Repo]
    def __init__(self, commits: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., to_repos: _Optional[_Iterable[_Union[Repo, _Mapping]]] = ...) -> None: ...

class SubscribeCommitRequest(_message.Message):
    __slots__ = ("repo", "branch")
    REPO_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    repo: Repo
    branch: str
    def __init__(self, repo: _Optional[_Union[Repo, _Mapping]] = ..., branch: _Optional[str] = ..., **kwargs) -> None: ...

class GetFileRequest(_message.Message):
    __slots__ = ("file", "offset_bytes", "size_bytes")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    file: File
    offset_bytes: int
    size_bytes: int
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ..., offset_bytes: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class PutFileRequest(_message.Message):
    __slots__ = ("file", "value", "url", "recursive", "delimiter", "target_file_datums", "target_file_bytes", "overwrite")
    FILE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    DELIMITER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FILE_DATUMS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    file: File
    value: bytes
    url: str
    recursive: bool
    delimiter: Delimiter
    target_file_datums: int
    target_file_bytes: int
    overwrite: bool
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ..., value: _Optional[bytes] = ..., url: _Optional[str] = ..., recursive: _Optional[bool] = ..., delimiter: _Optional[_Union[Delimiter, str]] = ..., target_file_datums: _Optional[int] = ..., target_file_bytes: _Optional[int] = ..., overwrite: _Optional[bool] = ...) -> None: ...

class InspectFileRequest(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: File
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class ListFileRequest(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: File
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class GlobFileRequest(_message.Message):
    __slots__ = ("commit", "pattern")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    commit: Commit
    pattern: str
    def __init__(self, commit: _Optional[_Union[Commit, _Mapping]] = ..., pattern: _Optional[str] = ...) -> None: ...

class DiffFileRequest(_message.Message):
    __slots__ = ("new_file", "old_file", "shallow")
    NEW_FILE_FIELD_NUMBER: _ClassVar[int]
    OLD_FILE_FIELD_NUMBER: _ClassVar[int]
    SHALLOW_FIELD_NUMBER: _ClassVar[int]
    new_file: File
    old_file: File
    shallow: bool
    def __init__(self, new_file: _Optional[_Union[File, _Mapping]] = ..., old_file: _Optional[_Union[File, _Mapping]] = ..., shallow: _Optional[bool] = ...) -> None: ...

class DiffFileResponse(_message.Message):
    __slots__ = ("new_files", "old_files")
    NEW_FILES_FIELD_NUMBER: _ClassVar[int]
    OLD_FILES_FIELD_NUMBER: _ClassVar[int]
    new_files: _containers.RepeatedCompositeFieldContainer[FileInfo]
    old_files: _containers.RepeatedCompositeFieldContainer[FileInfo]
    def __init__(self, new_files: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ..., old_files: _Optional[_Iterable[_Union[FileInfo, _Mapping]]] = ...) -> None: ...

class DeleteFileRequest(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: File
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class PutObjectRequest(_message.Message):
    __slots__ = ("value", "tags")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, value: _Optional[bytes] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class GetObjectsRequest(_message.Message):
    __slots__ = ("objects", "offset_bytes", "size_bytes")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[Object]
    offset_bytes: int
    size_bytes: int
    def __init__(self, objects: _Optional[_Iterable[_Union[Object, _Mapping]]] = ..., offset_bytes: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TagObjectRequest(_message.Message):
    __slots__ = ("object", "tags")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    object: Object
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTagsRequest(_message.Message):
    __slots__ = ("prefix", "includeObject")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    INCLUDEOBJECT_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    includeObject: bool
    def __init__(self, prefix: _Optional[str] = ..., includeObject: _Optional[bool] = ...) -> None: ...

class ListTagsResponse(_message.Message):
    __slots__ = ("tag", "object")
    TAG_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    tag: str
    object: Object
    def __init__(self, tag: _Optional[str] = ..., object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class DeleteObjectsRequest(_message.Message):
    __slots__ = ("objects",)
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[Object]
    def __init__(self, objects: _Optional[_Iterable[_Union[Object, _Mapping]]] = ...) -> None: ...

class DeleteObjectsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteTagsRequest(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tags: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteTagsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckObjectRequest(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: Object
    def __init__(self, object: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class CheckObjectResponse(_message.Message):
    __slots__ = ("exists",)
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    def __init__(self, exists: _Optional[bool] = ...) -> None: ...

class ObjectIndex(_message.Message):
    __slots__ = ("objects", "tags")
    class ObjectsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: BlockRef
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[BlockRef, _Mapping]] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Object
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.MessageMap[str, BlockRef]
    tags: _containers.MessageMap[str, Object]
    def __init__(self, objects: _Optional[_Mapping[str, BlockRef]] = ..., tags: _Optional[_Mapping[str, Object]] = ...) -> None: ...
