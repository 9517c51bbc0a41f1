"""Where a sparse file holds data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """The ranges of [start, end) of an open file, in order, each with whether it holds data; the rest reads as zeros.

    Everything is data where the file system can't tell.
    """
    while start < end:
        try:
            data = min(os.lseek(fd, start, os.SEEK_DATA), end)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = end
        if data > start:
            yield start, data, False
        if data < end:
            start = min(os.lseek(fd, data, os.SEEK_HOLE), end)
            yield data, start, True
        else:
            start = end
