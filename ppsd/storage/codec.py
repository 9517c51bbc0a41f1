"""Frozen dataclasses as JSON, and back: the form in which records are kept.

Understands dataclasses of str, int, float, bool, bytes (hex), enums (their names), optional fields, unions of
dataclasses (told apart by their fields), tuples of one type or of fixed types, nested to any depth. Fields that are
missing take their defaults, so that older records can be read. Where the default would be wrong for an older record,
the class method `completed` of a dataclass adds the field. All other differences of an older form are for the class
method `upgraded` of a record: it gets the plain fields, and the version of their form.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from typing import Any, TypeVar

from pfsd.errors import CorruptError, FormatError

T = TypeVar("T")

VERSION_FIELD = "v"


def dump(record: Any, version: int) -> bytes:
    """The JSON of a dataclass instance, with the version of its form."""
    return json.dumps({VERSION_FIELD: version, **_plain(record)}, separators=(",", ":")).encode()


def load(kind: type[T], data: bytes, version: int) -> T:
    """The instance of `kind` that `dump` wrote.

    Raises FormatError for a version above `version`, CorruptError for what is not such a record.
    """
    try:
        fields = json.loads(data)
        written = fields.pop(VERSION_FIELD)
        if written > version:
            raise FormatError(f"a {kind.__name__} was written by a newer version (form {written}): run that version")
        upgraded = getattr(kind, "upgraded", None)
        if upgraded is not None and written < version:
            fields = upgraded(fields, written)
        return typing.cast(T, _build(kind, fields))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise CorruptError(f"a {kind.__name__} can't be decoded: {error}") from None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    """`value`, plain JSON, as an instance of `kind`."""
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(type, kind))
        completed = getattr(kind, "completed", None)
        if completed is not None:
            value = completed(value)
        return typing.cast(Any, kind)(**{name: _build(hints[name], item) for name, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _build(_member(arguments, value), value)
    if origin is tuple and arguments[-1] is ...:
        return tuple(_build(arguments[0], item) for item in value)
    if origin is tuple:
        return tuple(_build(each, item) for each, item in zip(arguments, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind[value]
    if kind is bytes:
        return bytes.fromhex(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    return value


def _member(arguments: tuple[Any, ...], value: Any) -> Any:
    """Which type of a union a value is of."""
    given = [one for one in arguments if one is not type(None)]
    if len(given) == 1:
        return given[0]
    return next((one for one in given if value.keys() <= {field.name for field in dataclasses.fields(one)}), given[0])
