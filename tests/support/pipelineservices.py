"""A ppsd in a process of its own, for the tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.daemons import Daemon
from tests.support.pipelines import LIMIT


@contextmanager
def pipeline_service(daemon: Daemon) -> Iterator[tuple[subprocess.Popen[str], Daemon]]:
    """A ppsd of its own, and a client of its address."""
    command = [sys.executable, "-m", "ppsd.main", "--pfsd", daemon.address, "--listen", "127.0.0.1:0"]
    client = Daemon(daemon.root)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            client.address = process.stdout.readline().split()[-1]
            yield process, client
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(LIMIT)
            client.channel.close()
        assert status == 0
