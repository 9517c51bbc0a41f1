"""`python -m ppsd.worker.sidecar`, with the options of a worker: keeps a worker running beside a user's container.

The worker mounts in a directory of a volume that the user's container sees. A mount that outlives its worker would
stand in the way of the next one, and of the volume's removal: so this process, which does little that can fail, takes
it away whenever a worker has ended, from all containers, and starts another one. It ends on SIGTERM, within about
`STOP_SECONDS`, with nothing left mounted.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import trio

from pfsd.errors import PfsError, UnavailableError
from pfsd.runtime.apart import reason_of
from pfsd.runtime.logs import log_to_stderr
from pfsfuse.kernel.mounts import detach
from ppsd.worker.options import options_of, parser
from ppsd.worker.processes import Child

logger = logging.getLogger("ppsd.worker.sidecar")

STOP_SECONDS = 1.0
"""How long a worker has to end: of a pod that is deleted by force, the cluster waits 2 s for the containers."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
"""Between a worker's end and the next one's start."""
HEALTHY_SECONDS = 10.0
"""A worker that lived so long has started well: the next one comes soon."""


def main(argv: Sequence[str] | None = None) -> int:
    """Keep a worker running until SIGTERM; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(words)
    log_to_stderr(logging.INFO)
    options = options_of(args)
    if not options.runner:
        sys.stderr.write("ppsd.worker.sidecar: --runner is missing: give the socket of the user's container\n")
        return 1
    try:
        os.makedirs(options.scratch, exist_ok=True)
        os.makedirs(options.mountpoint, 0o755, exist_ok=True)
        trio.run(_main, words, options.mountpoint)
    except (OSError, PfsError) as error:
        sys.stderr.write(f"ppsd.worker.sidecar: {error}\n")
        return 1
    return 0


async def _main(words: Sequence[str], mountpoint: str) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, words, mountpoint)
            async for number in signals:
                logger.info("stopping on %s", signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


async def _keep(words: Sequence[str], mountpoint: str) -> None:
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = trio.current_time()
        try:
            reason = await _live(words, mountpoint)
        except Exception as error:  # noqa: BLE001 (the next one may do better)
            reason = reason_of(error, "the worker")
        pause = FIRST_PAUSE_SECONDS if trio.current_time() - began > HEALTHY_SECONDS else pause
        logger.info("the worker has ended, another one starts in %.1f s: %s", pause, reason)
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def _live(words: Sequence[str], mountpoint: str) -> str:
    """Run one worker to its end; returns its last words."""
    detach(mountpoint)
    try:
        child = Child([sys.executable, "-m", "ppsd.worker.worker", *words, "--parent", str(os.getpid())])
    except UnavailableError as error:
        return str(error)
    try:
        status = await child.wait()
        return child.last_words or f"it said nothing, its exit status was {status}"
    finally:
        await child.stop(STOP_SECONDS)
        detach(mountpoint)


if __name__ == "__main__":
    sys.exit(main())
