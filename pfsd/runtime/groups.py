"""Turns an exception group of one exception, as nurseries raise them, back into that exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise an exception group's only exception instead of the group.

    Cancellation beside it does not count. A group of several is raised as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, rest = group.split(trio.Cancelled)
        leaves = [] if rest is None else list(_leaves(rest))
        if len(leaves) == 1:
            raise leaves[0] from None
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
