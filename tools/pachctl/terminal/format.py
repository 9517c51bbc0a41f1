"""Values as the words and columns that are printed. Pure: nothing here reads a clock or a daemon.

Durations, sizes and columns are those that users of Pachyderm 1.5 know, whose client builds them with
docker/go-units and Go's text/tabwriter.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

MIN_WIDTH = 20
PADDING = 3

TEXT_WIDTH = 79
"""Of lines of help: all terminals have 80 columns."""

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_NS = 1_000_000_000
_CONTROL = {code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


def duration(nanoseconds: int) -> str:
    """A span of time in words: `Less than a second`, `12 seconds`, `About an hour`, `3 weeks`."""
    seconds = nanoseconds // _NS
    minutes = seconds // 60
    hours = (seconds + 1800) // 3600
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def ago(nanoseconds: int) -> str:
    """How long ago something was, in words."""
    return f"{duration(nanoseconds)} ago"


def moment(nanoseconds: int) -> str:
    """A time since 1970 to the nanosecond, in UTC; as seconds where no calendar has it."""
    seconds, rest = divmod(nanoseconds, _NS)
    try:
        shown = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds}.{rest:09d}"
    return f"{shown}.{rest:09d}Z"


def size(count: int) -> str:
    """A number of bytes, to four digits in binary units: `0B`, `57.27KiB`."""
    value = float(count)
    unit = 0
    while value >= 1024 and unit < len(_SIZE_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.4g}{_SIZE_UNITS[unit]}"


def printable(text: str) -> str:
    """`text` on one line: control characters, which could also steer the terminal, are shown as escapes."""
    return text.translate(_CONTROL)


def widths(rows: Sequence[Sequence[str]], min_width: int = MIN_WIDTH, padding: int = PADDING) -> list[int]:
    """The columns' widths in characters: each holds its longest cell and the padding."""
    return [max(min_width, max(map(len, column)) + padding) for column in zip(*rows, strict=True)]


def line(cells: Sequence[str], columns: Sequence[int]) -> str:
    """One row of a table, without the blanks after its last cell."""
    return "".join(cell.ljust(width) for cell, width in zip(cells, columns, strict=True)).rstrip(" ")


def table(rows: Sequence[Sequence[str]], min_width: int = MIN_WIDTH, padding: int = PADDING) -> list[str]:
    """The lines of a table whose first row is the header."""
    shown = [[printable(cell) for cell in row] for row in rows]
    columns = widths(shown, min_width, padding)
    return [line(row, columns) for row in shown]


def filled(text: str, indent: str = "") -> str:
    """Prose broken anew so that it fits a terminal; lines that are indented, or begin with `- `, stay as they are."""
    import textwrap  # only help needs it

    done: list[str] = []
    prose: list[str] = []

    def end_prose() -> None:
        if prose:
            done.extend(textwrap.wrap(" ".join(prose), TEXT_WIDTH - len(indent), break_on_hyphens=False))
            prose.clear()

    for each in text.splitlines():
        if each and not each.startswith((" ", "- ")):
            prose.append(each)
        else:
            end_prose()
            done.append(each)
    end_prose()
    return "\n".join(f"{indent}{each}".rstrip() for each in done)
