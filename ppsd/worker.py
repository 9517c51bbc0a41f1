"""A worker process: `python -m ppsd.worker`. Enters its mount namespace, then computes datums until it is stopped.

The namespace has to be entered before any thread is started, so nothing that might start one is imported above.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from fuse.namespace import enter_private_namespace
from pfsd.errors import PfsError, UnavailableError
from ppsd.processes import die_with_parent

RECURSION_LIMIT = 20_000
"""Output directories may be nested deeply, and are walked recursively."""


@dataclass(frozen=True, slots=True)
class Options:
    """Who the worker is."""

    address: str
    """Of the pipeline service and of the daemon."""
    pipeline: str
    salt: str
    worker_id: str
    scratch: Path
    """An empty directory for the output of the datum in hand."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m ppsd.worker", description="Compute datums of a pipeline.")
    made.add_argument("--address", required=True, metavar="HOST:PORT", help="the service's address")
    made.add_argument("--pipeline", required=True, metavar="NAME", help="whose datums to compute")
    made.add_argument("--salt", required=True, help="the version of the pipeline")
    made.add_argument("--worker-id", required=True, metavar="ID", help="what logs call this worker")
    made.add_argument("--scratch", required=True, type=Path, metavar="DIR", help="for output, emptied at will")
    made.add_argument("--parent", type=int, metavar="PID", help="end with this process, which started the worker")
    return made


def main() -> int:
    """Run the worker; its exit status is 0 when it was told to stop."""
    args = parser().parse_args()
    if args.parent is not None:
        die_with_parent(args.parent)
    sys.setrecursionlimit(RECURSION_LIMIT)
    options = Options(args.address, args.pipeline, args.salt, args.worker_id, args.scratch)
    trouble = ""
    try:
        enter_private_namespace()
    except UnavailableError as error:
        trouble = str(error)
    from ppsd import workerloop

    try:
        workerloop.run(options, trouble)
    except PfsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
