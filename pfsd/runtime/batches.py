"""Many items, a bounded number at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Items in lists of `most`, the last one shorter; each is taken when it is asked for."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, most)):
        yield batch
