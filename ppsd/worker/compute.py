"""Computing one datum: show its inputs, run the command, store what it wrote."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import trio

from pachproto import pfs_pb2, pfsd_pb2, pps_pb2, ppsd_pb2
from pfsd.errors import PfsError, UnavailableError
from pfsd.model import treeobjects
from pfsd.names import paths
from pfsd.names.bytenames import shown_name
from pfsd.rpc import Stub
from pfsd.trees import entries
from pfsd.trees.entries import Chunk, DirEntry, Entry, FileEntry
from pfsfuse.client.daemon import Daemon
from pfsfuse.client.handing import HandedOutput
from pfsfuse.content.beside import SMALL_BYTES
from pfsfuse.job.jobview import JobInput, JobView
from ppsd.storage.datumcosts import to_wire
from ppsd.storage.grpccalls import Messages
from ppsd.storage.records import Stats
from ppsd.worker import account, output, resuming
from ppsd.worker.account import Tail
from ppsd.worker.places import Place
from ppsd.worker.runner import Finished
from ppsd.worker.treeuploads import TreeUploads
from ppsd.worker.userlog import UserLog

MOST_AT_ONCE = 8
"""So many files of the former datum, at most, are removed without a thread."""

MOST_EXPECTED_BYTES = 4 << 20
"""So much is fetched ahead of the datums that need it."""


class Computer:
    """Computes datums, one at a time, in a worker whose /pfs is `view` and whose /pfs/out is `scratch`."""

    def __init__(
        self,
        daemon: Daemon,
        view: JobView,
        place: Place,
        channel: grpc.Channel,
        trees: TreeUploads,
        scratch: str,
    ) -> None:
        self._daemon = daemon
        self._view = view
        self._place = place
        self._trees = trees
        self._objects = Stub(channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])
        self._messages = Messages()
        self._scratch = scratch
        self._times: dict[tuple[str, str], int] = {}
        self._told = ""
        """The job whose log has what the place lacks."""

    def expect(self, coming: Iterable[bytes]) -> None:
        """Begin to fetch what is likely to be shown soon: the small files among these entries, in one call for all."""
        chunks: list[Chunk] = []
        size = 0
        for data in coming:
            entry = entries.decode(data)
            if isinstance(entry, FileEntry) and entry.size <= SMALL_BYTES and size + entry.size <= MOST_EXPECTED_BYTES:
                chunks += entry.chunks
                size += entry.size
        self._view.content.chunks.prefetch(chunks)

    async def compute(self, assignment: ppsd_pb2.Assignment, log: UserLog) -> ppsd_pb2.Outcome:
        """Compute a datum. What is wrong with it is in the outcome's error.

        Raises UnavailableError when it is not the datum's fault: the daemon, or this worker, is broken.
        """
        began = time.monotonic_ns()
        if self._place.refused and self._told != assignment.job_id:
            self._told = assignment.job_id
            log.say(f"user code is not kept apart from this machine as it should be: {self._place.refused}")
        scratch = Path(self._scratch)
        try:
            await _empty(scratch)
        except OSError as failure:
            reason = f"what another datum left in /pfs/out can't be removed: {failure.strerror}"
            raise UnavailableError(reason) from failure
        shown_inputs = [await self._job_input(one) for one in assignment.inputs]
        restored = 0
        if assignment.former_tag:
            shown_inputs, restored = await self._go_on(assignment, shown_inputs)
        await self._view.show(shown_inputs)
        eager = self._view.eager_bytes() + restored
        shown = time.monotonic_ns()
        error = ""
        stored = pfsd_pb2.TreeInfo()
        ran = shown
        said = Tail()
        group = self._place.group
        kills = group.memory_kills()
        try:
            async with self._view.pipes.serving():
                finished = await self._run(assignment, log, said)
            ran = time.monotonic_ns()
            error = complaint(finished, assignment.transform)
            if error and group.memory_kills() > kills:
                allowed = group.memory_bytes()
                error += f": it took more than the {allowed} bytes of memory that resource_spec.memory allows"
            if not error:
                stored = await self._store_output(assignment)
        except UnavailableError:
            raise
        except PfsError as failure:
            error = str(failure)
        finally:
            await self._view.show([])
            for directory in self._place.emptied:
                with suppress(FileNotFoundError, ProcessLookupError):  # it went with the runner
                    await _empty(directory)
        # Eager inputs count as a whole: what the kernel had of them already can't be told from what was read.
        read = eager + self._view.pipes.streamed
        stats = Stats(shown - began, ran - shown, time.monotonic_ns() - ran, read, stored.bytes_written)
        if assignment.transform.debug:
            log.say(account.sentence(assignment, stats, error))
        outcome = ppsd_pb2.Outcome(lease=assignment.lease, error=error, stats=to_wire(stats))
        if assignment.stats_tag:
            output = await self._dir_entry(stored.root) if not error else None
            writes = account.writes(assignment, outcome, said.text(), output)
            request = pfsd_pb2.PutTreeRequest(tag=assignment.stats_tag, writes=writes, last=True)
            await self._trees.put(iter([request]))
        return outcome

    async def _dir_entry(self, root: bytes) -> DirEntry:
        content = self._view.content
        return await content.run(lambda: entries.dir_entry(content.nodes, root))

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

    async def _go_on(self, assignment: ppsd_pb2.Assignment, inputs: list[JobInput]) -> tuple[list[JobInput], int]:
        """Begin with a datum's former output: what is to be shown then, and how many bytes that output has.

        Where something of the former datum is gone, all is shown, and nothing is there to begin with.
        """
        content = self._view.content
        formers = [entries.decode(one.former_entry) for one in assignment.inputs]
        news = await resuming.news(content, inputs, formers)
        if news is None:
            return inputs, 0
        text = await self._messages.collect(
            self._objects.GetTag(pfs_pb2.Tag(name=assignment.former_tag)), lambda message: [message.value]
        )
        root = treeobjects.parse(b"".join(text), f"tag {assignment.former_tag}")
        try:
            return news, await resuming.restore(content, root, self._scratch)
        except resuming.NotRestoredError:
            await _empty(Path(self._scratch))
            return inputs, 0

    async def _time_of(self, repo: str, commit: str) -> int:
        """When a commit was finished."""
        known = self._times.get((repo, commit))
        if known is None:
            info: pfs_pb2.CommitInfo = (await self._daemon.commit_tree(repo, commit)).info
            known = info.finished.ToNanoseconds()
            self._times = {(repo, commit): known}
        return known

    async def _run(self, assignment: ppsd_pb2.Assignment, log: UserLog, said: Tail) -> Finished:
        def take(stream: int, data: bytes) -> None:
            log.feed(stream, data)
            said.feed(data)

        return await self._place.runner.run(
            list(assignment.transform.cmd),
            env={**self._place.env, **environment(assignment)},
            cwd=self._place.cwd,
            stdin=stdin_of(assignment.transform),
            on_output=take,
        )

    async def _store_output(self, assignment: ppsd_pb2.Assignment) -> pfsd_pb2.TreeInfo:
        """Store what is in the scratch directory as the tree with the assignment's tag."""
        token = trio.lowlevel.current_trio_token()

        def lookup(path: str) -> Entry | None:
            return trio.from_thread.run(self._view.lookup_path, path, trio_token=token)

        lazy = list(dict.fromkeys(one.name for one in assignment.inputs if one.lazy))
        place = self._place
        with HandedOutput(self._daemon.handing) as handed:
            requests = output.requests(
                assignment.tag, self._scratch, lookup, place.root, lazy, user=place.user, handed=handed
            )
            return await self._trees.put(requests)


