"""Pipelines' logs: kept through the daemon's records, in batches, the oldest dropped beyond a limit.

A batch is kept under `pps/logs/NAME/NUMBER` (16 hex digits, ascending) as JSON: `{"v": 1, "lines": [...]}`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from pfsd.errors import CorruptError, PfsError, UnavailableError
from pfsd.runtime.apart import reason_of
from ppsd.storage import codec, records
from ppsd.storage.filesystem import FileSystem
from ppsd.storage.records import FORM

logger = logging.getLogger(__name__)

MAX_LINES = 10_000
"""Lines kept of a pipeline."""
MAX_BYTES = 10 << 20
"""Bytes of batches kept of a pipeline."""
BATCH_LINES = 500
BATCH_BYTES = 64 << 10
FLUSH_SECONDS = 0.5
MAX_LINE_BYTES = 16 << 10
"""A longer line is kept in pieces of this size."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log."""

    time_ns: int
    message: str
    job_id: str = ""
    worker_id: str = ""
    datum_id: str = ""
    data: tuple[tuple[str, bytes], ...] = ()
    """The datum's input files: path and content hash."""
    user: bool = False
    """Whether user code printed it."""
    master: bool = False
    """Whether the pipeline service itself says it."""


@dataclass(frozen=True, slots=True)
class _Batch:
    lines: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A batch that is stored."""

    number: int
    lines: int
    size: int


class _PipelineLog:
    """One pipeline's log: the lines not stored yet, and which batches are."""

    def __init__(self) -> None:
        self.waiting: list[LogLine] = []
        self.waiting_bytes = 0
        self.kept: deque[_Kept] | None = None
        """None until it is read."""
        self.lock = trio.Lock()
        self.grown = trio.Event()
        """Set, and replaced by another one, when a batch has been stored."""

    def over(self) -> Iterator[_Kept]:
        """Take out the oldest batches beyond the limits."""
        kept = self.kept or deque()
        lines, size = sum(batch.lines for batch in kept), sum(batch.size for batch in kept)
        while len(kept) > 1 and (lines > MAX_LINES or size > MAX_BYTES):
            oldest = kept.popleft()
            lines, size = lines - oldest.lines, size - oldest.size
            yield oldest


def pieces(message: str) -> Iterator[str]:
    """`message` in pieces of at most `MAX_LINE_BYTES` bytes."""
    data = message.encode(errors="replace")
    if len(data) <= MAX_LINE_BYTES:
        yield data.decode()
        return
    for at in range(0, len(data), MAX_LINE_BYTES):
        yield data[at : at + MAX_LINE_BYTES].decode(errors="replace")


class Logs:
    """The logs of all pipelines. `run` stores what is added."""

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._logs: dict[str, _PipelineLog] = {}
        self._wake = trio.Event()
        self._closed = False

    def close(self) -> None:
        """Turn away all who follow a log: what comes will not be seen here."""
        self._closed = True
        for log in self._logs.values():
            log.grown.set()

    def add(self, pipeline: str, line: LogLine) -> None:
        """Take a line in; it is stored within `FLUSH_SECONDS`. Never waits."""
        log = self._logs.setdefault(pipeline, _PipelineLog())
        log.waiting.append(line)
        log.waiting_bytes += len(line.message)
        self._wake.set()

    async def room(self, pipeline: str) -> None:
        """Wait until what was added to a log is stored, if it is much: the brake on a flood of lines."""
        log = self._logs.get(pipeline)
        if log is not None and (log.waiting_bytes >= BATCH_BYTES or len(log.waiting) >= BATCH_LINES):
            await self._store(pipeline, log)

    async def run(self) -> None:
        """Store lines as they come, for ever."""
        while True:
            await self._wake.wait()
            await trio.sleep(FLUSH_SECONDS)
            self._wake = trio.Event()
            for pipeline in list(self._logs):
                try:
                    await self.flush(pipeline)
                except PfsError as error:
                    logger.warning("log lines of pipeline %s are not stored yet: %s", pipeline, error)
                    self._wake.set()
                except Exception as error:  # noqa: BLE001 (the lines at fault go, all others stay)
                    reason_of(error, f"storing log lines of pipeline {pipeline}")
                    self._logs.pop(pipeline)

    async def flush(self, pipeline: str) -> None:
        """Store what was added to a log so far."""
        log = self._logs.get(pipeline)
        if log is not None and log.waiting:
            await self._store(pipeline, log)

    async def _store(self, pipeline: str, log: _PipelineLog) -> None:
        async with log.lock:
            kept = log.kept
            if kept is None:
                kept = log.kept = deque(kept_batch for kept_batch, _ in await self._stored(pipeline))
            while log.waiting:
                lines = tuple(log.waiting[:BATCH_LINES])
                data = codec.dump(_Batch(lines), FORM)
                batch = _Kept(kept[-1].number + 1 if kept else 0, len(lines), len(data))
                del log.waiting[: len(lines)]
                log.waiting_bytes -= sum(len(line.message) for line in lines)
                kept.append(batch)
                gone = [_key(pipeline, old.number) for old in log.over()]
                try:
                    await self._files.write_records({_key(pipeline, batch.number): data}, gone, sync=False)
                except PfsError:
                    log.kept = None  # what is stored is not known: read it again
                    log.waiting[:0] = lines
                    log.waiting_bytes += sum(len(line.message) for line in lines)
                    raise
                log.grown.set()
                log.grown = trio.Event()

    async def read(self, pipeline: str, over: trio.Event, take: Callable[[Sequence[LogLine]], Awaitable[None]]) -> None:
        """Give `take` the lines kept of a pipeline, oldest first, then those that come, until `over`."""
        former, last = None, ""
        while True:
            log = self._logs.setdefault(pipeline, _PipelineLog())
            if log is not former:  # at first, or since the log was forgotten: its batches are numbered anew
                former, last = log, ""
            is_over, grown = over.is_set(), log.grown
            await self.flush(pipeline)
            for batch, lines in await self._stored(pipeline, last):
                last = _key(pipeline, batch.number)
                await take(lines.lines)
            if is_over:
                return
            await _either(grown, over)
            if self._closed:
                raise UnavailableError("the pipeline service is stopping: ask again")

    async def forget(self, pipeline: str) -> None:
        """Remove a pipeline's log."""
        log = self._logs.pop(pipeline, None)
        if log is not None:
            log.waiting.clear()
            log.grown.set()
        await self._files.write_records({}, (), [records.log_prefix(pipeline)])

    async def _stored(self, pipeline: str, after: str = "") -> list[tuple[_Kept, _Batch]]:
        prefix = records.log_prefix(pipeline)
        found = []
        for key, data in await self._files.scan_records(prefix, after):
            try:
                batch = codec.load(_Batch, data, FORM)
                found.append((_Kept(int(key.removeprefix(prefix), 16), len(batch.lines), len(data)), batch))
            except (CorruptError, ValueError) as error:
                logger.warning("log lines %s are passed over: %s", key, error)
        return found


async def _either(one: trio.Event, other: trio.Event) -> None:
    """Wait for one of two events."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)


def _key(pipeline: str, number: int) -> str:
    return f"{records.log_prefix(pipeline)}{number:016x}"
