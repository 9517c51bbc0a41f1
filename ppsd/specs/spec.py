"""Pipeline specs: the rules they must satisfy, and what is left after defaults are filled in.

`validate` turns a request, however it came, into a `PipelineSpec`. Pure; raises InvalidError with the field's path.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from pachproto import pps_pb2
from pfsd.errors import InvalidError
from pfsd.names import paths
from ppsd.specs import durations, egressurls, inputs, quantities
from ppsd.specs.inputs import DEFAULT_BRANCH, InputSpec
from ppsd.specs.limits import Limits

MAX_WORKERS = 1000
MIN_MEMORY_BYTES = 4 << 20
MIN_CPU = 0.01
MAX_PORT = 65535
MEMORY_FIELD = "resource_spec.memory"
STATS_BRANCH = "stats"
"""Of the output repo: where `enable_stats` keeps how the datums of each job went."""
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret that user code finds as a directory of files."""

    name: str
    mount_path: str
    """Absolute path, not below /pfs."""


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
    secrets: tuple[SecretSpec, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    """Names of secrets with which images are pulled."""
    debug: bool = False
    """Whether the log tells of each datum what it was shown, how its command ended and what was stored."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A pipeline whose command runs on, over the newest commits, and is reached through a port."""

    internal_port: int
    """Where the command listens."""
    external_port: int = 0
    """Where it is reached; 0 where that is the same."""


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline as a user asked for it, with the defaults filled in."""

    name: str
    transform: TransformSpec
    input: InputSpec
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
    egress: str = ""
    """Where a job's output is pushed to before it succeeds: s3://BUCKET/DIRECTORY; empty for nowhere."""
    incremental: bool = False
    """Whether a datum that changed begins with its former output, and sees only what is new."""
    service: ServiceSpec | None = None

    def workers(self, nodes: int) -> int:
        """How many workers run where there are `nodes` machines."""
        if self.service is not None:
            return 1
        if self.constant:
            return self.constant
        return max(1, math.floor((self.coefficient or 1.0) * nodes))

    @property
    def counts_nodes(self) -> bool:
        """Whether the number of workers depends on that of the nodes."""
        return self.service is None and not self.constant

    def limits(self) -> Limits:
        """What user code of one worker may take."""
        return Limits(quantities.parse(self.memory, MEMORY_FIELD) if self.memory else 0, self.cpu)

    def unapplied(self) -> list[str]:
        """Sentences for the job's log: what was asked for and has no effect in this version."""
        asked = {
            "cache_size": bool(self.cache_size),
            "batch": self.batch,
        }
        return [f"{name} is not applied by this version" for name, given in asked.items() if given]


def validate(request: pps_pb2.CreatePipelineRequest) -> PipelineSpec:
    """The spec that a request asks for, with defaults; raises InvalidError naming the field at fault.

    Whether the input repos exist is not looked at.
    """
    name = request.pipeline.name
    if not name:
        raise InvalidError("pipeline.name is missing")
    try:
        paths.check_repo_name(name)
    except InvalidError:
        raise InvalidError(f"pipeline.name {name!r} is invalid: use only ASCII letters, digits, '_' and '-'") from None
    given = request.input if request.HasField("input") else None
    spec = inputs.from_request(name, given, request.inputs)
    if name in inputs.repos(spec):
        raise InvalidError(f"pipeline {name} can't have its own output repo as an input")
    inputs.check_branch(request.output_branch, "output_branch")
    if request.enable_stats and request.output_branch == STATS_BRANCH:
        raise InvalidError(f"output_branch can't be {STATS_BRANCH} with enable_stats, which keeps the stats there")
    constant, coefficient = _parallelism(request)
    return PipelineSpec(
        name=name,
        transform=transform_of(request.transform),
        input=spec,
        output_branch=request.output_branch or DEFAULT_BRANCH,
        description=request.description,
        constant=constant,
        coefficient=coefficient,
        scale_down_ns=_scale_down(request),
        cpu=_cpu(request.resource_spec.cpu),
        memory=_memory(request.resource_spec.memory),
        gpu=int(_not_negative(request.resource_spec.gpu, "resource_spec.gpu")),
        cache_size=request.cache_size,
        enable_stats=request.enable_stats,
        batch=request.batch,
        egress=egressurls.check(request.egress.URL, "egress.URL") if request.HasField("egress") else "",
        incremental=request.incremental,
        service=_service(request),
    )


def transform_of(transform: pps_pb2.Transform) -> TransformSpec:
    """What a transform asks for; raises InvalidError naming the field at fault."""
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
        secrets=_secrets(transform),
        image_pull_secrets=_pull_secrets(transform),
        debug=transform.debug,
    )


