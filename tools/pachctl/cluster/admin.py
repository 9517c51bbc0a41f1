"""The commands about the whole daemon: version and delete-all."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from pachctl.terminal import format
from pachctl.terminal.command import Arguments, Command
from pachctl.terminal.connection import UnimplementedError, connect
from pachctl.terminal.output import confirm, remark
from pfsd.version import API_VERSION, VERSION, VERSION_KEY

_COLUMNS = (format.MIN_WIDTH, format.MIN_WIDTH, 0)
_NONE = "-"
"""Pachyderm's own daemon is of no version of this project."""


def version(arguments: Arguments) -> None:
    """Prints the versions of the API and of this project, of the client and then of the daemon."""
    _print_version("COMPONENT", "VERSION", "PFSD")
    _print_version("pachctl", ".".join(map(str, API_VERSION)), VERSION)
    with connect() as daemon:
        answer, call = daemon.version.GetVersion.with_call(Empty())
    text = f"{answer.major}.{answer.minor}.{answer.micro}{answer.additional}"
    _print_version("pachd", text, dict(call.trailing_metadata() or ()).get(VERSION_KEY, _NONE))


def _print_version(*cells: str) -> None:
    print(format.line(cells, _COLUMNS))


def delete_all(arguments: Arguments) -> int:
    """Deletes everything, once the user agrees."""
    from pachctl.repos import amounts  # other commands here start sooner without it

    with connect() as daemon:
        parts = [part for part in (amounts.of_repos(daemon), amounts.of_pipelines(daemon)) if part]
        what = ", ".join(parts)
        print(f"pfsd at {daemon.address} has {what}: all of it goes, and nothing brings it back.")
        if not confirm("Are you sure you want to delete all repos, commits, files, pipelines and jobs? yN"):
            remark("nothing was deleted")
            return 1
        try:
            with daemon.errors():
                daemon.pps.DeleteAll(Empty())
        except UnimplementedError:
            # A daemon without the pipeline service has no pipelines to delete.
            pass
        daemon.pfs.DeleteAll(Empty())
    return 0


COMMANDS = {
    "version": Command(
        run=version,
        description="Return the versions of the API and of pfsd, of this client and of the daemon.",
        examples=("pachctl version",),
    ),
    "delete-all": Command(
        run=delete_all,
        description="Delete all repos, commits, files, pipelines and jobs, after telling how\n"
        "much there is and asking on standard input.",
        examples=("pachctl delete-all", "# without being asked", "echo y | pachctl delete-all"),
    ),
}
