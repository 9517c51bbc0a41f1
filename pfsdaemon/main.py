"""`pfsd`: the daemon's entry point."""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import pathlib
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import trio

from pfsd import rpc
from pfsd.bridge import Bridge
from pfsd.fetching.reach import Reach, networks
from pfsd.filesystem.store import Store
from pfsd.local.handedfiles import HandedFiles
from pfsd.names import sizes
from pfsd.objectstores.blockcache import DEFAULT_BYTES
from pfsd.objectstores.openstore import StorageOptions
from pfsd.runtime import threads
from pfsd.runtime.ending import end_now
from pfsd.runtime.exitstatus import status_of
from pfsd.runtime.logs import add_log_options, log_as_asked, notice
from pfsd.runtime.stack import allow_depth
from pfsd.server import Server
from pfsd.services.core import core_services
from pfsd.version import SENTENCE
from pfsdaemon.ending import POLL_SECONDS, Ending
from pfsdaemon.mounting import repository_mount
from pfsdaemon.notify import tell
from pfsdaemon.watching import Watched
from ppsd.launchers import LAUNCHERS

COLLECTED_AFTER = 10_000, 20, 20
"""How often cycles are looked for: less often than Python does, as requests make many objects and few cycles."""

SWITCH_SECONDS = 0.001
"""After which a thread that computes lets another one have the interpreter: calls go through three threads' hands."""

CLOSE_SECONDS = 1.0
"""For which work that is under way may go on before the store is closed without it."""

M_ARENA_MAX = -8

ARENAS = 2
"""Memory pools of glibc's malloc: with one for every thread, each keeps what a large upload once took."""

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="pfsd",
        description="Serve a versioned file system and its pipelines from a directory, until SIGTERM or SIGINT.",
    )
    made.add_argument("--root", required=True, type=pathlib.Path, metavar="DIR", help="where everything is stored")
    made.add_argument(
        "--listen",
        default=rpc.DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="address to serve (default: %(default)s)",
    )
    _add_storage(made)
    made.add_argument(
        "--http",
        default="",
        metavar="HOST:PORT",
        help="answer there, to whoever asks: /healthz, /readyz, and /metrics for Prometheus (default: nowhere)",
    )
    made.add_argument(
        "--allow-fetch",
        action="append",
        default=[],
        metavar="NETWORK",
        help="also fetch from there what put-file names by a URL, as in 10.0.0.0/8; may be given several times "
        "(default: public addresses alone)",
    )
    made.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="after SIGTERM, serve on for so long at most while calls are at work (default: %(default)s)",
    )
    made.add_argument("--no-pipelines", action="store_true", help="serve no pipelines: leave them to a ppsd of its own")
    made.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default=LAUNCHERS[0],
        help="where pipelines' workers run: on this machine, or as pods of a cluster (default: %(default)s)",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {SENTENCE}")
    add_log_options(made)
    return made


def _add_storage(made: argparse.ArgumentParser) -> None:
    """The options that say where things are."""
    made.add_argument("--mount", metavar="DIR", help="also mount the repositories there")
    made.add_argument(
        "--object-store",
        default="",
        metavar="s3://BUCKET/PREFIX",
        help="keep the packs there (default: where the root has them, at first in its own directory)",
    )
    made.add_argument(
        "--cache-dir",
        type=pathlib.Path,
        metavar="DIR",
        help="where blocks of such an object store are kept, for mounts here too (default: cache in the root)",
    )
    made.add_argument(
        "--cache-size",
        type=sizes.parse,
        default=DEFAULT_BYTES,
        metavar="SIZE",
        help="how much to keep there at most, as in 20G (default: 10G)",
    )
    made.add_argument("--take-over", action="store_true", help="give up the packs that another root has there")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; returns its exit status: 0, or 1 after an error that stderr tells in one sentence."""
    args = parser().parse_args(argv)
    log_as_asked(args)
    allow_depth()
    gc.set_threshold(*COLLECTED_AFTER)
    sys.setswitchinterval(SWITCH_SECONDS)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, ARENAS)
    return status_of(lambda: trio.run(serve, args), "pfsd: ", every=True)


async def serve(args: argparse.Namespace) -> None:
    """Serve until a signal says to stop; then stop the pipelines, the mount, the server, the store, in that order."""
    ending = Ending(args.drain)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ending.heed, signals)
            await serve_until(ending, args)
            nursery.cancel_scope.cancel()


async def serve_until(ending: Ending, args: argparse.Namespace) -> None:
    """Serve until it is time to stop."""
    allowed = networks(args.allow_fetch)
    options = StorageOptions(args.object_store, args.take_over, args.cache_dir, args.cache_size)
    store = await trio.to_thread.run_sync(Store, args.root, options)
    if store.root.is_new:
        notice("pfsd", f"{args.root} was empty: a new root was made there")
    server = Server(args.listen)
    handed = HandedFiles(args.root / "handing")
    try:
        handed.start()
        server.add(core_services(store, lambda: Reach(server.address, allowed), handed))
        async with AsyncExitStack() as stack:
            watched = Watched(store, ending)
            pages = await stack.enter_async_context(watched.serving(args.http)) if args.http else ""
            nursery = await stack.enter_async_context(trio.open_nursery())
            pipelines = None
            if not args.no_pipelines:
                from ppsd.services.service import Service  # here: a daemon without pipelines need not load it

                pipelines = Service(Bridge(nursery), args.root / "scratch", launcher=args.launcher)
                server.add(pipelines.handlers)
            server.start()
            stack.callback(nursery.cancel_scope.cancel)
            if args.mount:
                await stack.enter_async_context(repository_mount(args.mount, server.address))
            if pipelines is not None:
                watched.figures = pipelines.figures
                await stack.enter_async_context(pipelines.run(server.address))
            watched.is_started = True
            print(f"pfsd: serving {args.root} at {server.address}", flush=True)  # noqa: T201
            if pages:
                print(f"pfsd: health and metrics at http://{pages}", flush=True)  # noqa: T201
            tell("READY=1")
            await ending.stopping.wait()
    finally:
        await trio.to_thread.run_sync(server.stop)
        await trio.to_thread.run_sync(handed.close)
        await trio.to_thread.run_sync(close, store)


def close(store: Store) -> None:
    """Close the store, once nobody uses it; where somebody goes on, leave it as a crash may leave it at any time.

    Then the process has to end without Python's own way, which would wait for threads.
    """
    deadline = time.monotonic() + CLOSE_SECONDS
    while threads.running() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if threads.running():
        log.warning("%d calls were still computing: the next start takes up what they left", threads.running())
        end_now(0)
    store.close()


if __name__ == "__main__":
    sys.exit(main())
