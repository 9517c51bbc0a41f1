"""Inputs of pipelines: branches of repos, their cross products and unions, nested to any depth. Pure.

A pipeline's *sources* are the branches that its atoms read, each once: what a job is made for is one commit of each.
A cron input is an atom whose repo the clock commits to (`ppsd.engine.cron`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pachproto import pps_pb2
from pfsd.errors import InvalidError
from pfsd.names import paths
from pfsd.trees import globs
from ppsd.specs import schedules
from ppsd.specs.schedules import Schedule

DEFAULT_BRANCH = "master"
RESERVED_NAME = "out"
MAX_DEPTH = 50
CRON_GLOB = "/*"
"""A cron input's datum is the one file of its repo."""


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
    recursive: bool = False
    """Whether `**` in the glob stands for any number of components."""
    cron: Schedule | None = None
    """When the pipeline service itself commits to the repo: then it is a cron input."""

    @classmethod
    def completed(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a record from when `**` always recursed: for what was made then it still does."""
        return fields if "recursive" in fields else {**fields, "recursive": "**" in fields["glob"]}


@dataclass(frozen=True, slots=True)
class CrossSpec:
    """Every tuple of the members' datums; the first member's vary slowest."""

    cross: tuple[InputSpec, ...]


@dataclass(frozen=True, slots=True)
class UnionSpec:
    """The members' datums, one member's after the other's."""

    union: tuple[InputSpec, ...]


InputSpec = AtomSpec | CrossSpec | UnionSpec


@dataclass(frozen=True, slots=True)
class Source:
    """A branch that a pipeline reads."""

    repo: str
    branch: str
    from_commit: str = ""
    """Id of a commit: it and what came before are left out."""


def members(spec: InputSpec) -> tuple[InputSpec, ...]:
    """The inputs right below a cross or a union; none below an atom."""
    if isinstance(spec, CrossSpec):
        return spec.cross
    return spec.union if isinstance(spec, UnionSpec) else ()


def atoms(spec: InputSpec) -> tuple[AtomSpec, ...]:
    """All atoms, in the order in which they are written."""
    if isinstance(spec, AtomSpec):
        return (spec,)
    return tuple(atom for member in members(spec) for atom in atoms(member))


def sources(spec: InputSpec) -> tuple[Source, ...]:
    """The branches that are read, each once, in the order in which they are written."""
    return tuple(dict.fromkeys(source_of(atom) for atom in atoms(spec)))


def source_of(atom: AtomSpec) -> Source:
    """The branch that an atom reads."""
    return Source(atom.repo, atom.branch, atom.from_commit)


def repos(spec: InputSpec) -> tuple[str, ...]:
    """The repos that are read, each once."""
    return tuple(dict.fromkeys(atom.repo for atom in atoms(spec)))


def with_atoms(spec: InputSpec, change: Callable[[AtomSpec], AtomSpec]) -> InputSpec:
    """The input with each atom as `change` makes it."""
    if isinstance(spec, AtomSpec):
        return change(spec)
    changed = tuple(with_atoms(member, change) for member in members(spec))
    return CrossSpec(changed) if isinstance(spec, CrossSpec) else UnionSpec(changed)


def with_starts(spec: InputSpec, starts: Mapping[Source, str]) -> InputSpec:
    """The input whose atoms begin after other commits: `starts` gives the id for each source that names one."""
    return with_atoms(spec, lambda atom: replace(atom, from_commit=starts.get(source_of(atom), atom.from_commit)))


def without_starts(spec: InputSpec) -> InputSpec:
    """The input without `from_commit` and schedules: what decides which datums there are, and what they show."""
    return with_atoms(spec, lambda atom: replace(atom, from_commit="", cron=None))


# --- the wire --------------------------------------------------------------------------------------------


def to_wire(spec: InputSpec, commits: Sequence[str]) -> pps_pb2.Input:
    """The message of an input; `commits` are ids, one for each atom, or none."""
    ids = iter(commits)

    def message(one: InputSpec) -> pps_pb2.Input:
        if isinstance(one, CrossSpec):
            return pps_pb2.Input(cross=map(message, one.cross))
        if isinstance(one, UnionSpec):
            return pps_pb2.Input(union=map(message, one.union))
        if one.cron is not None:
            return pps_pb2.Input(cron=_cron_to_wire(one, one.cron, next(ids, "")))
        return pps_pb2.Input(
            atom=pps_pb2.AtomInput(
                name=one.name,
                repo=one.repo,
                branch=one.branch,
                commit=next(ids, ""),
                glob=one.glob,
                lazy=one.lazy,
                from_commit=one.from_commit,
                recursive=one.recursive,
            )
        )

    return message(spec)


def _cron_to_wire(atom: AtomSpec, cron: Schedule, commit: str) -> pps_pb2.CronInput:
    made = pps_pb2.CronInput(name=atom.name, repo=atom.repo, commit=commit, spec=cron.spec)
    if cron.start_ns:
        made.start.FromNanoseconds(cron.start_ns)
    return made


def from_request(pipeline: str, given: pps_pb2.Input | None, old: Sequence[pps_pb2.PipelineInput]) -> InputSpec:
    """The input that a pipeline's request asks for, `old` in the form of `inputs`.

    Raises InvalidError naming the field.
    """
    if old:
        if given is not None:
            raise InvalidError("input and inputs can't both be given: leave out inputs, the old form")
        spec = _old_form(old)
    elif given is None:
        raise InvalidError("input is missing: give input.atom with a repo and a glob")
    else:
        spec = _input(pipeline, given, "input", 0)
    _check_names(spec, "inputs" if old else "input")
    return spec


def _old_form(old: Sequence[pps_pb2.PipelineInput]) -> InputSpec:
    """The input that the old form `inputs` means: several are a cross."""
    found = []
    for index, one in enumerate(old):
        atom = pps_pb2.AtomInput(
            name=one.name,
            repo=one.repo.name,
            branch=one.branch,
            glob=one.glob,
            lazy=one.lazy,
            from_commit=getattr(one, "from").id,
        )
        found.append(_atom(atom, f"inputs[{index}]"))
    return found[0] if len(found) == 1 else CrossSpec(tuple(found))


def _input(pipeline: str, given: pps_pb2.Input, where: str, depth: int) -> InputSpec:
    if depth > MAX_DEPTH:
        raise InvalidError(f"input is nested more than {MAX_DEPTH} deep")
    kinds = {
        "atom": given.HasField("atom"),
        "cross": bool(given.cross),
        "union": bool(given.union),
        "cron": given.HasField("cron"),
    }
    chosen = [kind for kind, is_given in kinds.items() if is_given]
    if not chosen:
        raise InvalidError(f"{where} is missing: give {where}.atom with a repo and a glob")
    if len(chosen) > 1:
        raise InvalidError(f"{where} should have one field, and has {' and '.join(chosen)}")
    kind = chosen[0]
    if kind == "atom":
        return _atom(given.atom, f"{where}.atom")
    if kind == "cron":
        return _cron(pipeline, given.cron, f"{where}.cron")
    below = given.cross if kind == "cross" else given.union
    found = tuple(_input(pipeline, member, f"{where}.{kind}[{index}]", depth + 1) for index, member in enumerate(below))
    return CrossSpec(found) if kind == "cross" else UnionSpec(found)


def _atom(atom: pps_pb2.AtomInput, where: str) -> AtomSpec:
    if not atom.repo:
        raise InvalidError(f"{where}.repo is missing")
    check_name(atom.repo, f"{where}.repo")
    name = atom.name or atom.repo
    check_name(name, f"{where}.name")
    if name == RESERVED_NAME:
        raise InvalidError(f"{where}.name can't be out: /pfs/out is where the output goes")
    check_branch(atom.branch, f"{where}.branch")
    if atom.commit:
        raise InvalidError(f"{where}.commit is set by jobs: use {where}.from_commit or leave it out")
    if not atom.glob:
        raise InvalidError(f"{where}.glob is missing: / makes the whole repo one datum, /* each file at its top")
    try:
        globs.compile(atom.glob, recursive=atom.recursive)
    except InvalidError as error:
        raise InvalidError(f"{where}.glob is invalid: {error}") from None
    branch = atom.branch or DEFAULT_BRANCH
    return AtomSpec(name, atom.repo, branch, atom.glob, atom.lazy, atom.from_commit, atom.recursive)


def _cron(pipeline: str, cron: pps_pb2.CronInput, where: str) -> AtomSpec:
    if not cron.name:
        raise InvalidError(f"{where}.name is missing: the time is shown below /pfs/NAME")
    check_name(cron.name, f"{where}.name")
    if cron.name == RESERVED_NAME:
        raise InvalidError(f"{where}.name can't be out: /pfs/out is where the output goes")
    if cron.repo:
        check_name(cron.repo, f"{where}.repo")
    if cron.commit:
        raise InvalidError(f"{where}.commit is set by jobs: leave it out")
    schedules.check(cron.spec, f"{where}.spec")
    start_ns = cron.start.seconds * schedules.SECOND_NS + cron.start.nanos if cron.HasField("start") else 0
    if not 0 <= start_ns <= schedules.LAST_NS:
        raise InvalidError(f"{where}.start should not lie before 1970 or in the far future")
    repo = cron.repo or f"{pipeline}_{cron.name}"
    return AtomSpec(cron.name, repo, DEFAULT_BRANCH, CRON_GLOB, cron=Schedule(cron.spec, start_ns))


def check_name(name: str, field: str) -> None:
    """Raise InvalidError, naming the field, where `name` can't be a repo's."""
    try:
        paths.check_repo_name(name)
    except InvalidError:
        raise InvalidError(f"{field} {name!r} is invalid: use only ASCII letters, digits, '_' and '-'") from None


def check_branch(name: str, field: str) -> None:
    """Raise InvalidError, naming the field, where `name` is given and can't be a branch's."""
    if name:
        try:
            paths.check_branch_name(name)
        except InvalidError as error:
            raise InvalidError(f"{field}: {error}") from None


def _check_names(spec: InputSpec, where: str) -> None:
    """Inputs that one datum may show together need names of their own; members of a union may share one.

    A cron input's repo is no other input's.
    """
    for cron in atoms(spec):
        if cron.cron is not None and [atom.repo for atom in atoms(spec)].count(cron.repo) > 1:
            raise InvalidError(f"{where} reads repo {cron.repo} of a cron input twice: give the cron another repo")
    for cross in _crosses(spec):
        seen: set[str] = set()
        for member in cross.cross:
            names = {atom.name for atom in atoms(member)}
            if names & seen:
                _name_twice(min(names & seen), where)
            seen |= names


def _crosses(spec: InputSpec) -> Iterator[CrossSpec]:
    if isinstance(spec, CrossSpec):
        yield spec
    for member in members(spec):
        yield from _crosses(member)


def _name_twice(name: str, where: str) -> NoReturn:
    raise InvalidError(f"{where} has a cross of two inputs that are called {name}: give one of them another name")
