"""What a datum cost, as messages of the wire."""

from __future__ import annotations

from pachproto import pps_pb2
from ppsd.specs import durations
from ppsd.storage.records import Stats


def to_wire(stats: Stats) -> pps_pb2.ProcessStats:
    """What datums cost."""
    return pps_pb2.ProcessStats(
        download_time=durations.to_wire(stats.download_ns),
        process_time=durations.to_wire(stats.process_ns),
        upload_time=durations.to_wire(stats.upload_ns),
        download_bytes=stats.download_bytes,
        upload_bytes=stats.upload_bytes,
    )


def from_wire(stats: pps_pb2.ProcessStats) -> Stats:
    """What a worker says that a datum cost; raises InvalidError for what it can't have."""
    return Stats(
        durations.from_wire(stats.download_time, "download_time"),
        durations.from_wire(stats.process_time, "process_time"),
        durations.from_wire(stats.upload_time, "upload_time"),
        stats.download_bytes,
        stats.upload_bytes,
    )
