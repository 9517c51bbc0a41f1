"""`python -m ppsd.worker.worker`: enters a mount namespace of its own, then computes datums until it is stopped.

With `--runner` it stays in the namespace that it is in, and user code runs elsewhere: see `ppsd.worker.sidecar`.
The namespace has to be entered before any thread is started, so nothing that might start one is imported above.
"""

from __future__ import annotations

import os
import shutil
import sys

from pfsd.errors import UnavailableError
from pfsd.runtime.exitstatus import status_of
from pfsd.runtime.stack import allow_depth
from pfsfuse.kernel.namespace import enter_private_namespace, make_readonly, mount_memory
from ppsd.worker.options import options_of, parser
from ppsd.worker.processes import die_with_parent

MAX_SECRET_BYTES = 16 << 20
"""Of each secret. Copies lie in memory."""


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
    from ppsd.worker import workerloop

    return status_of(lambda: workerloop.run(options, trouble))


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
