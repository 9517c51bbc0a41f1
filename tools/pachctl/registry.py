"""The commands by name: which module holds each, and the line that the overview shows for it.

Kept apart from the modules so that the overview, and any one command, imports nothing of the others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One command of the overview."""

    name: str
    module: str
    """Module of this package whose `COMMANDS` holds the command."""
    summary: str


@dataclass(frozen=True)
class Group:
    """Commands that the overview shows together."""

    title: str
    entries: tuple[Entry, ...]


GROUPS: tuple[Group, ...] = (
    Group(
        "Repos",
        (
            Entry("create-repo", "repos", "Create a new repo."),
            Entry("inspect-repo", "repos", "Return info about a repo."),
            Entry("list-repo", "repos", "Return all repos."),
            Entry("delete-repo", "repos", "Delete a repo."),
        ),
    ),
    Group(
        "Commits and branches",
        (
            Entry("start-commit", "commits", "Start a new commit."),
            Entry("finish-commit", "commits", "Finish a started commit."),
            Entry("inspect-commit", "commits", "Return info about a commit."),
            Entry("list-commit", "commits", "Return the commits of a repo."),
            Entry("flush-commit", "commits", "Wait for what the specified commits cause."),
            Entry("subscribe-commit", "commits", "Print commits of a branch as they finish."),
            Entry("delete-commit", "commits", "Delete an unfinished commit."),
            Entry("list-branch", "branches", "Return all branches of a repo."),
            Entry("set-branch", "branches", "Set a commit and its ancestors to a branch."),
            Entry("delete-branch", "branches", "Delete a branch, while leaving the commits intact."),
        ),
    ),
    Group(
        "Files",
        (
            Entry("put-file", "files_put", "Put files into a commit."),
            Entry("get-file", "files_get", "Return the contents of a file or a directory."),
            Entry("inspect-file", "files", "Return info about a file."),
            Entry("list-file", "files", "Return the files in a directory."),
            Entry("glob-file", "files", "Return the files that match a pattern."),
            Entry("diff-file", "files", "Return what differs between two commits."),
            Entry("delete-file", "files", "Delete a file or a directory."),
            Entry("get-object", "objects", "Return the contents of an object."),
            Entry("get-tag", "objects", "Return the contents of a tag."),
        ),
    ),
    Group(
        "Pipelines and jobs",
        (
            Entry("create-pipeline", "pipelines", "Create pipelines from their specifications."),
            Entry("update-pipeline", "pipelines", "Update pipelines to new specifications."),
            Entry("run-pipeline", "pipelines", "Run a pipeline once."),
            Entry("stop-pipeline", "pipelines", "Stop a running pipeline."),
            Entry("start-pipeline", "pipelines", "Restart a stopped pipeline."),
            Entry("inspect-pipeline", "pipelines", "Return info about a pipeline."),
            Entry("list-pipeline", "pipelines", "Return info about all pipelines."),
            Entry("delete-pipeline", "pipelines", "Delete a pipeline."),
            Entry("inspect-job", "jobs", "Return info about a job."),
            Entry("list-job", "jobs", "Return info about jobs."),
            Entry("stop-job", "jobs", "Stop a job."),
            Entry("delete-job", "jobs", "Delete a job."),
            Entry("list-datum", "datums", "Return the datums of a job."),
            Entry("inspect-datum", "datums", "Return info about a datum."),
            Entry("restart-datum", "datums", "Begin anew a datum that is being computed."),
            Entry("get-logs", "jobs", "Return logs from a job."),
        ),
    ),
    Group(
        "Mounting",
        (
            Entry("mount", "mounts", "Mount the file system locally. This command blocks."),
            Entry("unmount", "mounts", "Unmount the file system."),
            Entry("inspect-cache", "mounts", "Return how the block cache of this machine fares."),
        ),
    ),
    Group(
        "Kubernetes",
        (
            Entry("deploy", "deploying", "Deploy pfsd on a Kubernetes cluster."),
            Entry("undeploy", "deploying", "Remove pfsd from a Kubernetes cluster."),
            Entry("port-forward", "forwarding", "Forward a local port to pfsd in a cluster; it blocks."),
        ),
    ),
    Group(
        "Everything",
        (
            Entry("version", "admin", "Return version information."),
            Entry("delete-all", "admin", "Delete everything."),
            Entry("garbage-collect", "upkeep", "Free what nothing refers to any more."),
            Entry("fsck", "upkeep", "Check what is stored, and repair it."),
            Entry("migrate", "upkeep", "Bring a root to the present on-disk format."),
        ),
    ),
    Group(
        "Topics",
        (
            Entry("repo", "topics", "Docs for repos."),
            Entry("commit", "topics", "Docs for commits."),
            Entry("file", "topics", "Docs for files."),
            Entry("job", "topics", "Docs for jobs."),
            Entry("pipeline", "topics", "Docs for pipelines."),
        ),
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for group in GROUPS for entry in group.entries}
