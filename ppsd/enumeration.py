"""Which datums a job has."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ppsd import datums, inputs
from ppsd.datums import Datum
from ppsd.filesystem import CommitRef, FileSystem
from ppsd.records import JobRecord


async def all_datums(job: JobRecord, files: FileSystem) -> list[Datum]:
    """All datums of a job, in order."""
    matches: dict[tuple[CommitRef, str], Sequence[tuple[str, bytes]]] = {}
    wanted = [(commit, atom.glob) for commit, atom in zip(job.inputs, inputs.atoms(job.spec.input), strict=True)]
    for commit, glob in wanted:
        if (commit, glob) not in matches:
            matches[commit, glob] = await files.glob_entries(commit, glob)
    found = [matches[one] for one in wanted]
    return await trio.to_thread.run_sync(datums.enumerate_all, job.salt, job.spec.input, found)
