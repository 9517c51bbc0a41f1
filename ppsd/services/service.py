"""The pipeline service put together: the engine, and what serves it over gRPC."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from google.protobuf.descriptor import ServiceDescriptor

from pachproto import pps_pb2, ppsd_pb2
from pfsd.bridge import Bridge
from ppsd.engine.engine import Engine
from ppsd.engine.figures import PipelineFigures
from ppsd.engine.launcher import Launcher
from ppsd.launchers import LAUNCHERS
from ppsd.launchers.local import LocalLauncher
from ppsd.services.api import LogsService, PipelineService
from ppsd.services.workers import WorkersService
from ppsd.storage.grpccalls import open_channel
from ppsd.storage.grpcfilesystem import GrpcFileSystem

MakeLauncher = Callable[[trio.Nursery, Engine], Launcher]


class Service:
    """Pipelines, run over the daemon that answers at the address given to `run`.

    `handlers` are to be served by a server that `bridge` connects to the trio loop; workers find them, and
    the daemon's own services, at that same address. `secrets` (without it, a directory of that name beside `scratch`)
    holds a directory for each secret that pipelines may use. `launcher` is one of `LAUNCHERS`. Raises InvalidError
    where its settings are wrong or missing.
    """

    def __init__(
        self, bridge: Bridge, scratch: Path, secrets: Path | None = None, launcher: str = LAUNCHERS[0]
    ) -> None:
        self._kubernetes = _kubernetes() if launcher != LAUNCHERS[0] else None
        self._scratch = scratch
        self._secrets = secrets or scratch.parent / "secrets"
        self._engine = Engine(f"process {os.getpid()} on {socket.gethostname()}")
        self.handlers: list[tuple[ServiceDescriptor, object]] = [
            (pps_pb2.DESCRIPTOR.services_by_name["API"], PipelineService(bridge, self._engine)),
            (ppsd_pb2.DESCRIPTOR.services_by_name["Logs"], LogsService(bridge, self._engine)),
            (ppsd_pb2.DESCRIPTOR.services_by_name["Workers"], WorkersService(bridge, self._engine)),
        ]

    def figures(self) -> list[PipelineFigures]:
        """How the pipelines are now."""
        return self._engine.figures()

    @asynccontextmanager
    async def run(self, address: str) -> AsyncIterator[None]:
        """Run the pipelines while the body runs; at its end no worker is left."""

        def make_launcher(nursery: trio.Nursery) -> Launcher:
            if self._kubernetes is not None:
                return self._kubernetes(nursery, self._engine)
            return LocalLauncher(address, self._scratch, self._secrets, nursery, self._engine)

        with open_channel(address) as channel:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._engine.run, GrpcFileSystem(channel), make_launcher)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()


def _kubernetes() -> MakeLauncher:
    """What makes the launcher of a cluster."""
    from ppsd.launchers.kube.making import prepared  # here: the cluster's client takes a second to load

    return prepared()
