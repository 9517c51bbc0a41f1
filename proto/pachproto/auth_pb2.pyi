from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[Scope]
    READER: _ClassVar[Scope]
    WRITER: _ClassVar[Scope]
    OWNER: _ClassVar[Scope]
NONE: Scope
READER: Scope
WRITER: Scope
OWNER: Scope
