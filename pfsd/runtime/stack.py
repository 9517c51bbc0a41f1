"""How deep a process may recurse: directories are walked by recursion, and requests may be nested without end."""

from __future__ import annotations

import resource
import sys
import threading

RECURSION_LIMIT = 20_000
"""Directories are walked recursively, a few Python frames for each of up to `paths.MAX_DEPTH` levels."""

FRAME_BYTES = 600
"""What a level may take of the stack: of generators in one another about 420, of JSON less."""
_BESIDE_BYTES = 256 << 10
"""For all else."""
STACK_BYTES = RECURSION_LIMIT * FRAME_BYTES + _BESIDE_BYTES
_PAGE = 1 << 16


def allow_depth() -> None:
    """Let this process recurse to RECURSION_LIMIT, with stacks that bear it; before it has other threads.

    Where the stack of the main thread may not grow so far, the limit is lower: what is too deep has to raise
    RecursionError, and must not end the process.
    """
    threading.stack_size(-(-STACK_BYTES // _PAGE) * _PAGE)
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
    sys.setrecursionlimit(RECURSION_LIMIT if wanted == STACK_BYTES else (wanted - _BESIDE_BYTES) // FRAME_BYTES)
