"""What a worker is told when it is started: the options of `python -m ppsd.worker.worker`.

A worker reads them before it enters its mount namespace: nothing that might start a thread is imported here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pfsfuse.kernel.namespace import PFS


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
    private: Path = Path()
    """A directory for what user code writes elsewhere, for as long as this worker lives."""
    hidden: tuple[Path, ...] = ()
    """Directories that user code does not see, beside those of the store."""
    groups: tuple[Path, ...] = ()
    """The directories of the control group for user code."""
    runner: str = ""
    """The socket of the runner in the user's container; empty for one of the worker's own."""
    mountpoint: str = PFS
    """Where this process mounts what user code sees at /pfs."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m ppsd.worker.worker", description="Compute datums of a pipeline.")
    made.add_argument("--address", required=True, metavar="HOST:PORT", help="the service's address")
    made.add_argument("--pipeline", required=True, metavar="NAME", help="whose datums to compute")
    made.add_argument("--salt", required=True, help="the version of the pipeline")
    made.add_argument("--worker-id", required=True, metavar="ID", help="what logs call this worker")
    made.add_argument("--scratch", required=True, type=Path, metavar="DIR", help="for output, emptied at will")
    made.add_argument(
        "--private", type=Path, default=Path(), metavar="DIR", help="for the home and temporary files of user code"
    )
    made.add_argument(
        "--hide",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="show user code nothing of this directory; may be given several times",
    )
    made.add_argument(
        "--secret",
        nargs=2,
        action="append",
        default=[],
        metavar=("DIR", "PATH"),
        help="show user code the files of a directory at a path; may be given several times",
    )
    made.add_argument(
        "--cgroup",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="run user code in this control group; given once for each hierarchy",
    )
    made.add_argument(
        "--runner",
        default="",
        metavar="SOCKET",
        help="have the runner that listens there start user code, and stay in this mount namespace",
    )
    made.add_argument(
        "--mountpoint",
        default=PFS,
        metavar="DIR",
        help="mount what the runner's processes see at /pfs there (default: %(default)s)",
    )
    made.add_argument("--parent", type=int, metavar="PID", help="end with this process, which started the worker")
    return made


def options_of(args: argparse.Namespace) -> Options:
    """What the command line says of the worker."""
    return Options(
        address=args.address,
        pipeline=args.pipeline,
        salt=args.salt,
        worker_id=args.worker_id,
        scratch=args.scratch,
        private=args.private,
        hidden=tuple(args.hide),
        groups=tuple(args.cgroup),
        runner=args.runner,
        mountpoint=args.mountpoint,
    )
