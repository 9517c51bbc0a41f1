"""`python -m tests.support.faulty.defects`: a daemon in which chosen functions fail as defects would make them.

`python -m tests.support.faulty.defectivemount` is the same for `pfsfuse.mount`.

PFSD_DEFECTS names a directory. As long as it holds a file named like `ppsd.engine.jobs:JobRun._count`, that function
raises KeyError instead of doing what it is for; with a text in the file, only where the text is in the object that it
belongs to, or in its arguments.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

TEXT = "a defect of the test"

OF_MOUNTS = (
    "pfsfuse.client.attachment:Attachment._note",
    "pfsfuse.content.content:Content._try_fetch_nodes",
    "pfsfuse.kernel.inodes:InodeTable.forget",
    "pfsfuse.repository.repodirs:MountRoot.find",
    "pfsfuse.repository.repoview:RepositoryView._forget_names",
    "pfsfuse.repository.repoview:RepositoryView._look",
)

FUNCTIONS = (
    "ppsd.engine.changes:Changes.create",
    "ppsd.engine.changes:Changes._carry_out_update",
    "ppsd.engine.cron:Clock.tick",
    "ppsd.engine.engine:Engine.pipelines",
    "ppsd.engine.jobs:JobRun._count",
    "ppsd.engine.jobs:JobRun._count_task",
    "ppsd.engine.jobs:JobRun.conclude",
    "ppsd.launchers.local:LocalLauncher.launch",
    "ppsd.launchers.local:LocalLauncher._live",
    "ppsd.launchers.local:LocalLauncher.take_up",
    "ppsd.storage.logs:Logs._store",
    "ppsd.engine.pipelines:Pipeline._look",
    "ppsd.storage.registry:Registry.load",
    "ppsd.engine.stats:commit",
)


def main() -> int:
    """Run the daemon."""
    break_in(FUNCTIONS)
    program: Callable[[], int] = importlib.import_module("pfsdaemon.main").main
    return program()


def break_in(names: Iterable[str]) -> None:
    """Let these functions fail as long as they are told to."""
    directory = pathlib.Path(os.environ["PFSD_DEFECTS"])
    for name in names:
        module, _, path = name.partition(":")
        owner: Any = importlib.import_module(module)
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, _defective(getattr(owner, last), directory / name))


def _defective(function: Callable[..., Any], switch: pathlib.Path) -> Callable[..., Any]:
    def fail(given: tuple[Any, ...]) -> None:
        try:
            wanted = switch.read_text()
        except FileNotFoundError:
            return
        if wanted in repr([given, *(vars(one) for one in given[:1] if hasattr(one, "__dict__"))]):
            raise KeyError(TEXT)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wait(*args: Any, **named: Any) -> Any:
            fail(args)
            return await function(*args, **named)

        return wait

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        fail(args)
        return function(*args, **named)

    return call


if __name__ == "__main__":
    sys.exit(main())
