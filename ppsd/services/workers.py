"""`ppsd.Workers`: the streams of the workers. Runs in the asyncio thread and hands over to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import trio

from pachproto import ppsd_pb2
from pfsd.bridge import Bridge, Send
from pfsd.errors import InvalidError, UnavailableError
from ppsd.engine.engine import Engine
from ppsd.engine.pipelines import Pipeline
from ppsd.engine.pool import Session
from ppsd.services import convert

logger = logging.getLogger(__name__)


class WorkersService:
    """The method of `ppsd.Workers`."""

    def __init__(self, bridge: Bridge, engine: Engine) -> None:
        self._bridge = bridge
        self._engine = engine

    async def Work(
        self, requests: AsyncIterator[ppsd_pb2.FromWorker], context: Any
    ) -> AsyncIterator[ppsd_pb2.ToWorker]:
        first = await anext(requests, None)
        if first is None or not first.HasField("hello"):
            raise InvalidError("a worker's first message has to be its hello")
        if first.fatal:
            await self._bridge.in_trio(
                self._engine.worker_hopeless, first.hello.pipeline, first.hello.salt, first.fatal
            )
            return
        visit = _Visit(self._engine, first.hello)
        reader = asyncio.ensure_future(self._read(requests, visit))
        context.add_done_callback(lambda _: reader.cancel())
        try:
            async for order in self._bridge.in_trio_stream(visit.attend):
                yield order
            if visit.failure is not None:
                raise visit.failure
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[ppsd_pb2.FromWorker], visit: _Visit) -> None:
        """Hand over what the worker sends; when nothing more comes, or it can't be taken in, its visit is over."""
        try:
            async for message in requests:
                await self._bridge.in_trio(visit.receive, message)
        except Exception as error:  # noqa: BLE001 (the call ends with it)
            visit.failure = error
        finally:
            try:
                await self._bridge.in_trio(visit.end)
            except UnavailableError as error:  # the service ends, and all visits with it
                logger.info("worker %s was not seen off: %s", visit.worker_id, error)


class _Visit:
    """A worker's stream, seen from the trio thread."""

    def __init__(self, engine: Engine, hello: ppsd_pb2.Hello) -> None:
        self._engine = engine
        self._hello = hello
        self.worker_id = hello.worker_id
        self.failure: Exception | None = None
        """Why what it sent could not be taken in."""
        self._session = Session(hello.worker_id, hello.notice)
        self._joined = trio.Event()
        self._pipeline: Pipeline | None = None

    async def attend(self, send: Send) -> None:
        """Pass on orders until the visit ends."""
        try:
            self._pipeline = await self._engine.join(self._session, self._hello.pipeline, self._hello.salt)
            self._joined.set()
            async for order in self._session.orders:
                await send(convert.order(order))
        finally:
            await self.end()

    async def receive(self, message: ppsd_pb2.FromWorker) -> None:
        """Take in a message: its log lines first, for they belong to the datum whose outcome it may carry."""
        await self._joined.wait()
        self._session.silence = 0
        pipeline = self._pipeline
        assert pipeline is not None
        if message.log:
            await self._engine.take_lines(self._session, pipeline, [convert.line(sent) for sent in message.log])
        if message.HasField("outcome"):
            sent = message.outcome
            self._engine.settle(self._session, pipeline, sent.lease, convert.outcome(sent))
        if message.fatal:
            await self._engine.worker_hopeless(self._hello.pipeline, self._hello.salt, message.fatal)

    async def end(self) -> None:
        """The worker is gone; a second time does nothing."""
        if self._pipeline is not None:
            self._engine.leave(self._session, self._pipeline)
        self._session.close()
