"""`ppsd`: the pipeline service in a process of its own, over a daemon elsewhere."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from pfsd.bridge import Bridge
from pfsd.rpc import DEFAULT_ADDRESS
from pfsd.runtime.ending import end_in_time
from pfsd.runtime.exitstatus import status_of
from pfsd.runtime.logs import add_log_options, log_as_asked
from pfsd.server import Server
from pfsd.version import SENTENCE
from ppsd.launchers import LAUNCHERS
from ppsd.services.forward import Forwarder
from ppsd.services.service import Service

DEFAULT_LISTEN = "127.0.0.1:30651"

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="ppsd",
        description="Run pipelines over a pfsd that was started with --no-pipelines, until SIGTERM or SIGINT. "
        "The address serves all of the daemon's services too.",
    )
    made.add_argument("--pfsd", default=DEFAULT_ADDRESS, metavar="HOST:PORT", help="the daemon (default: %(default)s)")
    made.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="address to serve (default: %(default)s)",
    )
    made.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="where workers keep output until it is stored (default: temporary)",
    )
    made.add_argument(
        "--secrets",
        type=Path,
        metavar="DIR",
        help="holds a directory of files for each secret that pipelines may use (default: none)",
    )
    made.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default=LAUNCHERS[0],
        help="where workers run: on this machine, or as pods of a cluster (default: %(default)s)",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {SENTENCE}")
    add_log_options(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; returns its exit status: 0, or 1 after an error that stderr tells in one sentence."""
    args = parser().parse_args(argv)
    log_as_asked(args)

    def run() -> None:
        with tempfile.TemporaryDirectory(prefix="ppsd-") as temporary:
            scratch = args.scratch or Path(temporary)
            trio.run(serve, args.pfsd, args.listen, scratch, args.secrets, args.launcher)

    return status_of(run, "ppsd: ")


async def serve(pfsd: str, listen: str, scratch: Path, secrets: Path | None, launcher: str) -> None:
    """Serve until a signal says to stop."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        server = Server(listen)
        try:
            async with trio.open_nursery() as nursery:
                service = Service(Bridge(nursery), scratch, secrets, launcher)
                server.add(service.handlers)
                server.add_handler(Forwarder(pfsd))
                await trio.to_thread.run_sync(server.start)
                async with service.run(server.address):
                    sys.stdout.write(f"ppsd: serving the pipelines of {pfsd} at {server.address}\n")
                    sys.stdout.flush()
                    async for number in signals:
                        logger.info("stopping on %s", signal.Signals(number).name)
                        end_in_time()
                        break
                nursery.cancel_scope.cancel()
        finally:
            await trio.to_thread.run_sync(server.stop)


if __name__ == "__main__":
    sys.exit(main())
