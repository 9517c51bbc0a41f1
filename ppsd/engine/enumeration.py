"""Which datums a job has: all of them, or only those that changed since the last merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from pfsd.errors import NotFoundError
from ppsd.specs import datums, inputs
from ppsd.specs.datums import AtomChange, Datum, Matches
from ppsd.storage.filesystem import CommitRef, FileSystem, Glob
from ppsd.storage.records import JobRecord, MergeRecord

T = TypeVar("T")

THREADS = 4
"""How many datum lists are computed at a time, for all jobs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A job's datums against those of a former merge."""

    base: str
    """The tag of that merge; empty for none."""
    removed: Sequence[Datum]
    """What the merge has and the job has not, in order."""
    added: Sequence[Datum]
    """What the job has and the merge has not, in order."""
    total: int
    """How many datums the job has."""


_threads = trio.CapacityLimiter(THREADS)


async def _computed(function: Callable[..., T], *args: Any) -> T:
    """The result of a call in a thread; a task that is cancelled does not wait for it."""
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=_threads)


async def all_datums(job: JobRecord, files: FileSystem) -> list[Datum]:
    """All datums of a job, in order."""
    matches = await _Lists(job, files).all()
    return await _computed(datums.enumerate_all, job.salt, job.spec.input, matches)


async def difference(job: JobRecord, former: MergeRecord | None, files: FileSystem) -> Difference:
    """A job's datums against those of a former merge, if it can be the base of the job's; costs what differs."""
    lists = _Lists(job, files)
    changes = None
    if former is not None and former.fits(job) and all(await files.has_tags([former.tag])):
        changes = await lists.changes(former.inputs)
    if former is None or changes is None:
        found = [AtomChange((), matches) for matches in await lists.all()]
        _, added = await _computed(datums.changes, job.salt, job.spec.input, found)
        return Difference("", (), added, len(added))
    removed, added = await _computed(datums.changes, job.salt, job.spec.input, changes, former.total)
    return Difference(former.tag, removed, added, former.total + len(added) - len(removed))


class _Lists:
    """What the atoms of a job's input match. What several ask for alike is asked for once."""

    def __init__(self, job: JobRecord, files: FileSystem) -> None:
        self._input = job.spec.input
        self._files = files
        self._wanted = [
            (commit, Glob(atom.glob, atom.recursive))
            for commit, atom in zip(job.inputs, inputs.atoms(job.spec.input), strict=True)
        ]
        self._matches: dict[tuple[CommitRef, Glob], Matches] = {}
        self._changes: dict[tuple[CommitRef, CommitRef, Glob], AtomChange] = {}

    async def all(self) -> list[Matches]:
        """All matches of each atom."""
        return [await self._listed(*one) for one in self._wanted]

    async def changes(self, former: Sequence[CommitRef]) -> list[AtomChange] | None:
        """How the matches of each atom differ from those in former commits; None where one of those is gone."""
        try:
            found = [await self._changed(old, *one) for old, one in zip(former, self._wanted, strict=True)]
        except NotFoundError:
            return None
        needed = datums.needs_kept(self._input, [bool(one.removed or one.added) for one in found])
        for place, (commit, glob) in enumerate(self._wanted):
            if needed[place]:
                matches = await self._listed(commit, glob)
                found[place] = await _computed(_with_kept, found[place], matches)
        return found

    async def _listed(self, commit: CommitRef, glob: Glob) -> Matches:
        key = (commit, glob)
        if key not in self._matches:
            self._matches[key] = await self._files.glob_entries(commit, glob)
        return self._matches[key]

    async def _changed(self, old: CommitRef, new: CommitRef, glob: Glob) -> AtomChange:
        key = (old, new, glob)
        if key not in self._changes:
            found = await self._files.glob_changes(old, new, glob)
            self._changes[key] = AtomChange(
                [(path, before) for path, before, _ in found if before],
                [(path, after) for path, _, after in found if after],
            )
        return self._changes[key]


def _with_kept(change: AtomChange, matches: Matches) -> AtomChange:
    added = {path for path, _ in change.added}
    return AtomChange(change.removed, change.added, [one for one in matches if one[0] not in added])
