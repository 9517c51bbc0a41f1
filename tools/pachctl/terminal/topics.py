"""The short texts about repos, commits, files, jobs and pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command


@dataclass(frozen=True)
class _Topic:
    name: str
    text: str


_TOPICS = (
    _Topic(
        "repo",
        """\
Docs for repos.

Repos, short for repositories, are the top level of all data: each holds one kind of it, such as the
pictures from one camera, and the history of how it came to be.

Repos are created with create-repo.""",
    ),
    _Topic(
        "commit",
        """\
Docs for commits.

Commits are atomic changes of a repo's content. Making one takes three steps:
- start it with start-commit
- write files to it with put-file
- finish it with finish-commit

put-file -c does all three. A commit that is finished never changes and is safely stored; one that is not
can still be deleted with delete-commit. A commit holds all that its parent had, with its own changes over
it. A branch is a name that moves on with each commit started on it, and is accepted wherever a commit is.""",
    ),
    _Topic(
        "file",
        """\
Docs for files.

Files are what commits consist of. They are written to commits that are started and not finished, with
put-file, and read with get-file, or with any program once the file system is mounted with mount.""",
    ),
    _Topic(
        "job",
        """\
Docs for jobs.

A job is one run of a pipeline over finished commits of its inputs. Its result is a commit in the
pipeline's repo, which finishes when the job succeeds and stays unfinished when it fails. list-job and
inspect-job show jobs, get-logs what they printed.""",
    ),
    _Topic(
        "pipeline",
        """\
Docs for pipelines.

A pipeline runs a program on the commits of repos: on those that are there when it is created, and on each
new one as it finishes, in a job of its own. Creating a pipeline also creates the repo of the same name in
which the results of its jobs are committed.

Pipelines are created with create-pipeline.""",
    ),
)


def _printer(text: str) -> Callable[[Arguments], None]:
    def run(arguments: Arguments) -> None:
        print(format.filled(text))

    return run


COMMANDS = {
    topic.name: Command(
        run=_printer(topic.text),
        description=topic.text,
        examples=(f"pachctl {topic.name}",),
    )
    for topic in _TOPICS
}
