"""Ends the process in time, whatever its threads are doing."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

log = logging.getLogger(__name__)

END_SECONDS = 4.7
"""After which a process that was told to end does so. What it answered for is on disk by then, or in the kernel."""


def end_in_time(status: int = 0) -> None:
    """From now on, the process has END_SECONDS left."""

    def watch() -> None:
        time.sleep(END_SECONDS)
        log.warning("ending although some work does not end")
        end_now(status)

    threading.Thread(target=watch, name="ending", daemon=True).start()


def end_now(status: int) -> None:
    """End the process without waiting for any thread of it."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
