"""The life of a worker: one stream to the pipeline service, one datum at a time.

The trio loop serves /pfs, so nothing in this process may touch a path below /pfs but in a thread.
"""

from __future__ import annotations

import functools
import logging
import queue
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from pachproto import pfsd_pb2, ppsd_pb2
from pfsd.errors import CorruptError, StateError, UnavailableError
from pfsd.rpc import Stub
from pfsd.runtime.apart import reason_of
from pfsd.runtime.groups import ungrouped
from pfsd.runtime.requestids import request_id
from pfsfuse.client.daemon import Daemon
from pfsfuse.content.content import open_content
from pfsfuse.job.jobview import JobView
from ppsd.storage.grpccalls import Messages, open_channel
from ppsd.worker import places
from ppsd.worker.compute import Computer
from ppsd.worker.options import Options
from ppsd.worker.treeuploads import TreeUploads
from ppsd.worker.userlog import FLUSH_SECONDS, UserLog

logger = logging.getLogger(__name__)

KEEPALIVE_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]
FAREWELL_SECONDS = 5.0

SIGN_SECONDS = 2.0
"""How often a worker that computes something shows that it lives."""


def run(options: Options, trouble: str) -> None:
    """Work until SIGTERM. `trouble` says why the worker can't; then it only tells so.

    Raises UnavailableError when the service is gone, or the worker can't work.
    """
    trio.run(functools.partial(_main, options, trouble))


async def _main(options: Options, trouble: str) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, ungrouped():
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(end_on_signal)
            await _work(options, trouble)
            nursery.cancel_scope.cancel()


async def _work(options: Options, trouble: str) -> None:
    daemon = Daemon(options.address)
    try:
        with open_channel(options.address, KEEPALIVE_OPTIONS) as channel:
            async with AsyncExitStack() as stack:
                if not trouble:
                    content = await stack.enter_async_context(open_content(daemon))
                    view = JobView(content)
                    try:
                        place = await stack.enter_async_context(places.open_place(options, view))
                    except places.GoneError:  # another one is on its way
                        raise
                    except (UnavailableError, StateError) as error:
                        trouble = str(error)
                if trouble:
                    await _tell(channel, options, trouble)
                    raise UnavailableError(trouble)
                store = Stub(channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])
                trees = await stack.enter_async_context(TreeUploads.open(store.PutTrees))
                computer = Computer(daemon, view, place, channel, trees, str(options.scratch))
                await _serve(channel, options, computer)
    finally:
        daemon.close()


async def _tell(channel: Any, options: Options, trouble: str) -> None:
    """Tell the service why this worker can't work."""
    async with _stream(channel) as (outgoing, orders):
        outgoing.put(ppsd_pb2.FromWorker(hello=_hello(options), fatal=trouble))
        with trio.move_on_after(FAREWELL_SECONDS):
            async for _ in orders:
                pass


async def _serve(channel: Any, options: Options, computer: Computer) -> None:
    """Compute what is assigned, until the stream breaks."""
    async with _stream(channel) as (outgoing, orders):
        outgoing.put(ppsd_pb2.FromWorker(hello=_hello(options)))
        async with trio.open_nursery() as nursery:
            at_work = _AtWork(computer, outgoing)
            nursery.start_soon(at_work.attend)
            async for order in orders:
                if order.HasField("assignment"):
                    _expect(computer, order.assignment)
                    nursery.start_soon(at_work.compute, order.assignment)
                if order.cancel:
                    at_work.call_off(order.cancel)
            nursery.cancel_scope.cancel()
    raise UnavailableError("the pipeline service has ended the worker's stream")


def _expect(computer: Computer, assignment: ppsd_pb2.Assignment) -> None:
    try:
        computer.expect(assignment.coming)
    except CorruptError as error:  # whose datum it is tells of it
        logger.info("nothing is fetched ahead: %s", error)


class _AtWork:
    """The datum in hand."""

    def __init__(self, computer: Computer, outgoing: _Outgoing) -> None:
        self._computer = computer
        self._outgoing = outgoing
        self._lease = 0
        self._log: UserLog | None = None
        """Of the datum that is being computed."""
        self._begun = trio.Event()
        """Set while there is one."""
        self._scope = trio.CancelScope()

    async def compute(self, assignment: ppsd_pb2.Assignment) -> None:
        """Compute a datum and send its outcome; its log goes first."""
        request_id.set(assignment.job_id)
        self._lease, self._scope = assignment.lease, trio.CancelScope()
        outcome = ppsd_pb2.Outcome(lease=assignment.lease, error="it was called off")
        self._log = log = UserLog(assignment.job_id, assignment.datum_id, self._outgoing)
        self._begun.set()
        try:
            with self._scope:
                outcome = await self._computer.compute(assignment, log)
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (a defect is this datum's failure; the worker goes on)
            outcome.error = reason_of(error, f"datum {assignment.datum_id}")
        finally:
            self._log, self._begun = None, trio.Event()
            log.finish()
        self._outgoing.put(ppsd_pb2.FromWorker(outcome=outcome))

    async def attend(self) -> None:
        """While something is computed, send its log bit by bit, and signs of life.

        One task for all datums, because one for each costs more than most have to say; and in the loop on which
        everything depends, so that the signs end when it hangs.
        """
        shown = trio.current_time()
        while True:
            await self._begun.wait()
            await trio.sleep(FLUSH_SECONDS)
            if self._log is not None:
                self._log.flush()
                if trio.current_time() - shown >= SIGN_SECONDS:
                    shown = trio.current_time()
                    self._outgoing.put(ppsd_pb2.FromWorker())

    def call_off(self, lease: int) -> None:
        """Stop computing, if it is this lease's datum."""
        if lease == self._lease:
            self._scope.cancel()


class _Outgoing:
    """What goes to the service: a queue that gRPC empties in a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[ppsd_pb2.FromWorker | None] = queue.SimpleQueue()
        self.waiting_bytes = 0
        """Bytes of log lines that are not sent yet, about."""

    def put(self, message: ppsd_pb2.FromWorker) -> None:
        """Send a message; never waits."""
        self.waiting_bytes += message.ByteSize()
        self._queue.put(message)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[ppsd_pb2.FromWorker]:
        while (message := self._queue.get()) is not None:
            yield message
            self.waiting_bytes -= message.ByteSize()


@asynccontextmanager
async def _stream(channel: Any) -> AsyncIterator[tuple[_Outgoing, trio.MemoryReceiveChannel[Any]]]:
    outgoing = _Outgoing()
    stub = Stub(channel, ppsd_pb2.DESCRIPTOR.services_by_name["Workers"])
    try:
        async with Messages().open(stub.Work(iter(outgoing))) as orders:
            yield outgoing, orders
    finally:
        outgoing.end()


def _hello(options: Options) -> ppsd_pb2.Hello:
    return ppsd_pb2.Hello(pipeline=options.pipeline, worker_id=options.worker_id, salt=options.salt)
