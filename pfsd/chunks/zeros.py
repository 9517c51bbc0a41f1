"""The chunk that holes consist of."""

from __future__ import annotations

import functools

from blake3 import blake3

from pfsd._core import MAX_CHUNK, next_cut

ZERO_CHUNK = next_cut(bytes(2 * MAX_CHUNK), 0)
"""Size of the chunks that zeros are cut into."""


@functools.cache
def zero_chunk_hash() -> bytes:
    """The hash of a chunk of that size."""
    return blake3(bytes(ZERO_CHUNK)).digest()
