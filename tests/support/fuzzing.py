"""Requests for fuzz tests: whatever a descriptor allows, with a liking for names that exist and for what is extreme."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pachproto import pps_pb2

TIMES = int(os.environ.get("PFSD_FUZZ", "1"))
"""How many times the usual number of examples are tried."""

MOST_NESTED = 99
"""Messages in one another that protobuf decodes."""
MANY_FIELDS = 8
"""From so many fields on, not every message in a message is set."""
MOST_DEEP = 6
"""Levels of a drawn message."""

Names = Mapping[str, Sequence[Any]]
"""For names of fields, and for names of messages and fields (`Repo.name`): values that mean something."""

WEIRD = (
    *("", "\0", "a\0b", "/", "//", ".", "..", "../..", "a/../..", "\u202e\ufeff", "\U0010ffff", "%00", "\n", "\r\n"),
    *("*", "**", "[", "[!", "{a,{b", "\\", "~" * 9, "^" * 9, "master~1", "NaN", "-1", "1e400", "9" * 400),
    *("a" * 255, "🗎" * 70, "a" * 70_000, "a/" * 3000),
)

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_EDGES = (0, 1, 2, 3, 4, -1, 255, 1000, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**64 - 1)
_FLOATS = (0.0, -0.0, 0.001, 1.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan"))


def examples(count: int) -> settings:
    """Settings for a fuzz test: the same `count` examples each time, or with PFSD_FUZZ=N others, N times as many."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def texts(alphabet: str, *known: str) -> st.SearchStrategy[str]:
    """Text out of these pieces, what is strange, and any other."""
    pieces = st.lists(st.sampled_from([*alphabet, *known]), max_size=30).map("".join)
    return st.one_of(pieces, pieces, st.sampled_from(WEIRD), st.text(max_size=50), st.sampled_from(known or ("",)))


def fits(parse: Callable[[Any], object], given: Any, *errors: type[Exception]) -> Any:
    """What a parser gives, or None after one of the errors that it may raise."""
    try:
        return parse(given)
    except errors:
        return None


def text(random: Random) -> str:
    """Text, strange and short for the most part."""
    if random.random() < 0.7:
        return random.choice(WEIRD)
    return "".join(random.choice("ab/.*~^-_ {}[]\\\"'=:@\0é🗎09") for _ in range(random.randrange(20)))


class Messages:
    """Draws messages; `names` says what means something in the fields of which messages."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def encoded(self, random: Random, descriptor: Descriptor) -> bytes:
        """A request of a kind: valid for the most part, else cut off, changed in a byte, too deep, or just bytes."""
        kind = random.random()
        if kind < 0.05:
            return random.randbytes(random.randrange(40))
        if kind < 0.1:
            return _nested(random, descriptor)
        made = bytes(self.message(random, descriptor).SerializeToString())
        return _damaged(random, made) if kind < 0.2 else made

    def message(self, random: Random, descriptor: Descriptor) -> Any:
        """A message of a kind; what no request would hold is in many of its fields, in a few or in none."""
        return _Draw(self._names, random, random.choice((0.0, 0.0, 0.03, 0.1, 0.3))).message(descriptor, 0)


class _Draw:
    """One message."""

    def __init__(self, names: Names, random: Random, strange: float) -> None:
        self._names = names
        self._random = random
        self._strange = strange
        """How likely a field holds what makes no sense."""

    def message(self, descriptor: Descriptor, depth: int) -> Any:
        random = self._random
        made = message_factory.GetMessageClass(descriptor)()
        for field in self._chosen(descriptor):
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                getattr(made, field.name).update({text(random): text(random)})
            elif field.is_repeated:
                count = random.choice((1, 1, 1, 2, 3, 0))
                getattr(made, field.name).extend(self._one(field, depth) for _ in range(count))
            elif field.message_type is not None:
                getattr(made, field.name).CopyFrom(self._one(field, depth))
            else:
                setattr(made, field.name, self._one(field, depth))
        return made

    def _chosen(self, descriptor: Descriptor) -> list[FieldDescriptor]:
        """Which fields are set: one of those that exclude each other, what matters nearly always, others at times."""
        random = self._random
        fields = list(descriptor.fields)
        if not fields:
            return []
        alone = None
        if descriptor.oneofs or any(field.message_type is descriptor for field in fields):
            alone = random.choice(fields)
        others = random.choice((0.02, 0.1, 0.5)) if alone is None else 0.02
        chosen = []
        for field in fields:
            matters = field.message_type is not None and len(fields) < MANY_FIELDS
            chance = others
            if field is alone or (alone is None and (matters or f"{descriptor.name}.{field.name}" in self._names)):
                chance = 0.97
            elif alone is None and field.name in self._names:
                chance = 0.7
            if random.random() < chance:
                chosen.append(field)
        return chosen

    def _one(self, field: FieldDescriptor, depth: int) -> Any:
        random = self._random
        is_strange = random.random() < self._strange
        if field.message_type is not None:
            if depth > MOST_DEEP:
                return message_factory.GetMessageClass(field.message_type)()
            return self.message(field.message_type, depth + 1)
        owner = field.containing_type
        known = self._names.get(f"{owner.name}.{field.name}" if owner else "") or self._names.get(field.name)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:  # names are alike in messages that have text and bytes
            known = [one for one in known or () if isinstance(one, str) == (field.type == FieldDescriptor.TYPE_STRING)]
        if known and not is_strange:
            return random.choice(known)
        if field.type == FieldDescriptor.TYPE_STRING:
            return text(random) if is_strange else random.choice(("", "x", "y"))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 31, 32, 33, 64, 65)))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return random.random() < 0.5
        if field.cpp_type in _INTEGERS:
            low, high = _INTEGERS[field.cpp_type] if is_strange else (0, 4)
            return random.choice([n for n in (*_EDGES, low, high, random.randint(low, high)) if low <= n <= high])
        return random.choice(_FLOATS if is_strange else (0.0, 1.0))


def _damaged(random: Random, data: bytes) -> bytes:
    """The bytes cut off somewhere, with one of them changed, or with others between."""
    at = random.randrange(len(data) + 1)
    kind = random.randrange(3)
    if kind == 0:
        return data[:at]
    return data[:at] + random.randbytes(random.choice((1, 2, 9))) + (data[at + 1 :] if kind == 1 else data[at:])


def _nested(random: Random, descriptor: Descriptor) -> bytes:
    """A field of messages, each in the other, up to deeper than anybody decodes."""
    depth = random.choice((2, 40, 60, MOST_NESTED - 1, MOST_NESTED, 120, 10_000))
    inputs = [field for field in descriptor.fields if field.message_type is pps_pb2.Input.DESCRIPTOR]
    if inputs:
        data = nest(random.choice((2, 3)), depth)  # cross and union
        return _head(inputs[0].number, len(data)) + data
    return nest(random.choice([field.number for field in descriptor.fields] or [1]), depth)


def nest(field: int, depth: int) -> bytes:
    """The bytes of a message whose field of this number holds another one like it, and so on."""
    parts: list[bytes] = []
    size = 0
    for _ in range(depth):  # from the inside out
        head = _head(field, size)
        parts.append(head)
        size += len(head)
    return b"".join(reversed(parts))


def _head(field: int, size: int) -> bytes:
    return _varint(field << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made += struct.pack("B", number & 127 | 128)
        number >>= 7
    return bytes(made) + struct.pack("B", number)
