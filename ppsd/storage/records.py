"""What the pipeline service remembers: pipelines, their progress, jobs; and the keys under which it is kept.

Keys, through the daemon's `Records` service (values are JSON, see `ppsd.storage.codec`):

    pps/pipelines/NAME             PipelineRecord
    pps/progress/NAME              ProgressRecord
    pps/made-repos/NAME            empty: the repo was made as a pipeline's output
    pps/clocks/NAME                the name of the pipeline to whose cron input the repo belongs
    pps/jobs/NAME/ID               JobRecord; ids ascend with time, so keys are in the order of creation
    pps/job-ids/ID                 the name of the job's pipeline
    pps/open-jobs/ID               empty: the job is not at its end
    pps/inputs/PIPELINE-ID/SET     id of the job that was made for the set of input commits: their ids, joined by +
    pps/todo/NAME/JOB-ID/NUMBER    some of the ids (32 bytes each) of the datums that the job had to compute
    pps/logs/NAME/NUMBER           a batch of log lines (`ppsd.storage.logs`)
"""

from __future__ import annotations

import enum
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ppsd.specs.datums import may_repeat, tag_prefix
from ppsd.specs.inputs import InputSpec, without_starts
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.filesystem import CommitRef

FORM = 2
"""Version of the records' form. In form 1 a pipeline had one input."""

PIPELINES = "pps/pipelines/"
PROGRESS = "pps/progress/"
MADE_REPOS = "pps/made-repos/"
CLOCKS = "pps/clocks/"
JOBS = "pps/jobs/"
JOB_IDS = "pps/job-ids/"
OPEN_JOBS = "pps/open-jobs/"
INPUTS = "pps/inputs/"
LOGS = "pps/logs/"
REMAINING = "pps/todo/"


class JobState(enum.Enum):
    """Where a job is; the values are the wire's."""

    STARTING = 0
    RUNNING = 1
    FAILURE = 2
    SUCCESS = 3
    KILLED = 4

    @property
    def final(self) -> bool:
        return self in (JobState.FAILURE, JobState.SUCCESS, JobState.KILLED)


class DatumState(enum.Enum):
    """How a datum of a job is; the values are the wire's."""

    FAILED = 0
    SUCCESS = 1
    SKIPPED = 2
    STARTING = 3


class PipelineState(enum.Enum):
    """How a pipeline is; the values are the wire's."""

    STARTING = 0
    RUNNING = 1
    RESTARTING = 2
    FAILURE = 3
    PAUSED = 4


@dataclass(frozen=True, slots=True)
class Deletion:
    """A pipeline that is being deleted, and what goes with it."""

    jobs: bool
    repo: bool


@dataclass(frozen=True, slots=True)
class Succession:
    """What is left to do of an update that begins a new commit tree."""

    old_salt: str
    """What was computed under it is forgotten; empty when the salt is kept."""
    branch: str
    """The output branch of the former version."""
    archive: str
    """The branch that keeps the former version's output; empty where the output goes on from it."""


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """One version of a pipeline."""

    spec: PipelineSpec
    id: str
    """32 hex digits, drawn when the pipeline is made."""
    version: int
    salt: str
    """32 hex digits: what was computed under another salt is computed again."""
    created_ns: int
    """Nanoseconds since the epoch."""
    deletion: Deletion | None = None
    succession: Succession | None = None
    stopped: bool = False
    """Whether it makes no jobs until it is started again."""
    given: bytes = b""
    """The request for this version, a CreatePipelineRequest of the wire; empty in records of former versions."""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """The merge of the output of all datums of a job that succeeded, which the daemon keeps for a later one."""

    tag: str
    input: InputSpec
    """What made the datums, without `from_commit`."""
    inputs: tuple[CommitRef, ...]
    """The commit that each atom of the input read."""
    total: int
    """How many datums there were."""
    stats_tag: str = ""
    """The merge of what is kept of how they went; empty where nothing is."""
    repeats: bool = False
    """Whether a datum that several members of a union have stands in it for each: once it did not."""

    def fits(self, job: JobRecord) -> bool:
        """Whether the datums of a job may be told by what differs."""
        return (
            self.tag.startswith(tag_prefix(job.salt))
            and self.input == without_starts(job.spec.input)
            and (self.repeats or not may_repeat(self.input))
        )


