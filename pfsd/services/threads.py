"""Running the store's blocking code for asyncio handlers."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 64
"""More than run at a time: some wait for a commit's lock while another one writes, and must not hold up the rest."""

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call made in a thread. It has the caller's context.

    Once begun, it runs to its end even when the waiting is cancelled.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    return await loop.run_in_executor(_pool, lambda: context.run(function, *args, **kwargs))


async def stream_in_thread(items: Iterable[T], at_once: int = 1) -> AsyncIterator[list[T]]:
    """The items of an iterable that blocks, in lists of up to `at_once`."""
    iterator = iter(items)
    while batch := await in_thread(_take, iterator, at_once):
        yield batch


def _take(iterator: Iterator[Any], count: int) -> list[Any]:
    return list(itertools.islice(iterator, count))
