"""What requests for jobs ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pachproto import pps_pb2
from pfsd.errors import InvalidError

_UNDERSTOOD = {"pipeline", "inputs", "input"}


def commits_of_job(request: pps_pb2.CreateJobRequest) -> dict[str, str]:
    """The commits (ids or branches) that a job is to run on, by input name; those not named are the pipeline's choice.

    Raises InvalidError for what can't be asked for: a job runs a pipeline as it is.
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


def _atoms(given: pps_pb2.Input) -> Iterator[pps_pb2.AtomInput]:
    if given.HasField("atom"):
        yield given.atom
    for member in (*given.cross, *given.union):
        yield from _atoms(member)
