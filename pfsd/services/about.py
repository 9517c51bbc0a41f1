"""`versionpb.API`, and health: of 1.5 (`health.Health`) and as probes ask for it (`grpc.health.v1.Health`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import grpc_health_pb2, versionpb_pb2
from pfsd.errors import NotFoundError
from pfsd.version import API_VERSION, VERSION, VERSION_KEY


class VersionService:
    """The version of the API that the daemon speaks; that of this project is beside it, in the trailing metadata."""

    async def GetVersion(self, _request: Empty, context: Any) -> versionpb_pb2.Version:
        context.set_trailing_metadata(((VERSION_KEY, VERSION),))
        major, minor, micro = API_VERSION
        return versionpb_pb2.Version(major=major, minor=minor, micro=micro)


class HealthService:
    """Answers as long as the daemon serves."""

    async def Health(self, _request: Empty, _context: Any) -> Empty:
        return Empty()


class ProbeService:
    """Answers as long as the daemon serves, for the whole of it (the empty name) and for each of its services."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    async def Check(
        self, request: grpc_health_pb2.HealthCheckRequest, _context: Any
    ) -> grpc_health_pb2.HealthCheckResponse:
        if not self._serves(request):
            raise NotFoundError(f"the service {request.service} is not served here")
        return grpc_health_pb2.HealthCheckResponse(status=grpc_health_pb2.HealthCheckResponse.SERVING)

    async def Watch(
        self, request: grpc_health_pb2.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[grpc_health_pb2.HealthCheckResponse]:
        kinds = grpc_health_pb2.HealthCheckResponse
        yield kinds(status=kinds.SERVING if self._serves(request) else kinds.SERVICE_UNKNOWN)
        await asyncio.Event().wait()  # it changes only by ending, with the call

    def _serves(self, request: grpc_health_pb2.HealthCheckRequest) -> bool:
        return not request.service or request.service in self._names
