"""The connection to the daemon at `ADDRESS`, and what its failures are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from pfsd.errors import InvalidError, NotFoundError, PfsError
from pfsd.rpc import CHANNEL_OPTIONS, DEFAULT_ADDRESS, Stub

_logger = logging.getLogger(__name__)


class DaemonError(PfsError):
    """What the daemon answered, or that it does not."""


class UnimplementedError(DaemonError):
    """The daemon lacks the call."""


class Daemon:
    """The services at one address. Safe to use from several threads."""

    def __init__(self, address: str) -> None:
        self.address = address
        # A proxy named in the environment is for the web: the daemon is reached directly.
        options = [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)

    @cached_property
    def pfs(self) -> Any:
        """Repos, commits and files."""
        from pachproto import pfs_pb2

        return Stub(self._channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])

    @cached_property
    def objects(self) -> Any:
        """Objects and tags."""
        from pachproto import pfs_pb2

        return Stub(self._channel, pfs_pb2.DESCRIPTOR.services_by_name["ObjectAPI"])

    @cached_property
    def store(self) -> Any:
        """What daemons of this project offer beyond Pachyderm 1.5: bulk writes, lists in a stream."""
        from pachproto import pfsd_pb2

        return Stub(self._channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])

    @cached_property
    def edits(self) -> Any:
        """Changes of open commits beyond those of Pachyderm 1.5."""
        from pachproto import edits_pb2

        return Stub(self._channel, edits_pb2.DESCRIPTOR.services_by_name["Edits"])

    @cached_property
    def offers_bulk(self) -> bool:
        """Whether it takes files in bulk; raises grpc.RpcError."""
        from pachproto import pfsd_pb2

        try:
            self.store.HasChunks(pfsd_pb2.ChunkRequest())
        except grpc.RpcError as error:
            if is_unimplemented(error):
                return False
            raise
        return True

    @cached_property
    def admin(self) -> Any:
        """The care of the store itself."""
        from pachproto import pfsd_pb2

        return Stub(self._channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])

    @cached_property
    def pps(self) -> Any:
        """Pipelines and jobs."""
        from pachproto import pps_pb2

        return Stub(self._channel, pps_pb2.DESCRIPTOR.services_by_name["API"])

    @cached_property
    def logs(self) -> Any:
        """Logs, with more to ask for than `pps` knows."""
        from pachproto import ppsd_pb2

        return Stub(self._channel, ppsd_pb2.DESCRIPTOR.services_by_name["Logs"])

    @cached_property
    def version(self) -> Any:
        """The daemon's version."""
        from pachproto import versionpb_pb2

        return Stub(self._channel, versionpb_pb2.DESCRIPTOR.services_by_name["API"])

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within it, a call that fails raises NotFoundError or another PfsError, fit for the user."""
        try:
            yield
        except grpc.RpcError as error:
            raise _translated(error, self) from error

    def connected(self) -> bool:
        """Whether the connection stands.

        An unreachable daemon, and one that itself could not reach something, both give UNAVAILABLE: this
        tells them apart.
        """
        states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
        self._channel.subscribe(states.put)
        try:
            return states.get(timeout=1) is grpc.ChannelConnectivity.READY
        except Empty:
            return False
        finally:
            self._channel.unsubscribe(states.put)

    def close(self) -> None:
        """Ends every call and closes the connection."""
        self._channel.close()


def is_unimplemented(error: grpc.RpcError) -> bool:
    """Whether the daemon lacks the call that failed."""
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED


def default_address() -> str:
    """The address that the environment variable ADDRESS gives, or the default; raises InvalidError."""
    return check_address(os.environ.get("ADDRESS") or DEFAULT_ADDRESS)


def check_address(address: str) -> str:
    """`address` itself, or InvalidError where it has not the form HOST:PORT."""
    if address.startswith("unix:"):
        return address
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidError(f"address {address!r} is invalid: write it as HOST:PORT, such as {DEFAULT_ADDRESS}")
    return address


@contextmanager
def connect(address: str | None = None) -> Iterator[Daemon]:
    """The daemon at `address`, or at the default address, with `Daemon.errors` in force."""
    daemon = Daemon(default_address() if address is None else check_address(address))
    _logger.info("using pfsd at %s", daemon.address)
    try:
        with daemon.errors():
            yield daemon
    finally:
        daemon.close()


def _translated(error: grpc.RpcError, daemon: Daemon) -> PfsError:
    address = daemon.address
    if not isinstance(error, grpc.Call):
        return DaemonError(f"the call to pfsd at {address} failed: {error}")
    code = error.code()
    details = " ".join((error.details() or "").split())
    _logger.info("pfsd at %s answered %s: %s", address, code, details)
    if code is grpc.StatusCode.UNAVAILABLE and not daemon.connected():
        return DaemonError(f"can't reach pfsd at {address}: is it running? (set ADDRESS=host:port to use another)")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnimplementedError(f"pfsd at {address} does not offer this command yet")
    sentence = details or f"pfsd at {address} failed with {code.name} and gave no reason"
    return NotFoundError(sentence) if code is grpc.StatusCode.NOT_FOUND else DaemonError(sentence)
