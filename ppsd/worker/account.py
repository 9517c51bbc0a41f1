"""How a datum went, as the tree that a worker stores of it where `enable_stats` asks for it. Pure.

/DATUM/stats        what it cost: the JSON of a `ProcessStats`
/DATUM/job:JOB      empty: the job that computed it
/DATUM/logs         the end of what user code printed
/DATUM/failure      why it failed, if it did
/DATUM/pfs/INPUT/.. what it was shown, and
/DATUM/pfs/out      what it put out: neither is copied
"""

from __future__ import annotations

from google.protobuf import json_format

from pachproto import pfsd_pb2, ppsd_pb2
from pfsd.trees import entries
from pfsd.trees.entries import DirEntry
from ppsd.storage.records import Stats

MAX_LOG_BYTES = 512 << 10
"""How much is kept of what user code prints: the end of it."""


class Tail:
    """The end of what user code prints."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what was printed."""
        self._kept += data
        if len(self._kept) > 2 * MAX_LOG_BYTES:
            del self._kept[:-MAX_LOG_BYTES]

    def text(self) -> bytes:
        """What is kept."""
        return bytes(self._kept[-MAX_LOG_BYTES:])


def sentence(assignment: ppsd_pb2.Assignment, stats: Stats, error: str) -> str:
    """The same in one sentence, for the log of a pipeline that asks for it (`transform.debug`)."""
    shown = ", ".join(
        f"/pfs/{one.name}{one.path} of {one.commit.repo.name}/{one.commit.id}" for one in assignment.inputs
    )
    begun = f", beginning with the output {assignment.former_tag}" if assignment.former_tag else ""
    return (
        f"datum {assignment.datum_id} was shown {shown}{begun}: {stats.download_ns / 1e6:.1f} ms to get ready, "
        f"{stats.process_ns / 1e6:.1f} ms in {list(assignment.transform.cmd)}, {stats.upload_ns / 1e6:.1f} ms to store "
        f"{stats.upload_bytes} bytes of output" + (f"; it failed: {error}" if error else "")
    )


def writes(
    assignment: ppsd_pb2.Assignment, outcome: ppsd_pb2.Outcome, said: bytes, output: DirEntry | None
) -> list[pfsd_pb2.TreeWrite]:
    """The tree of a datum that was computed, or has failed (without output)."""
    top = f"/{assignment.datum_id}"
    stats = json_format.MessageToJson(outcome.stats, indent=None, always_print_fields_with_no_presence=True)
    found = [
        pfsd_pb2.TreeWrite(path=f"{top}/stats", data=f"{stats}\n".encode()),
        pfsd_pb2.TreeWrite(path=f"{top}/job:{assignment.job_id}", data=b""),
        pfsd_pb2.TreeWrite(path=f"{top}/logs", data=said),
    ]
    if outcome.error:
        found.append(pfsd_pb2.TreeWrite(path=f"{top}/failure", data=f"{outcome.error}\n".encode()))
    for one in assignment.inputs:
        path = "" if one.path == "/" else one.path
        found.append(pfsd_pb2.TreeWrite(path=f"{top}/pfs/{one.name}{path}", entry=one.entry))
    if output is not None:
        found.append(pfsd_pb2.TreeWrite(path=f"{top}/pfs/out", entry=entries.encode(output)))
    return found
