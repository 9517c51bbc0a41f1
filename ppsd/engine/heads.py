"""Which sets of input commits need a job. A set has one commit of each source; sets come in the order of their making.

Every commit that finishes makes a set with what the other sources had then. Sources may have a common ancestor (in a
DAG of pipelines, two inputs computed from one repo): their commits go together only when they come from the same
commits of it, so that a job never sees half of a change. A commit whose counterparts are still being computed makes no
set; the last of them to finish does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from pfsd.errors import NotFoundError
from ppsd.specs.inputs import Source
from ppsd.storage import records
from ppsd.storage.filesystem import CommitRef, CommitState, FileSystem
from ppsd.storage.records import ProgressRecord

Lineage = Mapping[str, frozenset[str]]
"""What a source is computed from, itself included: repos, each with the branches that are read of it."""

HISTORY_PAGE = 32
"""So many commits of a source's past are looked at first."""


@dataclass(frozen=True, slots=True)
class InputSet:
    """What a job is made for."""

    commits: tuple[CommitRef, ...]
    """One of each source."""
    cursors: tuple[str, ...]
    """How far each source was looked at by then."""

    @property
    def key(self) -> str:
        """What the set is listed as."""
        return records.set_key([commit.id for commit in self.commits])


class Heads:
    """Finds the sets of one run of a pipeline. `made` are the keys of those that have a job."""

    def __init__(
        self,
        sources: Sequence[Source],
        progress: ProgressRecord,
        made: set[str],
        files: FileSystem,
        lineage: Callable[[Source], Lineage],
    ) -> None:
        self.made = made
        self._sources = sources
        self._cursors = list(progress.cursors) or [source.from_commit for source in sources]
        self._former = progress.heads
        self._present: list[CommitState | None] | None = None
        self._files = files
        self._lineage = lineage

    async def next_sets(self) -> list[InputSet]:
        """The sets that have had no job, oldest first. Asked again, it goes on from there, unless it raised."""
        fresh = [await self._fresh(place) for place in range(len(self._sources))]
        cursors, present, found = list(self._cursors), await self._last_used(), dict[str, InputSet]()
        events = [(commit.finished_ns, place, commit) for place, new in enumerate(fresh) for commit in new]
        for _, place, commit in sorted(events, key=lambda event: event[:2]):
            cursors[place] = commit.ref.id
            present[place] = commit
            chosen = await self._set_with(place, commit, present)
            if chosen is None:
                continue
            made = InputSet(tuple(one.ref for one in chosen), tuple(cursors))
            if made.key not in self.made:
                found.setdefault(made.key, made)
        self._cursors, self._present = cursors, present
        self.made.update(found)
        return list(found.values())

    async def _last_used(self) -> list[CommitState | None]:
        """The commits that were seen last, to begin with those of the last set."""
        if self._present is not None:
            return list(self._present)
        if len(self._sources) == 1 or not self._former:
            return [None] * len(self._sources)
        refs = [CommitRef(source.repo, one) for source, one in zip(self._sources, self._former, strict=True)]
        return [await self._inspect(ref) for ref in refs]

    async def _inspect(self, commit: CommitRef) -> CommitState | None:
        try:
            return await self._files.inspect_commit(commit)
        except NotFoundError:  # it went with its repo, which was made again
            return None

    # --- what is new in a source -------------------------------------------------------------------------

    async def _fresh(self, place: int) -> list[CommitState]:
        """The finished commits of a source after its cursor, oldest first."""
        cursor = self._cursors[place]
        source = self._sources[place]
        listed = await self._history(source, cursor)
        if listed is None and cursor:  # the repo may have been deleted and made again
            listed = await self._history(source, "")
        if listed and listed[-1].parent != cursor:
            listed = await self._since_last_set(place, listed)
        return [commit for commit in reversed(listed or []) if commit.finished]

    async def _history(self, source: Source, since: str, number: int = 0) -> list[CommitState] | None:
        """A source's commits after `since`, newest first; None where there is no such commit or branch."""
        try:
            return await self._files.list_commits(source.repo, since, source.branch, number)
        except NotFoundError:
            return None

    async def _since_last_set(self, place: int, listed: list[CommitState]) -> list[CommitState]:
        """The part of a whole history, newest first, before the first commit that had a job or was left out.

        Needed when the branch was pointed at a commit that does not descend from the last one seen.
        """
        done = {key.split("+")[place] for key in self.made}
        source = self._sources[place]
        if source.from_commit:
            try:
                left_out = await self._files.list_commits(source.repo, "", source.from_commit, 0)
            except NotFoundError:  # it went with its repo, which was made again
                left_out = []
            done.update(commit.ref.id for commit in left_out)
        new = []
        for commit in listed:
            if commit.ref.id in done:
                break
            new.append(commit)
        return new

    # --- what goes together ------------------------------------------------------------------------------

    async def _set_with(
        self, place: int, commit: CommitState, present: Sequence[CommitState | None]
    ) -> list[CommitState] | None:
        """The set that a commit of one source makes with the others' newest that go with it; None for none."""
        chosen = {place: commit}
        others = [other for other in range(len(self._sources)) if other != place]
        # Those of the same descent first: they have the least choice.
        others.sort(key=lambda other: not self._related(place, other))
        for other in others:
            related = any(self._related(one, other) for one in chosen)
            fitting = present[other]
            if related:
                fitting = await self._newest_fitting(other, present[other], chosen)
            if fitting is None:
                return None
            chosen[other] = fitting
        return [chosen[one] for one in range(len(self._sources))]

    async def _newest_fitting(
        self, other: int, present: CommitState | None, chosen: Mapping[int, CommitState]
    ) -> CommitState | None:
        if present is not None and self._fits(other, present, chosen):
            return present
        async for candidate in self._past(other):
            if candidate.finished and self._fits(other, candidate, chosen):
                return candidate
        return None

    async def _past(self, place: int) -> AsyncIterator[CommitState]:
        """A source's commits, newest first."""
        source = self._sources[place]
        newest = await self._history(source, source.from_commit, HISTORY_PAGE) or []
        for commit in newest:
            yield commit
        if len(newest) == HISTORY_PAGE:
            for commit in (await self._history(source, source.from_commit) or [])[HISTORY_PAGE:]:
                yield commit

    def _fits(self, other: int, candidate: CommitState, chosen: Mapping[int, CommitState]) -> bool:
        return all(self._agree(place, commit, other, candidate) for place, commit in chosen.items())

    def _related(self, one: int, other: int) -> bool:
        """Whether two sources are computed from some branch that is the same."""
        first, second = self._lineage(self._sources[one]), self._lineage(self._sources[other])
        return any(first[repo] & second[repo] for repo in first.keys() & second.keys())

    def _agree(self, one: int, commit: CommitState, other: int, candidate: CommitState) -> bool:
        """Whether two commits come from the same commits of the branches that both are computed from."""
        first, second = self._lineage(self._sources[one]), self._lineage(self._sources[other])
        for repo in first.keys() & second.keys():
            ours, theirs = _commits_of(repo, commit), _commits_of(repo, candidate)
            if not (ours and theirs):  # an earlier version of a pipeline may have had other inputs
                continue
            if first[repo] <= second[repo] and not ours <= theirs:
                return False
            if second[repo] <= first[repo] and not theirs <= ours:
                return False
        return True


def _commits_of(repo: str, commit: CommitState) -> set[str]:
    """The commits of a repo that a commit comes from, itself included."""
    return {ref.id for ref in (commit.ref, *commit.provenance) if ref.repo == repo}
