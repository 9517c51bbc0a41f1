"""How long calls of a mount wait for a daemon that is away."""

from __future__ import annotations

import grpc
import pytest
import trio
import trio.testing

from pfsd.errors import UnavailableError
from pfsfuse.client.daemon import Daemon


class _Away(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "nobody is there"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_a_call_that_is_not_repeated_does_not_make_the_others_impatient() -> None:
    daemon = Daemon("127.0.0.1:1", patience=20.0)
    waits: list[float] = []

    def fails(_request: object, timeout: float, **_: object) -> None:
        waits.append(timeout)
        raise _Away

    def answers(_request: object, timeout: float, **_: object) -> str:
        waits.append(timeout)
        return "answer"

    async def run() -> None:
        with pytest.raises(UnavailableError):
            await daemon.call(fails, None, repeat=False)
        assert await daemon.call(answers, None) == "answer"

    try:
        trio.run(run, clock=trio.testing.MockClock())
    finally:
        daemon.close()
    assert waits == [20.0, 20.0]