@dataclass(frozen=True, slots=True)
class ProgressRecord:
    """How far a pipeline is; rewritten together with the job that moves it."""

    cursors: tuple[str, ...] = ()
    """For each source the last commit that was looked at, or `from_commit`; empty before the first."""
    heads: tuple[str, ...] = ()
    """For each source its commit in the last set that a job was made for; none before the first."""
    counts: tuple[tuple[int, int], ...] = ()
    """How many jobs came to each final state: (state, count)."""
    merge: MergeRecord | None = None
    """What the next job begins with."""
    trouble: str = ""
    """Which job failed, and why, if none has succeeded since."""

    @classmethod
    def upgraded(cls, fields: dict[str, Any], _form: int) -> dict[str, Any]:
        """The fields of a record of form 1 as form 2 has them."""
        cursor = fields.pop("cursor", "")
        return {**fields, "cursors": [cursor]}

    def counted(self, state: JobState) -> tuple[tuple[int, int], ...]:
        """The counts once one more job has come to a final state."""
        counts = dict(self.counts)
        counts[state.value] = counts.get(state.value, 0) + 1
        return tuple(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Stats:
    """What datums cost."""

    download_ns: int = 0
    process_ns: int = 0
    upload_ns: int = 0
    download_bytes: int = 0
    upload_bytes: int = 0

    def __add__(self, other: Stats) -> Stats:
        return Stats(
            self.download_ns + other.download_ns,
            self.process_ns + other.process_ns,
            self.upload_ns + other.upload_ns,
            self.download_bytes + other.download_bytes,
            self.upload_bytes + other.upload_bytes,
        )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job: what it computes from and into, and how far it is."""

    id: str
    spec: PipelineSpec
    pipeline_id: str
    pipeline_version: int
    salt: str
    """The pipeline's; followed by a hyphen and the job's id where it computes something else."""
    inputs: tuple[CommitRef, ...]
    """The commit that each atom of the input reads."""
    started_ns: int
    state: JobState = JobState.STARTING
    output: CommitRef | None = None
    """The output commit, once it is started."""
    output_parent: str = ""
    """The finished commit that the output branch pointed at before; empty for none."""
    verdict: JobState | None = None
    """The final state that was decided on, while what it takes is being done."""
    reason: str = ""
    """Why it failed or was killed."""
    discard: bool = False
    """Whether its unfinished output commit goes, because nobody is to wait for it."""
    finished_ns: int = 0
    restarts: int = 0
    """How often the service began anew while the job was open."""
    total: int = 0
    """Datums of the input."""
    skipped: int = 0
    """Datums that were computed before this job began."""
    processed: int = 0
    """Datums that this job computed."""
    counted: bool = False
    """Whether `total` and `skipped` are known."""
    failed: str = ""
    """Id of the datum that made it fail, if one did."""
    requested: bool = False
    """Whether somebody asked for it, rather than a new set of commits."""
    stats_commit: CommitRef | None = None
    """Where it is kept how its datums went (`ppsd.engine.stats`)."""
    stats: Stats = field(default_factory=Stats)

    @classmethod
    def upgraded(cls, fields: dict[str, Any], _form: int) -> dict[str, Any]:
        """The fields of a record of form 1 as form 2 has them."""
        given = fields.pop("input")
        return {**fields, "inputs": [given]}

    @property
    def computes_alone(self) -> bool:
        """Whether it computes something else than its pipeline: then nothing of it is kept for other jobs."""
        return "-" in self.salt

    @property
    def provenance(self) -> tuple[CommitRef, ...]:
        """The input commits, each once."""
        return tuple(dict.fromkeys(self.inputs))

    @property
    def pipeline(self) -> str:
        return self.spec.name


def new_id() -> str:
    """32 random hex digits."""
    return secrets.token_hex(16)


_JOB_ID = re.compile("[0-9a-f]{32}")


class JobIds:
    """Draws job ids: 32 hex digits, of which the first 12 count milliseconds since the epoch and always ascend.

    `last` is the last that was drawn; what is no such id counts as none.
    """

    def __init__(self, last: str = "") -> None:
        self._last = int(last[:12], 16) if _JOB_ID.fullmatch(last) else 0

    def draw(self) -> str:
        """An id above all ids drawn before."""
        self._last = max(self._last + 1, time.time_ns() // 10**6)
        return f"{self._last:012x}{secrets.token_hex(10)}"


def pipeline_key(name: str) -> str:
    """Where a pipeline is kept."""
    return PIPELINES + name


def progress_key(name: str) -> str:
    """Where a pipeline's progress is kept."""
    return PROGRESS + name


def made_repo_key(name: str) -> str:
    """What says that a repo was made as a pipeline's output."""
    return MADE_REPOS + name


def clock_key(repo: str) -> str:
    """What says whose cron input a repo belongs to."""
    return CLOCKS + repo


def job_prefix(pipeline: str) -> str:
    """Where a pipeline's jobs are kept."""
    return f"{JOBS}{pipeline}/"


def job_key(pipeline: str, job_id: str) -> str:
    """Where a job is kept."""
    return job_prefix(pipeline) + job_id


def job_id_key(job_id: str) -> str:
    """What says whose job it is."""
    return JOB_IDS + job_id


def open_job_key(job_id: str) -> str:
    """What lists a job among those that are not at their end."""
    return OPEN_JOBS + job_id


def input_prefix(pipeline_id: str) -> str:
    """What lists the input commits of a pipeline that have had a job."""
    return f"{INPUTS}{pipeline_id}/"


def log_prefix(pipeline: str) -> str:
    """Where a pipeline's log is kept."""
    return f"{LOGS}{pipeline}/"


def set_key(commits: Sequence[str]) -> str:
    """What a set of input commits, one of each source, is listed as."""
    return "+".join(commits)


def todo_prefix(pipeline: str, job_id: str = "") -> str:
    """Where the datums that a job, or any job of a pipeline, had to compute are kept."""
    return f"{REMAINING}{pipeline}/" + (f"{job_id}/" if job_id else "")
