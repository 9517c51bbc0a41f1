"""Printing: tables, blocks and raw messages on standard output, remarks on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pachctl.terminal import format
from pfsd.redact import redacted

TABLE_BLOCK = 10_000
"""Rows of a long table that are held to find the columns' widths."""

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp


def print_table(
    rows: Sequence[Sequence[str]], min_width: int = format.MIN_WIDTH, padding: int = format.PADDING
) -> None:
    """Prints rows of which the first is the header."""
    for text in format.table(rows, min_width, padding):
        print(text)


def print_long_table(rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of which the first is the header, however many they are.

    The columns fit the first TABLE_BLOCK rows, and grow for later ones.
    """
    rows = iter(rows)
    columns: list[int] = []
    while block := list(islice(rows, TABLE_BLOCK)):
        shown = [[format.printable(cell) for cell in row] for row in block]
        needed = format.widths(shown)
        columns = [max(pair) for pair in zip(columns or needed, needed, strict=True)]
        print("\n".join(format.line(row, columns) for row in shown))


def print_raw(messages: Iterable[Message]) -> None:
    """Prints each message in protobuf's JSON mapping, as it comes."""
    for message in messages:
        print(as_json(message), flush=True)


def as_json(message: Message, *, field_names: bool = False, on_one_line: bool = False) -> str:
    """A message in protobuf's JSON mapping; with `field_names`, named as in specs, not in camel case."""
    from google.protobuf import json_format

    text: str = json_format.MessageToJson(
        message,
        indent=None if on_one_line else 2,
        ensure_ascii=False,
        preserving_proto_field_name=field_names,
    )
    return text


def remark(text: str) -> None:
    """Prints a line on standard error, without the secrets of URLs in it."""
    print(redacted(text), file=sys.stderr, flush=True)


def ago(moment: Timestamp) -> str:
    """How long before now `moment` was, in words."""
    return format.ago(time.time_ns() - _ns(moment))


def between(start: Timestamp, end: Timestamp) -> str:
    """The time from `start` to `end`, in words."""
    return format.duration(_ns(end) - _ns(start))


def span(duration: Duration) -> str:
    """A duration in words."""
    return format.duration(_ns(duration))


def confirm(question: str) -> bool:
    """Asks on standard output; whether standard input answers yes."""
    print(question, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _ns(value: Timestamp | Duration) -> int:
    return value.seconds * 1_000_000_000 + value.nanos
