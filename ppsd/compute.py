"""Computing one datum: show its inputs, run the command, store what it wrote."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import trio

from fuse.daemon import Daemon
from fuse.jobview import JobInput, JobView
from pachproto import pfs_pb2, pfsd_pb2, pps_pb2, ppsd_pb2
from pfsd import entries, paths
from pfsd.entries import Entry
from pfsd.errors import PfsError, UnavailableError
from pfsd.rpc import Stub
from ppsd import convert, output
from ppsd.filesystem import call
from ppsd.records import Stats
from ppsd.runner import Finished, Runner
from ppsd.userlog import UserLog


class Computer:
    """Computes datums, one at a time, in a worker whose /pfs is `view` and whose /pfs/out is `scratch`."""

    def __init__(self, daemon: Daemon, view: JobView, runner: Runner, channel: grpc.Channel, scratch: str) -> None:
        self._daemon = daemon
        self._view = view
        self._runner = runner
        self._store = Stub(channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
        self._scratch = scratch
        self._times: dict[tuple[str, str], int] = {}

    async def compute(self, assignment: ppsd_pb2.Assignment, log: UserLog) -> ppsd_pb2.Outcome:
        """Compute a datum. What is wrong with it is in the outcome's error.

        Raises UnavailableError when it is not the datum's fault: the daemon, or this worker, is broken.
        """
        began = time.monotonic_ns()
        await trio.to_thread.run_sync(empty_directory, Path(self._scratch))
        await self._view.show([await self._job_input(one) for one in assignment.inputs])
        eager = self._view.eager_bytes()
        shown = time.monotonic_ns()
        error = ""
        written = 0
        ran = shown
        try:
            async with self._view.pipes.serving():
                finished = await self._run(assignment, log)
            ran = time.monotonic_ns()
            error = complaint(finished, assignment.transform)
            if not error:
                written = await self._store_output(assignment.tag)
        except UnavailableError:
            raise
        except PfsError as failure:
            error = str(failure)
        finally:
            await self._view.show([])
        # Eager inputs count as a whole: what the kernel had of them already can't be told from what was read.
        read = eager + self._view.pipes.streamed
        stats = Stats(shown - began, ran - shown, time.monotonic_ns() - ran, read, written)
        return ppsd_pb2.Outcome(lease=assignment.lease, error=error, stats=convert.stats_to_wire(stats))

    async def _job_input(self, one: ppsd_pb2.DatumInput) -> JobInput:
        repo, commit = one.commit.repo.name, one.commit.id
        return JobInput(
            name=one.name,
            repo=repo,
            commit=commit,
            time_ns=await self._time_of(repo, commit),
            path=paths.parse(one.path),
            entry=entries.decode(one.entry),
            lazy=one.lazy,
        )

    async def _time_of(self, repo: str, commit: str) -> int:
        """When a commit was finished."""
        known = self._times.get((repo, commit))
        if known is None:
            info: pfs_pb2.CommitInfo = (await self._daemon.commit_tree(repo, commit)).info
            known = info.finished.ToNanoseconds()
            self._times = {(repo, commit): known}
        return known

    async def _run(self, assignment: ppsd_pb2.Assignment, log: UserLog) -> Finished:
        return await self._runner.run(
            list(assignment.transform.cmd),
            env={**os.environ, **environment(assignment)},
            cwd="/",
            stdin=stdin_of(assignment.transform),
            on_output=log.feed,
        )

    async def _store_output(self, tag: str) -> int:
        """Store what is in the scratch directory as the tree `tag`; returns how many bytes that took."""
        failures: list[BaseException] = []
        token = trio.lowlevel.current_trio_token()

        def lookup(path: str) -> Entry | None:
            return trio.from_thread.run(self._view.lookup_path, path, trio_token=token)

        def requests() -> Iterator[pfsd_pb2.PutTreeRequest]:
            # gRPC takes these in a thread of its own and says of an exception only that there was one.
            try:
                yield from output.requests(tag, self._scratch, lookup)
            except BaseException as error:
                failures.append(error)
                raise

        try:
            info: pfsd_pb2.TreeInfo = await call(self._store.PutTree, requests())
        except PfsError:
            if failures and isinstance(failures[0], Exception):
                raise failures[0] from None
            raise
        return info.bytes_written


def environment(assignment: ppsd_pb2.Assignment) -> dict[str, str]:
    """What a datum's command finds in its environment beside the worker's own."""
    found = dict(assignment.transform.env)
    found["PACH_JOB_ID"] = assignment.job_id
    found["PACH_OUTPUT_COMMIT_ID"] = assignment.output_commit.id
    for one in assignment.inputs:
        found[one.name] = f"/pfs/{one.name}" + ("" if one.path == "/" else one.path)
        found[f"{one.name}_COMMIT"] = one.commit.id
    return found


def stdin_of(transform: pps_pb2.Transform) -> bytes:
    """A command's standard input: its lines, each with a newline."""
    return "".join(f"{line}\n" for line in transform.stdin).encode()


def complaint(finished: Finished, transform: pps_pb2.Transform) -> str:
    """Why a command that ended counts as failed; empty when it succeeded."""
    name = transform.cmd[0]
    if finished.error is not None:
        return f"command {name!r} can't be started: {finished.error}"
    if finished.signal is not None:
        return f"command {name!r} was killed by signal {finished.signal}"
    if finished.exit_code == 0 or finished.exit_code in transform.accept_return_code:
        return ""
    return f"command {name!r} ended with exit status {finished.exit_code}"


def empty_directory(directory: Path) -> None:
    """Remove all that is in a directory, which stays itself: it is what is mounted. Blocks."""
    directory.chmod(0o777)
    for item in os.scandir(directory):
        if item.is_dir(follow_symlinks=False):
            shutil.rmtree(item.path, onerror=_allow_and_retry)
        else:
            os.unlink(item.path)


def _allow_and_retry(function: Any, path: str, _error: object) -> None:
    """Remove what user code has protected against its own user."""
    for directory in (os.path.dirname(path), path):
        if stat.S_ISDIR(os.lstat(directory).st_mode):
            os.chmod(directory, 0o700)
    if function in (os.scandir, os.open, os.lstat):
        shutil.rmtree(path)
    else:
        function(path)
