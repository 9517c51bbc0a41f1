"""Pipeline specs: their JSON form, the rules they must satisfy, and what is left after defaults are filled in.

`parse_requests` reads the documented JSON into the wire's `CreatePipelineRequest`; `validate` turns a request,
however it came, into a `PipelineSpec`. Both are pure, and both raise InvalidError with the field's path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pachproto import pps_pb2
from pfsd import globs, paths
from pfsd.errors import InvalidError
from ppsd import durations

DEFAULT_BRANCH = "master"
RESERVED_INPUT_NAME = "out"
MAX_WORKERS = 1000


@dataclass(frozen=True, slots=True)
class TransformSpec:
    """What a datum runs."""

    cmd: tuple[str, ...]
    """Program and arguments; not run in a shell."""
    image: str = ""
    stdin: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""
    accept_return_code: tuple[int, ...] = ()
    """Exit statuses beside 0 that count as success."""


@dataclass(frozen=True, slots=True)
class AtomSpec:
    """One input: a branch of a repo, cut into datums by a glob."""

    name: str
    repo: str
    branch: str
    glob: str
    lazy: bool = False
    from_commit: str = ""
    """A commit of the repo (or a branch, until the pipeline is made): it and what came before are left out."""


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline as a user asked for it, with the defaults filled in."""

    name: str
    transform: TransformSpec
    input: AtomSpec
    output_branch: str = DEFAULT_BRANCH
    description: str = ""
    constant: int = 0
    """Workers asked for, or 0."""
    coefficient: float = 0.0
    """Workers asked for per node, or 0."""
    scale_down_ns: int = 0
    """After so many nanoseconds without a job all workers but one are stopped; 0 for never."""
    cpu: float = 0.0
    memory: str = ""
    gpu: int = 0
    cache_size: str = ""
    enable_stats: bool = False
    batch: bool = False

    def workers(self, nodes: int) -> int:
        """How many workers run where there are `nodes` machines."""
        if self.constant:
            return self.constant
        return max(1, math.floor((self.coefficient or 1.0) * nodes))

    def unapplied(self) -> list[str]:
        """Sentences for the job's log: what was asked for and has no effect in this version."""
        asked = {
            "resource_spec": bool(self.cpu or self.memory or self.gpu),
            "cache_size": bool(self.cache_size),
            "enable_stats": self.enable_stats,
            "batch": self.batch,
        }
        return [f"{name} is not applied by this version" for name, given in asked.items() if given]


# --- from JSON -------------------------------------------------------------------------------------------


def parse_requests(text: str, source: str) -> list[pps_pb2.CreatePipelineRequest]:
    """The specs in `text`, one or several JSON objects after another; `source` names it in errors.

    Field names are the documented ones (`accept_return_code`); `acceptReturnCode` is understood too. Raises
    InvalidError for text that is not JSON, unknown fields and wrong types.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_no_repeats)
    requests = []
    at = _skip_space(text, 0)
    while at < len(text):
        try:
            data, at = decoder.raw_decode(text, at)
            requests.append(_request(data))
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
            raise InvalidError(f"field {name} is given twice")
        found[name] = value
    return found


def _request(data: object) -> pps_pb2.CreatePipelineRequest:
    if not isinstance(data, dict):
        raise InvalidError("a pipeline spec should be a JSON object")
    request = pps_pb2.CreatePipelineRequest()
    _fill(request, data, "")
    return request


_INT_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
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


def _integer(value: object) -> int | None:
    """An integer as protobuf's JSON writes it: a number, or its text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii():
        return int(value)
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


# --- rules -----------------------------------------------------------------------------------------------


def validate(request: pps_pb2.CreatePipelineRequest) -> PipelineSpec:
    """The spec that a request asks for, with defaults; raises InvalidError naming the field at fault.

    Whether the input repo exists is not looked at.
    """
    name = request.pipeline.name
    if not name:
        raise InvalidError("pipeline.name is missing")
    try:
        paths.check_repo_name(name)
    except InvalidError:
        raise InvalidError(f"pipeline.name {name!r} is invalid: use only ASCII letters, digits, '_' and '-'") from None
    _refuse_unsupported(request)
    atom = _atom(_single_input(request))
    if atom.repo == name:
        raise InvalidError(f"pipeline {name} can't have its own output repo as input.atom.repo")
    _check_branch(request.output_branch, "output_branch")
    constant, coefficient = _parallelism(request)
    return PipelineSpec(
        name=name,
        transform=_transform(request),
        input=atom,
        output_branch=request.output_branch or DEFAULT_BRANCH,
        description=request.description,
        constant=constant,
        coefficient=coefficient,
        scale_down_ns=_scale_down(request),
        cpu=_not_negative(request.resource_spec.cpu, "resource_spec.cpu"),
        memory=request.resource_spec.memory,
        gpu=int(_not_negative(request.resource_spec.gpu, "resource_spec.gpu")),
        cache_size=request.cache_size,
        enable_stats=request.enable_stats,
        batch=request.batch,
    )


def _refuse_unsupported(request: pps_pb2.CreatePipelineRequest) -> None:
    transform = request.transform
    asked = {
        "egress": request.HasField("egress"),
        "incremental": request.incremental,
        "transform.secrets": bool(transform.secrets),
        "transform.image_pull_secrets": bool(transform.image_pull_secrets),
        "transform.debug": transform.debug,
    }
    for field, given in asked.items():
        if given:
            raise InvalidError(f"{field} is not supported by this version yet: leave it out")


