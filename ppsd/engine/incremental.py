"""Incremental pipelines, on the service's side: which datum a changed one goes on from.

It is the datum that the pipeline's last successful job had for the same paths, and its output is still known by its
tag. A datum of new paths has none, and is computed from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ppsd.specs import datums
from ppsd.specs.datums import Datum
from ppsd.storage.filesystem import FileSystem
from ppsd.storage.records import JobRecord


async def formers(
    job: JobRecord, todo: Sequence[Datum], removed: Sequence[Datum], files: FileSystem
) -> dict[str, Datum]:
    """The datums that those to be computed go on from, by the ids of these; none unless the pipeline is incremental.

    `removed` are the datums of the last successful job that this one has not.
    """
    if not job.spec.incremental:
        return {}
    former = {datum.order: datum for datum in removed}
    pairs = [(datum.id, former[datum.order]) for datum in todo if datum.order in former]
    present = await files.has_tags([datums.tag(job.salt, old.id) for _, old in pairs]) if pairs else []
    return {new: old for (new, old), is_there in zip(pairs, present, strict=True) if is_there}
