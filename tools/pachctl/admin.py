"""The commands about the whole daemon: version and delete-all."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from pfsd.version import API_VERSION
from tools.pachctl import format
from tools.pachctl.command import Arguments, Command
from tools.pachctl.connection import UnimplementedError, connect
from tools.pachctl.output import confirm, remark

_COLUMNS = (format.MIN_WIDTH, 0)


def version(arguments: Arguments) -> None:
    """Prints the API version of the client, then the daemon's."""
    print(format.line(("COMPONENT", "VERSION"), _COLUMNS))
    print(format.line(("pachctl", ".".join(map(str, API_VERSION))), _COLUMNS))
    with connect() as daemon:
        answer = daemon.version.GetVersion(Empty())
    text = f"{answer.major}.{answer.minor}.{answer.micro}{answer.additional}"
    print(format.line(("pachd", text), _COLUMNS))


def delete_all(arguments: Arguments) -> int:
    """Deletes everything, once the user agrees."""
    if not confirm("Are you sure you want to delete all repos, commits, files, pipelines and jobs? yN"):
        remark("nothing was deleted")
        return 1
    try:
        with connect() as daemon:
            daemon.pps.DeleteAll(Empty())
    except UnimplementedError:
        # A daemon without the pipeline service has no pipelines to delete.
        pass
    with connect() as daemon:
        daemon.pfs.DeleteAll(Empty())
    return 0


COMMANDS = {
    "version": Command(
        run=version,
        description="Return the API versions of this client and of the daemon.",
        examples=("pachctl version",),
    ),
    "delete-all": Command(
        run=delete_all,
        description="Delete all repos, commits, files, pipelines and jobs, after asking on standard input.",
        examples=("pachctl delete-all", "# without being asked", "echo y | pachctl delete-all"),
    ),
}
