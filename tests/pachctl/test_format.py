"""The words and columns of pachctl, against lines recorded from Pachyderm 1.5.3's own client."""

from __future__ import annotations

import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pachctl.commits import branches, commits
from pachctl.files import files
from pachctl.jobs import jobs
from pachctl.pipelines import pipelines
from pachctl.repos import repos
from pachctl.terminal import format
from pachctl.terminal.output import as_json
from pachproto import pfs_pb2, pps_pb2

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

MASTER = "aeebff4dc3174e7f98c7faac0d9a84f5"
PARENT = "e7b669bcaa354ed688cbb1fe3b19ceb3"


def before_now(seconds: float) -> Timestamp:
    moment = time.time_ns() - int(seconds * SECOND)
    return Timestamp(seconds=moment // SECOND, nanos=moment % SECOND)


def commit(commit_id: str, repo: str = "images") -> pfs_pb2.Commit:
    return pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=commit_id)


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (-5 * SECOND, "Less than a second"),
        (0, "Less than a second"),
        (SECOND - 1, "Less than a second"),
        (SECOND, "1 second"),
        (12 * SECOND, "12 seconds"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (51 * MINUTE, "51 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 31 * MINUTE, "2 hours"),
        (3 * HOUR, "3 hours"),
        (36 * HOUR, "36 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY + 5 * HOUR, "13 days"),
        (14 * DAY, "2 weeks"),
        (21 * DAY, "3 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (24 * 30 * DAY, "24 months"),
        (3 * 365 * DAY, "3 years"),
    ],
)
def test_durations_are_in_words(nanoseconds: int, words: str) -> None:
    assert format.duration(nanoseconds) == words
    assert format.ago(nanoseconds) == f"{words} ago"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (43, "43B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (58644, "57.27KiB"),
        (22753, "22.22KiB"),
        (1 << 20, "1MiB"),
        (70_000_000, "66.76MiB"),
        (1 << 62, "4EiB"),
    ],
)
def test_sizes_have_four_digits_and_a_binary_unit(count: int, text: str) -> None:
    assert format.size(count) == text


def test_a_repo_older_than_a_second_has_columns_of_20() -> None:
    info = pfs_pb2.RepoInfo(repo=pfs_pb2.Repo(name="images"), created=before_now(1.2), size_bytes=43)
    assert format.table([repos.HEADER, repos.row(info)]) == [
        "NAME                CREATED             SIZE",
        "images              1 second ago        43B",
    ]


def test_a_column_grows_with_its_longest_cell() -> None:
    info = pfs_pb2.RepoInfo(repo=pfs_pb2.Repo(name="images"), created=before_now(0))
    assert format.table([repos.HEADER, repos.row(info)]) == [
        "NAME                CREATED                  SIZE",
        "images              Less than a second ago   0B",
    ]


def test_a_repo_inspected() -> None:
    info = pfs_pb2.RepoInfo(
        repo=pfs_pb2.Repo(name="images"), created=before_now(1.2), size_bytes=43, description="Sample pictures"
    )
    assert repos.block(info) == [
        "Name: images",
        "Description: Sample pictures",
        "Created: 1 second ago",
        "Size: 43B",
    ]


def test_commits_finished_open_and_without_parent() -> None:
    now = before_now(0)
    last = pfs_pb2.CommitInfo(
        commit=commit(MASTER), parent_commit=commit(PARENT), started=now, finished=now, size_bytes=39
    )
    assert format.table([commits.HEADER, commits.row(last)]) == [
        "REPO                ID                                 PARENT                             "
        "STARTED                  DURATION             SIZE",
        "images              aeebff4dc3174e7f98c7faac0d9a84f5   e7b669bcaa354ed688cbb1fe3b19ceb3   "
        "Less than a second ago   Less than a second   39B",
    ]
    unfinished = pfs_pb2.CommitInfo(commit=commit(MASTER), parent_commit=commit(PARENT), started=now)
    assert format.table([commits.HEADER, commits.row(unfinished)]) == [
        "REPO                ID                                 PARENT                             "
        "STARTED                  DURATION            SIZE",
        "images              aeebff4dc3174e7f98c7faac0d9a84f5   e7b669bcaa354ed688cbb1fe3b19ceb3   "
        "Less than a second ago   -                   -",
    ]
    first = pfs_pb2.CommitInfo(commit=commit(PARENT), started=now)
    assert commits.row(first)[2] == "<none>"


def test_a_commit_inspected() -> None:
    info = pfs_pb2.CommitInfo(commit=commit(MASTER), parent_commit=commit(PARENT), started=before_now(0))
    assert commits.block(info) == [
        f"Commit: images/{MASTER}",
        f"Parent: {PARENT}",
        "Started: Less than a second ago",
        "Size: 0B",
    ]
    info.finished.CopyFrom(before_now(0))
    info.size_bytes = 39
    info.provenance.extend([commit(PARENT, "raw"), commit(MASTER, "model")])
    assert commits.block(info)[3:] == [
        "Finished: Less than a second ago",
        "Size: 39B",
        f"Provenance:  raw/{PARENT}  model/{MASTER}",
    ]


def test_branches() -> None:
    info = pfs_pb2.BranchInfo(name="master", head=commit(MASTER))
    assert format.table([branches.HEADER, branches.row(info)]) == [
        "BRANCH              HEAD",
        f"master              {MASTER}",
    ]


def test_files_and_directories() -> None:
    infos = [
        pfs_pb2.FileInfo(file=pfs_pb2.File(path="clidir/a.txt"), file_type=pfs_pb2.FILE, size_bytes=4),
        pfs_pb2.FileInfo(file=pfs_pb2.File(path="clidir/sub"), file_type=pfs_pb2.DIR, size_bytes=4),
    ]
    assert format.table([files.HEADER, *map(files.row, infos)]) == [
        "NAME                TYPE                SIZE",
        "clidir/a.txt        file                4B",
        "clidir/sub          dir                 4B",
    ]


def test_a_directory_inspected_lists_its_children() -> None:
    info = pfs_pb2.FileInfo(
        file=pfs_pb2.File(path="rows"),
        file_type=pfs_pb2.DIR,
        size_bytes=21,
        children=["0000000000000000", "0000000000000001"],
    )
    assert files.block(info) == [
        "Path: rows",
        "Type: dir",
        "Size: 21B",
        "Children:  0000000000000000  0000000000000001",
    ]
    info = pfs_pb2.FileInfo(file=pfs_pb2.File(path="greeting"), file_type=pfs_pb2.FILE, size_bytes=6)
    assert files.block(info) == ["Path: greeting", "Type: file", "Size: 6B", "Children:"]


def test_names_that_would_break_a_line_are_escaped() -> None:
    info = pfs_pb2.FileInfo(file=pfs_pb2.File(path="a\nb\tc\x1b[2Jü"), file_type=pfs_pb2.FILE)
    (_, line) = format.table([files.HEADER, files.row(info)])
    assert line == "a\\nb\\tc\\x1b[2Jü     file                0B"


def test_jobs_are_set_tight() -> None:
    assert format.table([jobs.HEADER], min_width=0, padding=1) == [
        "ID OUTPUT COMMIT STARTED DURATION RESTART PROGRESS DL UL STATE"
    ]
    info = pps_pb2.JobInfo(
        job=pps_pb2.Job(id="1b2c"),
        output_commit=commit(MASTER, "edges"),
        started=before_now(120),
        data_processed=2,
        data_skipped=1,
        data_total=5,
        stats=pps_pb2.ProcessStats(download_bytes=58644),
        state=pps_pb2.JOB_RUNNING,
    )
    assert format.table([jobs.HEADER, jobs.row(info)], min_width=0, padding=1)[1] == (
        f"1b2c edges/{MASTER} 2 minutes ago -        0       2 + 1 / 5 57.27KiB 0B running"
    )
    info.ClearField("output_commit")
    info.finished.CopyFrom(info.started)
    info.state = pps_pb2.JOB_KILLED
    assert jobs.row(info)[1] == "-"
    assert jobs.row(info)[3] == "Less than a second"
    assert jobs.row(info)[-1] == "killed"


def test_a_job_inspected_shows_its_states_and_its_transform() -> None:
    info = pps_pb2.JobInfo(
        job=pps_pb2.Job(id="1b2c"),
        pipeline=pps_pb2.Pipeline(name="edges"),
        transform=pps_pb2.Transform(cmd=["python3", "/edges.py"], accept_return_code=[3]),
        started=before_now(5.5),
        state=pps_pb2.JOB_STARTING,
    )
    lines = jobs.block(info)
    assert lines[:3] == ["ID: 1b2c", "Pipeline: edges", "Started: 5 seconds ago"]
    assert "State: starting" in lines
    assert "Progress: 0 + 0 / 0" in lines
    assert '"/edges.py"' in lines[lines.index("Transform:") + 1]
    assert not any(line.startswith(("Output Commit", "Duration")) for line in lines)


def test_pipelines_show_their_input_in_short() -> None:
    atoms = [pps_pb2.Input(atom=pps_pb2.AtomInput(repo=name, glob="/*")) for name in ("images", "models")]
    info = pps_pb2.PipelineInfo(
        pipeline=pps_pb2.Pipeline(name="edges"),
        input=atoms[0],
        output_branch="master",
        created_at=before_now(120),
        state=pps_pb2.PIPELINE_RUNNING,
    )
    assert format.table([pipelines.HEADER, pipelines.row(info)]) == [
        "NAME                INPUT               OUTPUT              CREATED             STATE",
        "edges               images:/*           edges/master        2 minutes ago       running",
    ]
    cross = pps_pb2.Input(cross=[atoms[0], pps_pb2.Input(union=atoms)])
    assert pipelines.shorthand(cross) == "(images:/* \N{VECTOR OR CROSS PRODUCT} (images:/* \N{UNION} models:/*))"


def test_a_pipeline_of_the_old_form_shows_its_inputs() -> None:
    inputs = [pps_pb2.PipelineInput(name=name, repo=pfs_pb2.Repo(name=name), glob="/") for name in "ab"]
    info = pps_pb2.PipelineInfo(pipeline=pps_pb2.Pipeline(name="joined"), inputs=inputs)
    assert pipelines.row(info)[1] == "(a:/ \N{VECTOR OR CROSS PRODUCT} b:/)"


def test_a_pipeline_inspected_counts_its_jobs() -> None:
    info = pps_pb2.PipelineInfo(
        pipeline=pps_pb2.Pipeline(name="edges"),
        recent_error="no such image",
        parallelism_spec=pps_pb2.ParallelismSpec(constant=4),
        job_counts={pps_pb2.JOB_SUCCESS: 2},
    )
    lines = pipelines.block(info)
    assert lines[0] == "Name: edges"
    assert "Recent Error: no such image" in lines
    assert "Parallelism Spec: constant: 4" in lines
    assert lines[-1] == "starting: 0  running: 0  failure: 0  success: 2  killed: 0"


def test_raw_messages_are_in_the_json_mapping() -> None:
    info = pfs_pb2.RepoInfo(
        repo=pfs_pb2.Repo(name="images"),
        created=Timestamp(seconds=1795399736, nanos=809340625),
        size_bytes=43,
        description="Sample pictures",
    )
    assert as_json(info) == (
        '{\n  "repo": {\n    "name": "images"\n  },\n  "created": "2026-11-23T02:08:56.809340625Z",\n'
        '  "sizeBytes": "43",\n  "description": "Sample pictures"\n}'
    )
