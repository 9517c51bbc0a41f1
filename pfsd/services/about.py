"""`versionpb.API` and `health.Health`."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from pachproto import versionpb_pb2
from pfsd.version import API_VERSION


class VersionService:
    """The version of the API that the daemon speaks."""

    async def GetVersion(self, _request: Empty, _context: Any) -> versionpb_pb2.Version:
        major, minor, micro = API_VERSION
        return versionpb_pb2.Version(major=major, minor=minor, micro=micro)


class HealthService:
    """Answers as long as the daemon serves."""

    async def Health(self, _request: Empty, _context: Any) -> Empty:
        return Empty()