def _pull_secrets(transform: pps_pb2.Transform) -> tuple[str, ...]:
    for index, name in enumerate(transform.image_pull_secrets):
        if not _SECRET_NAME.fullmatch(name):
            raise InvalidError(
                f"transform.image_pull_secrets[{index}] should be letters, digits, '.', '_' and '-', not {name!r}"
            )
    return tuple(transform.image_pull_secrets)


def _secrets(transform: pps_pb2.Transform) -> tuple[SecretSpec, ...]:
    found = []
    for index, secret in enumerate(transform.secrets):
        where = f"transform.secrets[{index}]"
        if not _SECRET_NAME.fullmatch(secret.name):
            raise InvalidError(f"{where}.name should be letters, digits, '.', '_' and '-', not {secret.name!r}")
        path = secret.mount_path
        parts = path.strip("/").split("/")
        if (
            not path.startswith("/")
            or not parts[0]
            or parts[0] == "pfs"
            or {"", ".", ".."} & set(parts)
            or "\0" in path
        ):
            raise InvalidError(f"{where}.mount_path should be an absolute path outside of /pfs, not {path!r}")
        found.append(SecretSpec(secret.name, "/" + "/".join(parts)))
    if len({secret.mount_path for secret in found}) < len(found):
        raise InvalidError("transform.secrets has two secrets with the same mount_path")
    return tuple(found)


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
    nanoseconds = durations.from_wire(request.scale_down_threshold, "scale_down_threshold")
    if nanoseconds <= 0:
        raise InvalidError('scale_down_threshold should be above 0, such as "10m"')
    return nanoseconds


def _service(request: pps_pb2.CreatePipelineRequest) -> ServiceSpec | None:
    if not request.HasField("service"):
        return None
    ports = request.service
    if not 1 <= ports.internal_port <= MAX_PORT:
        raise InvalidError(f"service.internal_port should be from 1 to {MAX_PORT}, and is {ports.internal_port}")
    if not 0 <= ports.external_port <= MAX_PORT:
        raise InvalidError(f"service.external_port should be from 1 to {MAX_PORT}, and is {ports.external_port}")
    for field in ("egress", "incremental", "enable_stats", "parallelism_spec", "scale_down_threshold"):
        if getattr(request, field) if isinstance(getattr(request, field), bool) else request.HasField(field):
            raise InvalidError(f"{field} can't be given to a service, which puts nothing out and has one worker")
    same = ports.external_port == ports.internal_port
    return ServiceSpec(ports.internal_port, 0 if same else ports.external_port)


def _memory(text: str) -> str:
    if text and quantities.parse(text, MEMORY_FIELD) < MIN_MEMORY_BYTES:
        raise InvalidError(f'{MEMORY_FIELD} should be at least "4Mi", and is {text!r}: did you forget its unit?')
    return text


def _cpu(value: float) -> float:
    if _not_negative(value, "resource_spec.cpu") and value < MIN_CPU:
        raise InvalidError(f"resource_spec.cpu should be at least {MIN_CPU}, and is {value:g}")
    return value


def _not_negative(value: float, field: str) -> float:
    if not math.isfinite(value) or value < 0:
        raise InvalidError(f"{field} should not be negative")
    return value


def same_computation(one: PipelineSpec, other: PipelineSpec) -> bool:
    """Whether two versions of a pipeline give the same output for the same commits.

    They do when only parallelism, resources, thresholds, description, output branch, egress, pull secrets, schedules,
    `from_commit`, or whether it is incremental, keeps stats or logs in detail, differ.
    """
    return _computation(one) == _computation(other)


def _computation(spec: PipelineSpec) -> tuple[TransformSpec, InputSpec, ServiceSpec | None]:
    return replace(spec.transform, image_pull_secrets=(), debug=False), inputs.without_starts(spec.input), spec.service


def starts_after_commit(spec: PipelineSpec) -> bool:
    """Whether a `from_commit` is given."""
    return any(source.from_commit for source in inputs.sources(spec.input))
