"""`enable_stats`: how the datums of each job went, as a commit on the branch `stats` of the output repo.

Workers store a tree for each datum (`ppsd.worker.account`) under a tag beside that of its output; a job that has ended,
well or not, commits those of all its datums, also of the ones that were computed before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from google.protobuf import json_format

from pachproto import pps_pb2
from pfsd.errors import CorruptError, InvalidError, NotFoundError, PfsError, leaves
from ppsd.engine import enumeration
from ppsd.specs import datums
from ppsd.specs.datums import Datum
from ppsd.specs.spec import STATS_BRANCH
from ppsd.storage import datumcosts
from ppsd.storage.filesystem import CommitRef, FileSystem
from ppsd.storage.records import JobRecord, MergeRecord, Stats

MOST_READ = 1000
"""Of so many datums, at most, it is read what they cost when they are listed."""
_PARALLEL = 16


async def commit(job: JobRecord, former: MergeRecord | None, files: FileSystem) -> tuple[CommitRef, str]:
    """Commit how the datums of a job that has ended went; gives the commit, and the tag under which the merge is kept.

    `former` is the last job's merge: where it has stats too, only what differs from them costs. A datum that comes
    several times is told of once; what differs does not say whether it is still there, so all are then merged anew.
    """
    base = former.stats_tag if former is not None and not datums.may_repeat(job.spec.input) else ""
    if base and not all(await files.has_tags([base])):
        base = ""
    found = await enumeration.difference(job, former if base else None, files)
    if not found.base:
        base = ""
    added = datums.each_once(found.added)
    tags = [datums.stats_tag(job.salt, datum.id) for datum in added]
    present = await files.has_tags(tags) if tags else []
    changes = {datum.order: "" for datum in found.removed}
    changes |= {datum.order: one for datum, one, is_there in zip(added, tags, present, strict=True) if is_there}
    made = await _open_commit(job.pipeline, files)
    result = min({f"{datums.tag_prefix(job.salt)}stats-{place}" for place in "ab"} - {base})
    await files.merge_trees(made, changes, base, result)
    await files.finish_commit(made)
    return made, result


async def _open_commit(repo: str, files: FileSystem) -> CommitRef:
    try:
        head = await files.inspect_commit(CommitRef(repo, STATS_BRANCH))
        if not head.finished:  # of a run that a crash cut off
            return head.ref
    except NotFoundError:
        pass
    return CommitRef(repo, await files.start_commit(repo, STATS_BRANCH, "", ()))


async def read(job: JobRecord, wanted: Sequence[Datum], files: FileSystem) -> dict[str, Stats]:
    """What datums of a job cost, by their ids; nothing where it is not kept, or too many are asked for."""
    found: dict[str, Stats] = {}
    at, room = job.stats_commit, trio.CapacityLimiter(_PARALLEL)
    if at is None or len(wanted) > MOST_READ:
        return found

    async def read_one(datum_id: str) -> None:
        async with room:
            try:
                found[datum_id] = _parse(await files.read_file(at, f"/{datum_id}/stats"))
            except NotFoundError:  # it was computed before stats were kept
                pass

    try:
        async with trio.open_nursery() as nursery:
            for datum in wanted:
                nursery.start_soon(read_one, datum.id)
    except* PfsError as group:
        raise leaves(group)[0] from None
    return found


def _parse(text: bytes) -> Stats:
    try:
        return datumcosts.from_wire(json_format.Parse(text, pps_pb2.ProcessStats()))
    except (json_format.ParseError, InvalidError) as error:
        raise CorruptError(f"the stats of a datum can't be read: {error}") from None
