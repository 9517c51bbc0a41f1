"""What the mount is to reach, beside what it does: one table of all that was measured in a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.bench.measure import Sample, compare
from tools.bench.peers import JUICEFS
from tools.bench.places import DISK, PFSD

_WIDTHS = (44, 10, 10, 10, 14, 11, 10, 5, 10, 9, 9)
_HEADINGS = ("", "pfsd", "JuiceFS", "disk", "JuiceFS/pfsd", "pfsd/disk", "target", "", "requests", "mount", "daemon")


@dataclass(frozen=True, slots=True)
class Goal:
    """How fast the mount is to be: at most so many times the disk's time, or so many times as fast as JuiceFS."""

    times_disk: float | None = None
    faster_than_juicefs: float | None = None

    def __str__(self) -> str:
        if self.times_disk is not None:
            return f"<= {self.times_disk:g}"
        return f"J >= {self.faster_than_juicefs:g}" if self.faster_than_juicefs is not None else ""

    def is_met(self, pfsd: float, juicefs: float | None, disk: float | None) -> bool | None:
        """Whether it is; None where nothing says so."""
        if self.times_disk is not None:
            return None if disk is None else pfsd <= self.times_disk * disk
        if self.faster_than_juicefs is not None:
            return None if juicefs is None else juicefs >= self.faster_than_juicefs * pfsd
        return None


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    seconds: Mapping[str, float]
    pfsd: Sample
    amount: float
    goal: Goal


@dataclass(slots=True)
class Goals:
    """The rows of a run."""

    _rows: list[_Row] = field(default_factory=list)

    def compare(
        self, title: str, samples: Mapping[str, Sequence[Sample]], amount: float, unit: str, goal: Goal | None = None
    ) -> None:
        """Print a table of contenders, the first of which is pfsd, and keep its row for the end."""
        compare(title, samples, amount, unit)
        seconds = {name: statistics.median(sample.seconds for sample in own) for name, own in samples.items()}
        self._rows.append(_Row(title, seconds, samples[PFSD][-1], amount, goal or Goal()))

    def show(self) -> None:
        """Print what was kept."""
        if not self._rows:
            return
        print(
            "\nbeside the targets; requests of the kernel, and us of processor time in mount and daemon, for each file"
        )
        _print(_HEADINGS)
        for row in self._rows:
            _print(_cells(row))
        print("\nrequests for each file, by kind")
        for row in self._rows:
            kinds = sorted(row.pfsd.requests.items(), key=lambda each: -each[1])
            shown = [f"{kind} {count / row.amount:.3f}" for kind, count in kinds if count / row.amount >= 0.001]
            print(f"  {row.title:42}{', '.join(shown)}", flush=True)


def _cells(row: _Row) -> list[str]:
    pfsd, juicefs, disk = (row.seconds.get(name) for name in (PFSD, JUICEFS, DISK))
    assert pfsd is not None
    met = row.goal.is_met(pfsd, juicefs, disk)
    return [
        f"  {row.title}",
        *("" if seconds is None else f"{seconds:.3f} s" for seconds in (pfsd, juicefs, disk)),
        "" if juicefs is None else f"{juicefs / pfsd:.2f}",
        "" if disk is None else f"{pfsd / disk:.2f}",
        str(row.goal),
        "" if met is None else "met" if met else "no",
        f"{sum(row.pfsd.requests.values()) / row.amount:.3f}",
        _each(row.pfsd.mount_seconds, row.amount),
        _each(row.pfsd.server_seconds, row.amount),
    ]


def _each(seconds: float | None, amount: float) -> str:
    return "" if seconds is None else f"{seconds / amount * 1e6:,.0f}"


def _print(cells: Sequence[str]) -> None:
    first, *others = zip(cells, _WIDTHS, strict=True)
    print(first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others), flush=True)