def _single_input(request: pps_pb2.CreatePipelineRequest) -> pps_pb2.AtomInput:
    """The one atom input; the old form `inputs` is read as such."""
    if request.inputs:
        if request.HasField("input"):
            raise InvalidError("input and inputs can't both be given: leave out inputs, the old form")
        if len(request.inputs) > 1:
            _not_yet("inputs with more than one input")
        old = request.inputs[0]
        return pps_pb2.AtomInput(
            name=old.name,
            repo=old.repo.name,
            branch=old.branch,
            glob=old.glob,
            lazy=old.lazy,
            from_commit=getattr(old, "from").id,
        )
    given = request.input
    kinds = {
        "atom": given.HasField("atom"),
        "cross": bool(given.cross),
        "union": bool(given.union),
        "cron": given.HasField("cron"),
    }
    chosen = [kind for kind, is_given in kinds.items() if is_given]
    if not chosen:
        raise InvalidError("input is missing: give input.atom with a repo and a glob")
    if len(chosen) > 1:
        raise InvalidError(f"input should have one field, and has {' and '.join(chosen)}")
    if chosen[0] != "atom":
        _not_yet(f"input.{chosen[0]}")
    return given.atom


def _not_yet(what: str) -> NoReturn:
    raise InvalidError(f"{what} is not run by this version yet: use a single input.atom")


def _atom(atom: pps_pb2.AtomInput) -> AtomSpec:
    if not atom.repo:
        raise InvalidError("input.atom.repo is missing")
    _check_repo(atom.repo, "input.atom.repo")
    name = atom.name or atom.repo
    _check_repo(name, "input.atom.name")
    if name == RESERVED_INPUT_NAME:
        raise InvalidError("input.atom.name can't be out: /pfs/out is where the output goes")
    _check_branch(atom.branch, "input.atom.branch")
    if atom.commit:
        raise InvalidError("input.atom.commit is set by jobs: use input.atom.from_commit or leave it out")
    if not atom.glob:
        raise InvalidError("input.atom.glob is missing: / makes the whole repo one datum, /* each file at its top")
    try:
        globs.compile(atom.glob)
    except InvalidError as error:
        raise InvalidError(f"input.atom.glob is invalid: {error}") from None
    return AtomSpec(name, atom.repo, atom.branch or DEFAULT_BRANCH, atom.glob, atom.lazy, atom.from_commit)


def _check_repo(name: str, field: str) -> None:
    try:
        paths.check_repo_name(name)
    except InvalidError:
        raise InvalidError(f"{field} {name!r} is invalid: use only ASCII letters, digits, '_' and '-'") from None


def _check_branch(name: str, field: str) -> None:
    if name:
        try:
            paths.check_branch_name(name)
        except InvalidError as error:
            raise InvalidError(f"{field}: {error}") from None


def _transform(request: pps_pb2.CreatePipelineRequest) -> TransformSpec:
    transform = request.transform
    if not transform.cmd or not transform.cmd[0]:
        raise InvalidError("transform.cmd is missing: give the program to run and its arguments")
    for field, texts in (("cmd", transform.cmd), ("stdin", transform.stdin)):
        if field == "cmd" and any("\0" in text for text in texts):
            raise InvalidError(f"transform.{field} may not hold a NUL byte")
    for key, value in transform.env.items():
        if not key or "=" in key or "\0" in key + value:
            raise InvalidError(f"transform.env has a name that can't be a variable's, or a NUL byte: {key!r}")
    for code in transform.accept_return_code:
        if not 0 <= code <= 255:
            raise InvalidError(f"transform.accept_return_code should be between 0 and 255, not {code}")
    return TransformSpec(
        cmd=tuple(transform.cmd),
        image=transform.image,
        stdin=tuple(transform.stdin),
        env=tuple(sorted(transform.env.items())),
        accept_return_code=tuple(transform.accept_return_code),
    )


def _parallelism(request: pps_pb2.CreatePipelineRequest) -> tuple[int, float]:
    asked = request.parallelism_spec
    if asked.constant and asked.coefficient:
        raise InvalidError("parallelism_spec should have constant or coefficient, not both")
    if not math.isfinite(asked.coefficient) or asked.coefficient < 0:
        raise InvalidError("parallelism_spec.coefficient should be a number above 0")
    if max(asked.constant, asked.coefficient) > MAX_WORKERS:
        raise InvalidError(f"parallelism_spec asks for more than {MAX_WORKERS} workers")
    return asked.constant, asked.coefficient


def _scale_down(request: pps_pb2.CreatePipelineRequest) -> int:
    if not request.HasField("scale_down_threshold"):
        return 0
    nanoseconds = request.scale_down_threshold.ToNanoseconds()
    if nanoseconds <= 0:
        raise InvalidError('scale_down_threshold should be above 0, such as "10m"')
    return nanoseconds


def _not_negative(value: float, field: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise InvalidError(f"{field} should not be negative")
    return value


def input_repos(spec: PipelineSpec) -> Sequence[str]:
    """The repos that the pipeline reads, each once."""
    return (spec.input.repo,)