def environment(assignment: ppsd_pb2.Assignment) -> dict[str, str]:
    """What a datum's command finds in its environment beside the worker's own."""
    found = dict(assignment.transform.env)
    found["PACH_JOB_ID"] = assignment.job_id
    found["PACH_OUTPUT_COMMIT_ID"] = assignment.output_commit.id
    for one in assignment.inputs:
        found[one.name] = f"/pfs/{one.name}" + ("" if one.path == "/" else os.fsdecode(shown_name(one.path.encode())))
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


async def _empty(directory: Path) -> None:
    if not empty_at_once(directory):
        await trio.to_thread.run_sync(empty_directory, directory)


def empty_directory(directory: Path) -> None:
    """Remove all that is in a directory, which stays itself: it is what is mounted. Blocks."""
    directory.chmod(0o777)
    for item in os.scandir(directory):
        if item.is_dir(follow_symlinks=False):
            shutil.rmtree(item.path, onerror=_allow_and_retry)
        else:
            os.unlink(item.path)


def empty_at_once(directory: Path) -> bool:
    """The same for a few files, which costs less than asking a thread for it; False where it takes more than that."""
    with os.scandir(directory) as items:
        found = list(islice(items, MOST_AT_ONCE + 1))
    if len(found) > MOST_AT_ONCE or any(item.is_dir(follow_symlinks=False) for item in found):
        return False
    directory.chmod(0o777)
    for item in found:
        os.unlink(item)
    return True


def _allow_and_retry(function: Any, path: str, _error: object) -> None:
    """Remove what user code has protected against its own user."""
    protected = False
    for directory in (os.path.dirname(path), path):
        mode = os.lstat(directory).st_mode
        if stat.S_ISDIR(mode):
            protected = protected or stat.S_IMODE(mode) & 0o700 != 0o700
            os.chmod(directory, 0o700)
    if function in (os.scandir, os.open, os.lstat):
        # What lies below may be protected too; what was not, and fails, fails again.
        shutil.rmtree(path, onerror=_allow_and_retry if protected else None)
    else:
        function(path)
