"""Turns an exception group of one exception, as nurseries raise them, back into that exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from pfsd.errors import leaves


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise an exception group's only exception instead of the group.

    Cancellation beside it does not count. A group of several is raised as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        _, rest = group.split(trio.Cancelled)
        found = [] if rest is None else leaves(rest)
        if len(found) == 1:
            raise found[0] from None
        raise
