"""Telling systemd how far the daemon is (`sd_notify`), where it was started by a unit with `Type=notify`."""

from __future__ import annotations

import logging
import os
import socket

VARIABLE = "NOTIFY_SOCKET"

log = logging.getLogger(__name__)


def tell(state: str) -> None:
    """Tell a state, such as `READY=1`; where nobody asked for it, nothing. What can't be told is logged."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(state.encode(), address)
    except OSError as error:
        log.warning("systemd is not told %s: %s", state, error)
