"""What requests for jobs ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pachproto import pps_pb2
from pfsd.errors import InvalidError
from ppsd.services import convert
from ppsd.specs.egressurls import check
from ppsd.specs.spec import PipelineSpec, transform_of

_UNDERSTOOD = {"pipeline", "inputs", "input", "transform", "egress"}
_OVERRIDDEN = ("cmd", "stdin", "accept_return_code")
"""Fields of a transform that a single job may have otherwise, beside its `env`."""


def commits_of_job(request: pps_pb2.CreateJobRequest) -> dict[str, str]:
    """The commits (ids or branches) that a job is to run on, by input name; those not named are the pipeline's choice.

    Raises InvalidError for what can't be asked for.
    """
    if not request.pipeline.name:
        raise InvalidError("a job needs a pipeline: give its name")
    for field, _ in request.ListFields():
        if field.name not in _UNDERSTOOD:
            raise InvalidError(f"{field.name} can't be given to a single job: update the pipeline instead")
    found = {}
    for one in request.inputs:
        found[one.name or one.commit.repo.name] = one.commit.id
    for atom in _atoms(request.input):
        if atom.commit:
            found[atom.name or atom.repo] = atom.commit
    return found


def overridden(wanted: PipelineSpec, request: pps_pb2.CreateJobRequest) -> PipelineSpec:
    """The pipeline's spec with what a request for a single job has otherwise; raises InvalidError naming the field."""
    given = request.transform
    for field, _ in given.ListFields():
        if field.name not in (*_OVERRIDDEN, "env"):
            raise InvalidError(f"transform.{field.name} can't be given to a single job: update the pipeline instead")
    transform = convert.transform(wanted.transform)
    for name in _OVERRIDDEN:
        if getattr(given, name):
            transform.ClearField(name)
    transform.MergeFrom(given)
    egress = request.egress.URL
    return replace(
        wanted,
        transform=transform_of(transform),
        egress=check(egress, "egress.URL") if request.HasField("egress") else wanted.egress,
    )


def _atoms(given: pps_pb2.Input) -> Iterator[pps_pb2.AtomInput]:
    if given.HasField("atom"):
        yield given.atom
    for member in (*given.cross, *given.union):
        yield from _atoms(member)
