"""How much a daemon holds, for the question whether to delete it."""

from __future__ import annotations

from pachctl.terminal import format
from pachctl.terminal.connection import Daemon, UnimplementedError
from pachproto import pfs_pb2


def of_repos(daemon: Daemon) -> str:
    """Its repos, their commits and bytes; raises PfsError."""
    with daemon.errors():
        infos = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info
        commits = sum(
            len(daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=info.repo)).commit_info) for info in infos
        )
    size = format.size(sum(info.size_bytes for info in infos))
    return f"{_count(len(infos), 'repo')} with {_count(commits, 'commit')} ({size})"


def of_pipelines(daemon: Daemon) -> str:
    """Its pipelines and jobs; empty where it has no pipeline service. Raises PfsError."""
    from pachproto import pps_pb2  # who asks of repos alone starts sooner without it

    try:
        with daemon.errors():
            pipelines = len(daemon.pps.ListPipeline(pps_pb2.ListPipelineRequest()).pipeline_info)
            jobs = len(daemon.pps.ListJob(pps_pb2.ListJobRequest()).job_info)
    except UnimplementedError:
        return ""
    return f"{_count(pipelines, 'pipeline')} and {_count(jobs, 'job')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
