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
            Entry("create-repo", "repos.repos", "Create a new repo."),
            Entry("inspect-repo", "repos.repos", "Return info about a repo."),
            Entry("list-repo", "repos.repos", "Return all repos."),
            Entry("delete-repo", "repos.repos", "Delete a repo."),
        ),
    ),
    Group(
        "Commits and branches",
        (
            Entry("start-commit", "commits.commits", "Start a new commit."),
            Entry("finish-commit", "commits.commits", "Finish a started commit."),
            Entry("inspect-commit", "commits.commits", "Return info about a commit."),
            Entry("list-commit", "commits.commits", "Return the commits of a repo."),
            Entry("flush-commit", "commits.commits", "Wait for what the specified commits cause."),
            Entry("subscribe-commit", "commits.commits", "Print commits of a branch as they finish."),
            Entry("delete-commit", "commits.commits", "Delete an unfinished commit."),
            Entry("list-branch", "commits.branches", "Return all branches of a repo."),
            Entry("set-branch", "commits.branches", "Set a commit and its ancestors to a branch."),
            Entry("delete-branch", "commits.branches", "Delete a branch, while leaving the commits intact."),
        ),
    ),
    Group(
        "Files",
        (
            Entry("put-file", "files.files_put", "Put files into a commit."),
            Entry("get-file", "files.files_get", "Return the contents of a file or a directory."),
            Entry("inspect-file", "files.files", "Return info about a file."),
            Entry("list-file", "files.files", "Return the files in a directory."),
            Entry("glob-file", "files.files", "Return the files that match a pattern."),
            Entry("diff-file", "files.files", "Return what differs between two commits."),
            Entry("delete-file", "files.files", "Delete a file or a directory."),
            Entry("get-object", "files.objects", "Return the contents of an object."),
            Entry("get-tag", "files.objects", "Return the contents of a tag."),
        ),
    ),
    Group(
        "Pipelines and jobs",
        (
            Entry("create-pipeline", "pipelines.pipelines", "Create pipelines from their specifications."),
            Entry("update-pipeline", "pipelines.pipelines", "Update pipelines to new specifications."),
            Entry("run-pipeline", "pipelines.pipelines", "Run a pipeline once."),
            Entry("stop-pipeline", "pipelines.pipelines", "Stop a running pipeline."),
            Entry("start-pipeline", "pipelines.pipelines", "Restart a stopped pipeline."),
            Entry("inspect-pipeline", "pipelines.pipelines", "Return info about a pipeline."),
            Entry("list-pipeline", "pipelines.pipelines", "Return info about all pipelines."),
            Entry("delete-pipeline", "pipelines.pipelines", "Delete a pipeline."),
            Entry("inspect-job", "jobs.jobs", "Return info about a job."),
            Entry("list-job", "jobs.jobs", "Return info about jobs."),
            Entry("stop-job", "jobs.jobs", "Stop a job."),
            Entry("delete-job", "jobs.jobs", "Delete a job."),
            Entry("list-datum", "jobs.datums", "Return the datums of a job."),
            Entry("inspect-datum", "jobs.datums", "Return info about a datum."),
            Entry("restart-datum", "jobs.datums", "Start a datum that is being computed again."),
            Entry("get-logs", "jobs.jobs", "Return logs from a job."),
        ),
    ),
    Group(
        "Mounting",
        (
            Entry("mount", "cluster.mounts", "Mount the file system locally. This command blocks."),
            Entry("unmount", "cluster.mounts", "Unmount the file system."),
            Entry("inspect-cache", "cluster.mounts", "Return info about the block cache of this machine."),
        ),
    ),
    Group(
        "Kubernetes",
        (
            Entry("deploy", "cluster.deploying", "Deploy pfsd on a Kubernetes cluster."),
            Entry("undeploy", "cluster.deploying", "Remove pfsd from a Kubernetes cluster."),
            Entry("port-forward", "cluster.forwarding", "Forward a local port to pfsd in a cluster; it blocks."),
        ),
    ),
    Group(
        "Everything",
        (
            Entry("version", "cluster.admin", "Return version information."),
            Entry("delete-all", "cluster.admin", "Delete everything."),
            Entry("garbage-collect", "cluster.upkeep", "Free what nothing refers to any more."),
            Entry("fsck", "cluster.upkeep", "Check what is stored, and repair it."),
            Entry("migrate", "cluster.upkeep", "Bring a root to the present on-disk format."),
        ),
    ),
    Group(
        "Topics",
        (
            Entry("repo", "terminal.topics", "Docs for repos."),
            Entry("commit", "terminal.topics", "Docs for commits."),
            Entry("file", "terminal.topics", "Docs for files."),
            Entry("job", "terminal.topics", "Docs for jobs."),
            Entry("pipeline", "terminal.topics", "Docs for pipelines."),
        ),
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for group in GROUPS for entry in group.entries}
