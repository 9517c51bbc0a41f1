"""Slots and turns, without threads: who goes on, in which order, and what cancelling gives back."""

from __future__ import annotations

import asyncio

import pytest

from pfsd.errors import BusyError
from pfsd.runtime import slots
from pfsd.runtime.slots import Slots


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_clients_take_turns_however_many_calls_one_has() -> None:
    async def run() -> list[str]:
        place, order = Slots("work", 1, 1), []

        async def call(client: str) -> None:
            await place.take(client)
            order.append(client)
            place.give_back(client)

        await place.take("first")
        async with asyncio.TaskGroup() as group:
            for client in ["greedy"] * 5 + ["b", "c", "b"]:
                group.create_task(call(client))
            await settle()
            place.give_back("first")
        assert place.is_idle
        return order

    assert asyncio.run(run()) == ["greedy", "b", "c", "greedy", "b", "greedy", "greedy", "greedy"]


def test_one_client_never_holds_all() -> None:
    async def run() -> None:
        place = Slots("work", 4, 3)
        assert [place.take_at_once("greedy") for _ in range(5)] == [True, True, True, False, False]
        assert place.take_at_once("other")
        assert not place.take_at_once("other")
        waiting = asyncio.create_task(place.take("greedy"))
        await settle()
        place.give_back("other")
        await settle()
        assert not waiting.done()  # it has as many as one may have
        place.give_back("greedy")
        await waiting

    asyncio.run(run())


def test_cancelling_gives_up_the_place_at_once_also_one_that_has_just_come() -> None:
    async def run() -> None:
        place = Slots("work", 1, 1)
        await place.take("a")
        waiting = [asyncio.create_task(place.take("b")) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        place.give_back("a")  # before the cancelled one has run
        waiting[1].cancel()  # to which the place has just been given
        await settle()
        assert [task.cancelled() for task in waiting] == [True, True, False]
        await waiting[2]
        place.give_back("b")
        assert place.is_idle

    asyncio.run(run())


def test_a_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "WAITING_OF_ONE", 2)

    async def run() -> None:
        place = Slots("fetching", 1, 1)
        await place.take("a")
        waiting = [asyncio.create_task(place.take("a")) for _ in range(2)]
        await settle()
        with pytest.raises(BusyError, match="too many calls wait for fetching"):
            await place.take("a")
        others = asyncio.create_task(place.take("b"))  # there is room for others
        await settle()
        for task in (*waiting, others):
            task.cancel()
        await settle()
        place.give_back("a")
        assert place.is_idle

    asyncio.run(run())
