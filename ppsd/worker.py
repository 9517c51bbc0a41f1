"""A worker process: `python -m ppsd.worker`. Enters its mount namespace, then computes datums until it is stopped.

With `--runner` it stays in the namespace that it is in, and user code runs elsewhere: see `ppsd.sidecar`.
The namespace has to be entered before any thread is started, so nothing that might start one is imported above.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from fuse.namespace import PFS, enter_private_namespace, make_readonly, mount_memory
from pfsd.errors import PfsError, UnavailableError, leaves
from pfsd.stack import allow_depth
from ppsd.processes import die_with_parent

MAX_SECRET_BYTES = 16 << 20
"""Of each secret. Copies lie in memory."""


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
    made = argparse.ArgumentParser(prog="python -m ppsd.worker", description="Compute datums of a pipeline.")
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


def main() -> int:
    """Run the worker; its exit status is 0 when it was told to stop."""
    args = parser().parse_args()
    if args.parent is not None:
        die_with_parent(args.parent)
    allow_depth()
    options = options_of(args)
    trouble = ""
    try:
        if not options.runner:
            enter_private_namespace()
        for source, target in args.secret:
            _mount_secret(source, target)
    except UnavailableError as error:
        trouble = str(error)
    from ppsd import workerloop

    status = 0
    try:
        workerloop.run(options, trouble)
    except* PfsError as group:  # what is lost may be missed in several places at once
        sys.stderr.write(f"{leaves(group)[0]}\n")
        status = 1
    return status


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


def _mount_secret(source: str, target: str) -> None:
    """Show a copy of a secret, for this worker's user code to read, and to nobody else."""
    name = os.path.basename(source)
    if not os.path.isdir(source):
        raise UnavailableError(f"secret {name} does not exist: put its files into {source}")
    try:
        os.makedirs(target, 0o755, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"{target}, where a secret is to be mounted, can't be made: {error.strerror}") from error
    mount_memory(target, MAX_SECRET_BYTES)
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise UnavailableError(
            f"secret {name} can't be copied for user code, of at most {MAX_SECRET_BYTES >> 20} MiB: {error}"
        ) from error
    make_readonly(target)


if __name__ == "__main__":
    sys.exit(main())
