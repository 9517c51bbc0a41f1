"""Incremental pipelines, on the service's side: which datum a changed one goes on from.

It is the datum that the pipeline's last successful job had for the same paths, and its output is still known by its
tag. A datum of new paths has none, and is computed from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from pfsd.errors import NotFoundError
from ppsd import datums
from ppsd.datums import Datum
from ppsd.enumeration import all_datums
from ppsd.filesystem import FileSystem
from ppsd.records import JobRecord, JobState
from ppsd.registry import Registry


async def formers(job: JobRecord, todo: Sequence[Datum], registry: Registry, files: FileSystem) -> dict[str, Datum]:
    """The datums that those to be computed go on from, by the ids of these; none unless the pipeline is incremental."""
    if not (job.spec.incremental and todo):
        return {}
    last = await _last_success(job, registry)
    if last is None:
        return {}
    try:
        found = await all_datums(last, files)
    except NotFoundError:  # its commits went with their repo
        return {}
    former = {_places(datum): datum for datum in found}
    pairs = [(datum.id, former[_places(datum)]) for datum in todo if _places(datum) in former]
    present = await files.has_tags([datums.tag(job.salt, old.id) for _, old in pairs]) if pairs else []
    return {new: old for (new, old), is_there in zip(pairs, present, strict=True) if is_there}


async def _last_success(job: JobRecord, registry: Registry) -> JobRecord | None:
    for one in await registry.jobs(job.pipeline):
        if one.state is JobState.SUCCESS and one.salt == job.salt and one.pipeline_id == job.pipeline_id:
            return one
    return None


def _places(datum: Datum) -> tuple[tuple[int, str], ...]:
    """What of the repos a datum shows, whatever is there."""
    return tuple((one.atom, one.path) for one in datum.inputs)
