"""One TCP connection through a cluster's API to a port of a pod, over a websocket.

The API's port forwarding speaks in channels: each message begins with the channel's number, 0 for bytes and 1 for what
went wrong, and the first message of each holds the port's number. A channel can't be closed in one direction alone.
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any

from pfsd.errors import UnavailableError

BLOCK_BYTES = 64 << 10
"""Read from the local side at a time; about as much waits in each direction, so neither end outruns the other."""
FLUSH_SECONDS = 10
"""For which a local reader has time to take the last bytes."""

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1


def open_tunnel(client: Any, namespace: str, pod: str, port: int) -> Tunnel:
    """A tunnel to a port of a pod. Raises UnavailableError where the cluster, or the pod's node, does not answer."""
    from kubernetes.stream.ws_client import create_websocket
    from websocket import WebSocketException

    configuration = client.configuration
    url = f"{configuration.host}/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
    headers = {"sec-websocket-protocol": _PROTOCOL}
    for setting in configuration.auth_settings().values():
        headers[setting["key"].lower()] = setting["value"]
    try:
        remote = create_websocket(configuration, "ws" + url.removeprefix("http"), headers)
    except (WebSocketException, OSError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UnavailableError(f"no connection to the pod {pod} by way of {configuration.host}: {said}") from error
    return Tunnel(remote)


class Tunnel:
    """An open websocket that forwards one port."""

    def __init__(self, remote: Any) -> None:
        self._remote = remote
        self._socket: socket.socket = remote.sock
        self._begun: set[int] = set()
        self._to_pod = b""
        self._to_local = b""
        self._open = True

    def carry(self, local: socket.socket) -> None:
        """Carry bytes both ways until either side closes; closes the websocket, not `local`.

        Raises UnavailableError with what the node says where the pod does not take the connection, or it broke.
        """
        from websocket import WebSocketException

        local.setblocking(False)
        try:
            while self._open:
                self._step(local)
            local.settimeout(FLUSH_SECONDS)
            local.sendall(self._to_local)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # one of the two has gone: nothing is left to carry
        except (WebSocketException, OSError) as error:
            raise UnavailableError(f"the connection to the cluster broke: {error}") from error
        finally:
            self._socket.close()

    def _step(self, local: socket.socket) -> None:
        """Move what can be moved, or wait until something can."""
        poll = select.poll()
        # From each side comes more only when what came before has gone on.
        poll.register(local, (0 if self._to_pod else select.POLLIN) | (select.POLLOUT if self._to_local else 0))
        wanted = (0 if self._to_local else select.POLLIN) | (select.POLLOUT if self._to_pod else 0)
        poll.register(self._socket, wanted)
        held = not self._to_local and isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        ready = dict(poll.poll(0 if held else None))
        gone = select.POLLHUP | select.POLLERR
        at_local, at_pod = ready.get(local.fileno(), 0), ready.get(self._socket.fileno(), 0)
        if held or at_pod & (select.POLLIN | gone):
            self._receive()
        if self._to_local and at_local & (select.POLLOUT | gone):
            self._to_local = self._to_local[local.send(self._to_local) :]
        if self._to_pod and at_pod & select.POLLOUT:
            self._send()
        elif not self._to_pod and at_local & (select.POLLIN | gone):
            self._read(local)

    def _read(self, local: socket.socket) -> None:
        from websocket import ABNF

        try:
            data = local.recv(BLOCK_BYTES)
        except BlockingIOError:
            return
        if data:
            self._to_pod = ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
        else:
            self._open = False

    def _send(self) -> None:
        self._socket.setblocking(False)
        try:
            self._to_pod = self._to_pod[self._socket.send(self._to_pod) :]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        finally:
            self._socket.setblocking(True)

    def _receive(self) -> None:
        from websocket import ABNF, WebSocketConnectionClosedException

        try:
            opcode, frame = self._remote.recv_data_frame(True)
        except WebSocketConnectionClosedException:
            self._open = False
            return
        if opcode == ABNF.OPCODE_CLOSE:
            self._open = False
        elif opcode == ABNF.OPCODE_BINARY and frame.data:
            self._take(frame.data[0], frame.data[1:])

    def _take(self, channel: int, data: bytes) -> None:
        if channel not in self._begun:
            self._begun.add(channel)  # its first message repeats the port's number
        elif channel == _ERROR:
            raise _NodeError(" ".join(data.decode(errors="replace").split()))
        else:
            self._to_local += data


class _NodeError(UnavailableError):
    """What the pod's node says of a connection."""
