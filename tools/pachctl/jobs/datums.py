"""The commands about datums."""

from __future__ import annotations

from pachctl.jobs.jobs import process_stats
from pachctl.terminal.command import Arguments, Command, add_raw_option
from pachctl.terminal.connection import connect
from pachctl.terminal.output import print_raw, print_table
from pachctl.terminal.states import DATUM_STATES
from pachproto import pps_pb2

HEADER = ("ID", "STATUS", "FILES")


def row(info: pps_pb2.DatumInfo) -> tuple[str, ...]:
    """A datum's line of the table."""
    return info.datum.id, DATUM_STATES[info.state], " ".join(file.path for file in info.data)


def block(info: pps_pb2.DatumInfo) -> list[str]:
    """A datum's lines when it is inspected."""
    lines = [f"ID: {info.datum.id}", f"Job ID: {info.datum.job.id}", f"State: {DATUM_STATES[info.state]}"]
    if info.HasField("stats"):
        lines += process_stats(info.stats)
    if info.HasField("pfs_state"):
        lines.append(f"Stats Commit: {info.pfs_state.commit.id}")
    return [*lines, "Files:", *(f"  {file.path}  {file.hash.hex()}" for file in info.data)]


def list_datum(arguments: Arguments) -> None:
    """Prints the datums of a job."""
    (job,) = arguments.operands
    with connect() as daemon:
        infos = daemon.pps.ListDatum(pps_pb2.ListDatumRequest(job=pps_pb2.Job(id=job))).datum_info
    if arguments.raw:
        print_raw(infos)
    else:
        print_table([HEADER, *map(row, infos)])


def inspect_datum(arguments: Arguments) -> None:
    """Prints one datum."""
    job, datum = arguments.operands
    request = pps_pb2.InspectDatumRequest(datum=pps_pb2.Datum(id=datum, job=pps_pb2.Job(id=job)))
    with connect() as daemon:
        info = daemon.pps.InspectDatum(request)
    if arguments.raw:
        print_raw([info])
    else:
        print("\n".join(block(info)))


def restart_datum(arguments: Arguments) -> None:
    """Begins anew what a worker computes."""
    job, files = arguments.operands
    filters = [text for text in files.split(",") if text]
    with connect() as daemon:
        daemon.pps.RestartDatum(pps_pb2.RestartDatumRequest(job=pps_pb2.Job(id=job), data_filters=filters))


COMMANDS = {
    "list-datum": Command(
        run=list_datum,
        operands=("JOB",),
        options=add_raw_option,
        description="Return the datums of a job, in the order in which their output is put together.",
        examples=("pachctl list-datum 1b2c1b49f536484fb0e307b3906572be",),
    ),
    "inspect-datum": Command(
        run=inspect_datum,
        operands=("JOB", "DATUM"),
        options=add_raw_option,
        description="Return info about a datum, given as list-datum shows it.",
        examples=("pachctl inspect-datum 1b2c1b49f536484fb0e307b3906572be DATUM",),
    ),
    "restart-datum": Command(
        run=restart_datum,
        operands=("JOB", "PATH[,PATH...]"),
        description="Start again a datum that a worker is computing now, and that has all the given files,\n"
        "written as paths in a repo or as hashes.",
        examples=("pachctl restart-datum 1b2c1b49f536484fb0e307b3906572be /apple.txt",),
    ),
}
