"""The services of the file system, ready to be served."""

from __future__ import annotations

from collections.abc import Callable

from pachproto import edits_pb2, health_pb2, pfs_pb2, pfsd_pb2, versionpb_pb2
from pfsd.fetching.reach import Reach
from pfsd.filesystem.store import Store
from pfsd.local.handedfiles import HandedFiles
from pfsd.rpc import Services
from pfsd.services.about import HealthService, VersionService
from pfsd.services.admin_api import AdminService
from pfsd.services.edits_api import EditsService
from pfsd.services.object_api import ObjectService
from pfsd.services.pfs_api import PfsService
from pfsd.services.records_api import RecordsService
from pfsd.services.store_api import StoreService


def core_services(store: Store, reach: Callable[[], Reach], handed: HandedFiles | None = None) -> Services:
    """Every service over a store, for a server that fetches within `reach()`, and takes files at `handed`."""
    return (
        (pfs_pb2.DESCRIPTOR.services_by_name["API"], PfsService(store, reach)),
        (pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"], ObjectService(store)),
        (pfsd_pb2.DESCRIPTOR.services_by_name["Store"], StoreService(store, handed)),
        (edits_pb2.DESCRIPTOR.services_by_name["Edits"], EditsService(store)),
        (pfsd_pb2.DESCRIPTOR.services_by_name["Records"], RecordsService(store)),
        (pfsd_pb2.DESCRIPTOR.services_by_name["Admin"], AdminService(store)),
        (versionpb_pb2.DESCRIPTOR.services_by_name["API"], VersionService()),
        (health_pb2.DESCRIPTOR.services_by_name["Health"], HealthService()),
    )
