"""`--http`: what watches over the daemon asks here whether it lives, whether it is ready, and for its figures."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pfsd.errors import InvalidError, UnavailableError
from pfsd.runtime.groups import ungrouped

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
IDLE_SECONDS = 10
"""After which a connection on which nothing comes is closed."""

log = logging.getLogger(__name__)


def application(trouble: Callable[[], str], metrics: Callable[[], Awaitable[bytes]]) -> Starlette:
    """The pages. `trouble` says why the daemon is not ready, or nothing; `metrics` gives Prometheus's text."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        said = trouble()
        return PlainTextResponse(f"{said or 'ready'}\n", 503 if said else 200)

    async def told(_: Request) -> Response:
        return Response(await metrics(), media_type=METRICS_TYPE)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", told)])


@asynccontextmanager
async def serving(listen: str, pages: Starlette) -> AsyncIterator[str]:
    """Serve pages while the body runs; gives HOST:PORT, in which the port is the real one.

    Raises InvalidError for an address that can't be, UnavailableError for one that is taken.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidError(f"the address {listen} is not HOST:PORT")
    config = Config()
    config.bind = [listen]
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = config.read_timeout = IDLE_SECONDS
    config.graceful_timeout = 0.5
    ending = trio.Event()

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        try:
            with ungrouped():
                await serve(pages, config, shutdown_trigger=ending.wait, task_status=task_status)  # type: ignore[arg-type]
        except (OSError, OverflowError) as error:
            raise UnavailableError(f"can't listen on {listen}: {error}") from error

    async with trio.open_nursery() as nursery:
        binds = await nursery.start(run)
        try:
            yield f"{host}:{binds[0].rpartition(':')[2]}"
        finally:
            ending.set()
