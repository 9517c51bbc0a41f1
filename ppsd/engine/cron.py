"""Cron inputs: repos into which the clock commits.

At each tick of its schedule a cron input's repo gets a commit whose one file, `/time`, holds the tick's time as a JSON
string (`"2017-08-01T00:00:00Z"`). The repo is the only memory there is: what comes after the time in its newest commit
is still to be ticked. So a service that was down, or a pipeline that was stopped, makes up for the ticks it missed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio
from google.protobuf.timestamp_pb2 import Timestamp

from pfsd.errors import AlreadyExistsError, NotFoundError
from ppsd.specs import inputs, schedules
from ppsd.specs.inputs import DEFAULT_BRANCH, AtomSpec
from ppsd.specs.schedules import Schedule
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.filesystem import CommitRef, CommitState, FileSystem
from ppsd.storage.registry import Registry

logger = logging.getLogger(__name__)

TIME_FILE = "time"
MAX_MISSED = 1000
"""So many missed ticks at most are made up for: the last ones."""
_MOST_TOLD = 100
"""Bytes of a time."""
_LONGEST_SLEEP_SECONDS = 60.0
"""The clock may be set while nobody looks."""


class Clock:
    """Ticks for one cron input; `say` gets sentences for the pipeline's log."""

    def __init__(self, repo: str, schedule: Schedule, files: FileSystem, say: Callable[[str], None]) -> None:
        self._repo = repo
        self._schedule = schedule
        self._files = files
        self._say = say

    async def tick(self) -> None:
        """Commit what was missed, then wait for the next tick and commit that; called again and again.

        Raises what the file system does; asked again, it goes on from there.
        """
        last = await self._last()
        missed = schedules.ticks(self._schedule, last, time.time_ns(), MAX_MISSED + 1)
        if len(missed) > MAX_MISSED:
            self._say(f"cron input {self._repo} has missed many ticks: only the last {MAX_MISSED} are made up for")
        for tick_ns in missed[-MAX_MISSED:]:
            await self._commit(tick_ns)
            last = tick_ns
        await _sleep_until(schedules.next_tick(self._schedule, max(last, time.time_ns())))

    async def _last(self) -> int:
        """The last tick that was committed, in nanoseconds since the epoch, or 0."""
        head = await self._head()
        while head is not None and not head.finished:
            await self._files.delete_commit(head.ref)  # of a tick that a crash cut off
            head = await self._head()
        if head is None:
            return 0
        try:
            told = told_time(await self._files.read_file(head.ref, TIME_FILE))
        except NotFoundError:
            told = None
        return head.finished_ns if told is None else told  # without a time it is not the clock's own

    async def _head(self) -> CommitState | None:
        try:
            return await self._files.inspect_commit(CommitRef(self._repo, DEFAULT_BRANCH))
        except NotFoundError:
            return None

    async def _commit(self, tick_ns: int) -> None:
        told = Timestamp()
        told.FromNanoseconds(tick_ns)
        started = await self._files.start_commit(self._repo, DEFAULT_BRANCH, "", ())
        made = CommitRef(self._repo, started)
        await self._files.put_file(made, TIME_FILE, f'"{told.ToJsonString()}"'.encode())
        await self._files.finish_commit(made)


def told_time(data: bytes) -> int | None:
    """The nanoseconds since the epoch that the content of `TIME_FILE` tells, or None where it tells none."""
    told = Timestamp()
    try:
        told.FromJsonString(data[:_MOST_TOLD].decode().strip().strip('"'))
        found = told.ToNanoseconds()
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found <= schedules.LAST_NS else None


async def _sleep_until(time_ns: int) -> None:
    while (left := (time_ns - time.time_ns()) / 1e9) > 0:
        await trio.sleep(min(left, _LONGEST_SLEEP_SECONDS))


def crons(spec: PipelineSpec) -> dict[str, Schedule]:
    """The cron inputs of a pipeline: repos, each with its schedule."""
    return {atom.repo: atom.cron for atom in inputs.atoms(spec.input) if atom.cron is not None}


def started(spec: PipelineSpec) -> PipelineSpec:
    """The spec whose schedules without a start begin now."""
    now = time.time_ns()

    def begun(atom: AtomSpec) -> AtomSpec:
        if atom.cron is None or atom.cron.start_ns:
            return atom
        return replace(atom, cron=replace(atom.cron, start_ns=now))

    return replace(spec, input=inputs.with_atoms(spec.input, begun))


def going_on(spec: PipelineSpec, former: PipelineSpec) -> PipelineSpec:
    """The spec whose schedules without a start have those of a former version, where they are the same else."""
    schedules_before = crons(former)

    def begun(atom: AtomSpec) -> AtomSpec:
        before = schedules_before.get(atom.repo)
        if atom.cron is None or atom.cron.start_ns or before is None or before.spec != atom.cron.spec:
            return atom
        return replace(atom, cron=before)

    return replace(spec, input=inputs.with_atoms(spec.input, begun))


class CronRepos:
    """Makes and removes the repos of cron inputs. `exists` says whether there is a pipeline of a name."""

    def __init__(self, files: FileSystem, registry: Registry, exists: Callable[[str], bool]) -> None:
        self._files = files
        self._registry = registry
        self._exists = exists

    @asynccontextmanager
    async def made(self, spec: PipelineSpec) -> AsyncIterator[None]:
        """Make the repos of a pipeline's cron inputs; when the body fails, those that were not there go.

        Raises AlreadyExistsError for a repo that is another pipeline's clock, or holds other data.
        """
        absent = [repo for repo in crons(spec) if await self._is_free(repo, spec.name)]
        for repo in crons(spec):
            await self._registry.claim_clock(repo, spec.name)
        for repo in absent:
            await self._files.create_repo(repo, (), f"Ticks of pipeline {spec.name}.", False)
        try:
            yield
        except Exception:
            await self._remove(absent)
            raise

    async def _is_free(self, repo: str, pipeline: str) -> bool:
        """Whether a repo is still to be made."""
        if not await self._files.repo_exists(repo):
            return True
        owner = await self._registry.clock_of(repo)
        if owner not in ("", pipeline) and self._exists(owner):
            raise AlreadyExistsError(f"repo {repo} is the clock of pipeline {owner}: read it with an atom")
        if not owner and await self._files.list_commits(repo, "", "", 1):
            raise AlreadyExistsError(f"repo {repo} holds data: take another name for the cron input's repo")
        return False

    async def remove(self, spec: PipelineSpec) -> None:
        """Delete the repos of a pipeline's cron inputs, but those that other repos come from."""
        await self._remove([repo for repo in crons(spec) if await self._registry.clock_of(repo) == spec.name])

    async def _remove(self, repos: Sequence[str]) -> None:
        for repo in repos:
            try:
                if await self._files.repos_below(repo):
                    continue
                await self._files.delete_repo(repo)
            except NotFoundError:  # somebody was quicker
                pass
            await self._registry.release_clock(repo)
