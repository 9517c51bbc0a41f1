"""Calls from the server's loop into the trio loop, while that stops."""

from __future__ import annotations

import asyncio

import pytest
import trio

from pfsd.bridge import Bridge
from pfsd.errors import UnavailableError


def call(bridge: Bridge, function: object) -> None:
    asyncio.run(bridge.in_trio(function))  # type: ignore[arg-type]


def test_a_call_that_comes_too_late_is_refused() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            bridge = Bridge(nursery)
        with pytest.raises(UnavailableError, match="shutting down"):
            await trio.to_thread.run_sync(call, bridge, trio.sleep_forever)

    trio.run(main)


def test_a_call_that_is_cut_off_is_refused() -> None:
    async def main() -> None:
        begun = trio.Event()

        async def wait() -> None:
            begun.set()
            await trio.sleep_forever()

        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            bridge = Bridge(nursery)

            async def ask() -> None:
                with pytest.raises(UnavailableError, match="shutting down"):
                    await trio.to_thread.run_sync(call, bridge, wait)

            outer.start_soon(ask)
            await begun.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
