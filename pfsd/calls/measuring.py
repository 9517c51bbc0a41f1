"""What is counted of the calls that this process serves, by method; whoever wants to know asks `measures`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Seconds; a call is counted in the first group whose bound it does not exceed, or in the one beyond all."""


@dataclass(slots=True)
class Measure:
    """Of one method. Changed in the loop's thread alone."""

    open: int = 0
    """Calls that have not ended."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Calls that have, by the name of their status."""
    seconds: float = 0.0
    """Which those took, ..."""
    groups: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """... and how many of them took how long."""
    received: int = 0
    """Bytes of requests, ..."""
    sent: int = 0
    """... and of answers."""


measures: dict[str, Measure] = {}
"""By the full name of the method."""


def measure_of(method: str) -> Measure:
    """That of a method."""
    found = measures.get(method)
    if found is None:
        found = measures[method] = Measure()
    return found


class Outcome:
    """How a call ends; OK unless it is told otherwise."""

    status = "OK"


@contextmanager
def measured(method: str) -> Iterator[Outcome]:
    """What the block does is a call of a method."""
    measure, outcome, began = measure_of(method), Outcome(), time.monotonic()
    measure.open += 1
    try:
        yield outcome
    finally:
        took = time.monotonic() - began
        measure.open -= 1
        measure.outcomes[outcome.status] += 1
        measure.seconds += took
        measure.groups[bisect_left(BOUNDS, took)] += 1


WAITING = frozenset(
    (
        "grpc.health.v1.Health.Watch",
        "pfs.API.FlushCommit",
        "pfs.API.SubscribeCommit",
        "pfsd.Records.HoldLease",
        "pfsd.Store.Attach",
        "pfsd.Store.HoldCommit",
        "pfsd.Store.PutTrees",
        "pfsd.Store.WatchChanges",
        "pps.API.GetLogs",
        "pps.API.InspectJob",
        "ppsd.Logs.Read",
        "ppsd.Workers.Work",
    )
)
"""Methods whose calls may wait for something to happen, or for another message, for as long as it takes."""


def busy_calls() -> int:
    """How many calls are open that do something, rather than wait."""
    return sum(measure.open for method, measure in list(measures.items()) if method not in WAITING)
