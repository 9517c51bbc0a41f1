from pachproto import pfs_pb2 as _pfs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RemoveStep(_message.Message):
    __slots__ = ("path", "empty_directory", "file")
    PATH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    path: str
    empty_directory: bool
    file: bool
    def __init__(self, path: _Optional[str] = ..., empty_directory: _Optional[bool] = ..., file: _Optional[bool] = ...) -> None: ...

class RenameStep(_message.Message):
    __slots__ = ("to", "no_replace")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    NO_REPLACE_FIELD_NUMBER: _ClassVar[int]
    to: str
    no_replace: bool
    def __init__(self, to: _Optional[str] = ..., no_replace: _Optional[bool] = ..., **kwargs) -> None: ...

class ReplaceStep(_message.Message):
    __slots__ = ("path", "entry")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    path: str
    entry: bytes
    def __init__(self, path: _Optional[str] = ..., entry: _Optional[bytes] = ...) -> None: ...

class SetAttributesStep(_message.Message):
    __slots__ = ("path", "attributes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    attributes: bytes
    def __init__(self, path: _Optional[str] = ..., attributes: _Optional[bytes] = ...) -> None: ...

class EditStep(_message.Message):
    __slots__ = ("make_directory", "remove", "rename", "replace", "set_attributes", "make_directories")
    MAKE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    SET_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MAKE_DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    make_directory: str
    remove: RemoveStep
    rename: RenameStep
    replace: ReplaceStep
    set_attributes: SetAttributesStep
    make_directories: str
    def __init__(self, make_directory: _Optional[str] = ..., remove: _Optional[_Union[RemoveStep, _Mapping]] = ..., rename: _Optional[_Union[RenameStep, _Mapping]] = ..., replace: _Optional[_Union[ReplaceStep, _Mapping]] = ..., set_attributes: _Optional[_Union[SetAttributesStep, _Mapping]] = ..., make_directories: _Optional[str] = ...) -> None: ...

class EditRequest(_message.Message):
    __slots__ = ("commit", "steps", "silent")
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    commit: _pfs_pb2.Commit
    steps: _containers.RepeatedCompositeFieldContainer[EditStep]
    silent: bool
    def __init__(self, commit: _Optional[_Union[_pfs_pb2.Commit, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[EditStep, _Mapping]]] = ..., silent: _Optional[bool] = ...) -> None: ...

class EditResponse(_message.Message):
    __slots__ = ("root",)
    ROOT_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    def __init__(self, root: _Optional[bytes] = ...) -> None: ...
