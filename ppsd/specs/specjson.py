"""The documented JSON form of pipeline specs, read into the wire's requests. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pachproto import pfs_pb2, pps_pb2
from pfsd.errors import InvalidError, shown
from ppsd.specs import durations

M = TypeVar("M", bound=Message)


def parse_requests(text: str, source: str) -> list[pps_pb2.CreatePipelineRequest]:
    """The pipeline specs in `text`: see `parse`."""
    return parse(text, source, pps_pb2.CreatePipelineRequest)


def parse(text: str, source: str, kind: type[M]) -> list[M]:
    """The specs in `text`, one or several JSON objects after another; `source` names it in errors.

    Field names are the documented ones (`accept_return_code`); `acceptReturnCode` is understood too. Raises
    InvalidError for text that is not JSON, unknown fields and wrong types.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_int=_plain_integer, parse_constant=_refuse_constant)
    requests = []
    at = _skip_space(text, 0)
    while at < len(text):
        try:
            data, at = decoder.raw_decode(text, at)
            requests.append(_request(data, kind))
        except json.JSONDecodeError as error:
            raise InvalidError(f"{source}: {_json_complaint(text, error)}") from None
        except InvalidError as error:
            raise InvalidError(f"{source}: {error}") from None
        except RecursionError:
            raise InvalidError(f"{source}: the spec is nested too deeply") from None
        at = _skip_space(text, at)
    if not requests:
        raise InvalidError(f"{source} holds no pipeline spec")
    return requests


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\ufeff":
        at += 1
    return at


def _json_complaint(text: str, error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}"
    line = text.split("\n")[error.lineno - 1]
    if "//" in line[max(0, error.colno - 2) :] and text[error.pos :].lstrip().startswith("/"):
        return f"'//' comments are not JSON ({where}): remove them"
    return f"the spec is not valid JSON: {error.msg} ({where})"


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidError(f"field {shown(name)[1:-1]} is given twice")
        found[name] = value
    return found


def _plain_integer(digits: str) -> int | float:
    """An integer; infinite where it has so many digits that no field can take it."""
    if len(digits) <= _MOST_DIGITS:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidError(f"{name} is not JSON: a number has digits")


def _request(data: object, kind: type[M]) -> M:
    if not isinstance(data, dict):
        raise InvalidError("a pipeline spec should be a JSON object")
    request = kind()
    _fill(request, data, "")
    return request


_INT_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_MOST_DIGITS = 40
_FLOAT_TYPES = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def _fill(message: Message, data: dict[str, Any], path: str) -> None:
    """Set the fields of `message` from a JSON object that stands at `path` in the spec."""
    fields = _fields(message)
    for name, value in data.items():
        where = f"{path}.{name}" if path else name
        field = fields.get(name)
        if field is None:
            raise InvalidError(f"unknown field {where}")
        if value is None:
            continue
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), value, where)
        elif field.is_repeated:
            _fill_list(message, field, value, where)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            _fill_message(getattr(message, field.name), value, where)
        else:
            setattr(message, field.name, _scalar(field, value, where))


def _fields(message: Message) -> dict[str, FieldDescriptor]:
    found: dict[str, FieldDescriptor] = {}
    fields: Iterable[Any] = message.DESCRIPTOR.fields
    for field in fields:
        found[field.json_name] = found[field.name] = field
    return found


def _fill_map(target: Any, value: object, where: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _wrong(where, "an object of strings")
    target.update(value)


def _fill_list(message: Message, field: FieldDescriptor, value: object, where: str) -> None:
    plain = field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE
    wanted = f"a list of {_plural(field)}" if plain else "a list of objects"
    if not isinstance(value, list):
        _wrong(where, wanted)
    target = getattr(message, field.name)
    for index, item in enumerate(value):
        if not plain:
            _fill_message(target.add(), item, f"{where}[{index}]")
            continue
        try:
            target.append(_scalar(field, item, where))
        except InvalidError:
            _wrong(where, wanted)


def _fill_message(target: Message, value: object, where: str) -> None:
    if isinstance(target, Duration):
        if not isinstance(value, str):
            _wrong(where, 'a duration such as "1h30m"')
        target.FromNanoseconds(durations.parse(value, where))
        return
    if isinstance(target, Timestamp):
        try:
            target.FromJsonString(value if isinstance(value, str) else "")
        except ValueError:
            _wrong(where, 'a time such as "2017-08-01T00:00:00Z"')
        return
    if isinstance(target, pfs_pb2.Commit) and isinstance(value, str):  # "from": "master", as users were told
        target.id = value
        return
    if not isinstance(value, dict):
        _wrong(where, "an object")
    target.SetInParent()
    _fill(target, value, where)


def _scalar(field: FieldDescriptor, value: object, where: str) -> object:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidError(f"{where} holds characters that are not text") from None
        return value
    if kind == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if kind in _INT_TYPES and (number := _integer(value)) is not None:
        low, high = _INT_TYPES[kind]
        if low <= number <= high:
            return number
        raise InvalidError(f"{where} should be between {low} and {high}")
    if kind in _FLOAT_TYPES and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise InvalidError(f"{where} should be a finite number")
    _wrong(where, _singular(field))


def _integer(value: object) -> int | float | None:
    """An integer as protobuf's JSON writes it: a number, or its text; infinite where it is far beyond every field."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and (value.is_integer() or math.isinf(value)):
        return int(value) if math.isfinite(value) else value
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii():
        return _plain_integer(value)
    return value if isinstance(value, int) else None


def _singular(field: FieldDescriptor) -> str:
    if field.cpp_type in _INT_TYPES:
        return "an integer"
    if field.cpp_type in _FLOAT_TYPES:
        return "a number"
    return {FieldDescriptor.CPPTYPE_STRING: "a string", FieldDescriptor.CPPTYPE_BOOL: "true or false"}[field.cpp_type]


def _plural(field: FieldDescriptor) -> str:
    return {"a string": "strings", "an integer": "integers"}[_singular(field)]


def _wrong(where: str, wanted: str) -> NoReturn:
    raise InvalidError(f"{where} should be {wanted}")
