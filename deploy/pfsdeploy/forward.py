"""Forwarding a local port to the daemon in a cluster, whichever pod that is at the time."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from pfsd.errors import InvalidError, NotFoundError, PfsError, UnavailableError
from pfsdeploy.cluster import Cluster
from pfsdeploy.labels import DAEMON, NAME, selector
from pfsdeploy.settings import PORT
from pfsdeploy.tunnel import open_tunnel

HOST = "127.0.0.1"
POD_SECONDS = 60
"""For which a connection waits for a pod that can take it: as long as a daemon takes to come back."""
ASK_SECONDS = 0.5

log = logging.getLogger(__name__)


class Forwarder:
    """A port of this machine that leads to the daemon. Each connection looks for the daemon's pod anew."""

    def __init__(self, cluster: Cluster, port: int, say: Callable[[str], None]) -> None:
        """Listens. Raises NotFoundError where nothing is deployed, InvalidError where the port is taken."""
        self._cluster = cluster
        self._say = say
        cluster.require_namespace()
        if cluster.get("Deployment", NAME) is None:
            raise NotFoundError(
                f"pfsd is not deployed in the namespace {cluster.namespace} at {cluster.host}: "
                "pachctl deploy does that, and --namespace names another"
            )
        try:
            self._listener = socket.create_server((HOST, port))
        except OSError as error:
            raise InvalidError(
                f"can't listen on {HOST}:{port} ({os.strerror(error.errno or 0).lower()}): give another port with -p"
            ) from error
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Take connections until the process ends or `close` is called."""
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(local,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _carry(self, local: socket.socket) -> None:
        with local:
            try:
                pod = self._pod()
                tunnel = open_tunnel(self._cluster.client, self._cluster.namespace, pod, PORT)
                log.info("a connection goes to %s", pod)
                tunnel.carry(local)
            except PfsError as error:
                self._say(str(error))
            except Exception as error:
                log.info("defect", exc_info=True)
                self._say(f"a connection failed by a defect: {type(error).__name__}: {error} (-v shows where)")

    def _pod(self) -> str:
        """The daemon's pod; raises UnavailableError where there is none in POD_SECONDS."""
        deadline = time.monotonic() + POD_SECONDS
        while True:
            try:
                found = self._cluster.listed("Pod", selector(DAEMON))
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                found = []
            ready = [pod for pod in found if _is_ready(pod)]
            if ready:
                return str(ready[0]["metadata"]["name"])
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"no pod of pfsd is ready in the namespace {self._cluster.namespace}: "
                    f"kubectl get pods -l {selector(DAEMON)} shows why"
                )
            time.sleep(ASK_SECONDS)


def _is_ready(pod: dict[str, Any]) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
