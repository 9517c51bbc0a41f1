"""The images of a Docker engine, or of one that speaks its API (podman), by way of its socket.

https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import shutil
import socket
import urllib.parse
from collections.abc import Mapping

from pfsd.errors import InvalidError, NotFoundError, UnavailableError

WAIT_SECONDS = 600
"""For which an engine may put an archive together before its first byte comes."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def engine_address(environment: Mapping[str, str] = os.environ) -> str:
    """DOCKER_HOST, else the first socket that is there; raises UnavailableError where there is none."""
    if given := environment.get("DOCKER_HOST"):
        return given
    sockets = ["/var/run/docker.sock", "/run/podman/podman.sock"]
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        sockets += [f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock"]
    for path in sockets:
        if pathlib.Path(path).is_socket():
            return f"unix://{path}"
    raise UnavailableError(
        "there is no Docker engine here whose images could be pushed: start one, or podman system service, or set "
        "DOCKER_HOST, or give an archive with --image-archive"
    )


def save_image(name: str, target: pathlib.Path, address: str = "") -> None:
    """Write an engine's image to a file, as `docker save` does.

    Raises NotFoundError where the engine has no such image, UnavailableError where it does not answer.
    """
    address = address or engine_address()
    connection = _connection(address)
    try:
        connection.request("GET", f"/images/{urllib.parse.quote(name, safe='/:@')}/get")
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refused(name, address, answer)
        with target.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    except (http.client.HTTPException, OSError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnavailableError(f"the Docker engine at {address} does not answer: {said}") from error
    finally:
        connection.close()


def _connection(address: str) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path)
    if parts.scheme in ("tcp", "http") and parts.hostname and not os.environ.get("DOCKER_TLS_VERIFY"):
        return http.client.HTTPConnection(parts.hostname, parts.port or 2375, timeout=WAIT_SECONDS)
    raise InvalidError(
        f"the Docker engine at {address} can't be spoken to from here: unix:// and tcp:// without TLS can; "
        "docker save and --image-archive do without"
    )


def _refused(name: str, address: str, answer: http.client.HTTPResponse) -> Exception:
    body = answer.read()
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.reason
    if answer.status == 404 or "no such image" in said or "image not known" in said:
        return NotFoundError(f"the Docker engine at {address} has no image {name}: build it there, or pull it")
    return UnavailableError(f"the Docker engine at {address} does not give the image {name}: {said}")
