"""`python -m tests.support.faulty.killpoints`: a daemon that kills itself at a chosen step of its pipeline service.

A step is the moment just before, or just after, the service changes something: a record, a commit, a branch, a tag, an
object elsewhere, or its mind about a datum. PFSD_KILL_STEP says at which one, counted from 1, the process sends itself
SIGKILL; 0 is never. The file PFSD_KILL_NOTES gets a line for each step, before anything happens at it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pfsdaemon.main
from ppsd.engine import egress
from ppsd.engine.pool import Pool
from ppsd.storage import records
from ppsd.storage.grpcfilesystem import GrpcFileSystem

CHANGES = (
    "create_repo",
    "delete_repo",
    "start_commit",
    "finish_commit",
    "delete_commit",
    "fail_commit",
    "set_branch",
    "delete_branch",
    "put_file",
    "delete_tag_prefix",
    "merge_trees",
    "write_records",
)


class Steps:
    """Counts the steps, and kills the process at one of them."""

    def __init__(self, deadly: int, notes: int) -> None:
        self._deadly = deadly
        self._notes = notes
        self._count = 0

    def take(self, name: str) -> None:
        """Go through one step."""
        self._count += 1
        os.write(self._notes, f"{name}\n".encode())
        if self._count == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        """An async function with a step before and one after it; those without a name have none."""

        async def stepped(*args: Any, **named: Any) -> Any:
            what = name(*args, **named)
            if what:
                self.take(f"before {what}")
            result = await function(*args, **named)
            if what:
                self.take(f"after {what}")
            return result

        return stepped


def _written(_: Any, put: Any, delete: Any = (), delete_prefix: Any = (), sync: bool = True) -> str:
    """A name for what is written; nothing for logs and counts, which come as time goes by."""
    kinds = sorted({"/".join(key.split("/")[:2]) for key in (*put, *delete, *delete_prefix)})
    if kinds == [records.LOGS.rstrip("/")] or (not sync and kinds == [records.JOBS.rstrip("/")]):
        return ""
    return f"write_records {' '.join(kinds)}"


def main() -> int:
    """Run the daemon."""
    notes = os.open(os.environ["PFSD_KILL_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    steps = Steps(int(os.environ["PFSD_KILL_STEP"]), notes)
    for change in CHANGES:
        name: Callable[..., str] = _written if change == "write_records" else lambda *_, name=change, **__: name
        setattr(GrpcFileSystem, change, steps.around(getattr(GrpcFileSystem, change), name))
    egress.push = steps.around(egress.push, lambda *_: "egress")
    settle = Pool.settle

    def settled(*args: Any) -> None:
        steps.take("before settling a datum")
        settle(*args)
        steps.take("after settling a datum")

    Pool.settle = settled  # type: ignore[method-assign, assignment]
    return pfsdaemon.main.main()


if __name__ == "__main__":
    sys.exit(main())
