"""Pipelines' logs: kept through the daemon's records, in batches, the oldest dropped beyond a limit.

A batch is kept under `pps/logs/NAME/NUMBER` (16 hex digits, ascending) as JSON: `{"v": 1, "lines": [...]}`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from pfsd.errors import PfsError
from ppsd import codec, records
from ppsd.filesystem import FileSystem
from ppsd.records import FORM

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

    async def read(self, pipeline: str) -> list[LogLine]:
        """All lines kept of a pipeline, oldest first."""
        await self.flush(pipeline)
        return [line for _, batch in await self._stored(pipeline) for line in batch.lines]

    async def forget(self, pipeline: str) -> None:
        """Remove a pipeline's log."""
        log = self._logs.pop(pipeline, None)
        if log is not None:
            log.waiting.clear()
        await self._files.write_records({}, (), [records.log_prefix(pipeline)])

    async def _stored(self, pipeline: str) -> list[tuple[_Kept, _Batch]]:
        prefix = records.log_prefix(pipeline)
        found = []
        for key, data in await self._files.scan_records(prefix):
            batch = codec.load(_Batch, data, FORM)
            found.append((_Kept(int(key.removeprefix(prefix), 16), len(batch.lines), len(data)), batch))
        return found


def _key(pipeline: str, number: int) -> str:
    return f"{records.log_prefix(pipeline)}{number:016x}"
