"""What is left when a command, its runner or its client ends: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio
from trio.testing import trio_test

from pfsd.errors import UnavailableError
from ppsd.worker.runner import Runner, RunnerError
from tests.support.runners import CLIENT, ENV, LIMIT, PROGRAM, RUNAWAY, Outputs, ended, opened, run, wait_for_end

# ---- what a command leaves behind ------------------------------------------------------------------------


@trio_test
async def test_leftover_processes_are_killed_and_hold_nothing_up() -> None:
    async with opened() as runner:
        finished, outputs = await run(runner, "sh", "-c", f"{RUNAWAY}; sleep 1000 & echo $!; {RUNAWAY}; exit 5")
        assert finished.exit_code == 5
        pids = [int(word) for word in outputs.stdout.split()]
        assert len(pids) == 3
        assert all(ended(pid) for pid in pids)


@trio_test
async def test_cancelling_kills_every_process_and_the_runner_goes_on() -> None:
    async with opened() as runner:
        for _ in range(3):
            outputs = Outputs(lines=2)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(outputs: Outputs = outputs, scope: trio.CancelScope = scope) -> None:
                        await outputs.ready.wait()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    script = f"trap '' TERM INT HUP; {RUNAWAY}; sleep 1000 & echo $$ $!; wait"
                    await runner.run(["sh", "-c", script], env=ENV, cwd="/", on_output=outputs)
            assert scope.cancelled_caught
            pids = [int(word) for word in outputs.stdout.split()]
            assert len(pids) == 3
            assert all(ended(pid) for pid in pids)
            finished, outputs = await run(runner, "echo", "next")
            assert (finished.exit_code, outputs.stdout) == (0, b"next\n")


@trio_test
async def test_cancelling_at_any_time_leaves_nothing_to_the_next_command() -> None:
    async with opened() as runner:
        for steps in range(30):  # the first ones while standard input is being sent
            async with trio.open_nursery() as nursery:

                async def first(scope: trio.CancelScope = nursery.cancel_scope) -> None:
                    await run(runner, "cat", stdin=bytes(4 << 20))
                    scope.cancel()

                nursery.start_soon(first)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            _, outputs = await run(runner, "cat", stdin=b"mine")
            assert outputs.stdout == b"mine"


@trio_test
async def test_error_in_on_output_ends_the_command() -> None:
    def refuse(_which: int, data: bytes) -> None:
        raise ValueError(data.decode())

    async with opened() as runner:
        with pytest.raises(ValueError, match=r"\d+") as caught:
            await runner.run(["sh", "-c", "echo $$; sleep 1000"], env=ENV, cwd="/", on_output=refuse)
        assert ended(int(str(caught.value)))
        finished, _ = await run(runner, "true")
        assert finished.exit_code == 0


@trio_test
async def test_commands_wait_for_their_turn() -> None:
    results: list[bytes] = []
    async with opened() as runner, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            _, outputs = await run(runner, "echo", str(number))
            results.append(outputs.stdout)

        for number in range(5):
            nursery.start_soon(one, number)
    assert sorted(results) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


# ---- when a side dies ------------------------------------------------------------------------------------


@trio_test
async def test_runner_killed() -> None:
    outputs = Outputs()
    async with opened() as runner, trio.open_nursery() as nursery:

        async def kill() -> None:
            await outputs.ready.wait()
            runner_pid, command_pid = map(int, outputs.stdout.split())
            with open(os.pidfd_open(command_pid)) as pidfd:
                os.kill(runner_pid, signal.SIGKILL)
                await trio.to_thread.run_sync(wait_for_end, [pidfd.fileno()])

        nursery.start_soon(kill)
        command = ["sh", "-c", "echo $PPID $$; exec sleep 1000"]
        with pytest.raises(RunnerError, match="killed by signal 9") as caught:
            await runner.run(command, env=ENV, cwd="/", on_output=outputs)
        assert isinstance(caught.value, UnavailableError)
        with pytest.raises(RunnerError, match="takes no more commands"):
            await run(runner, "true")


@trio_test
async def test_leaving_stops_the_runner_and_what_it_runs() -> None:
    outputs = Outputs(lines=2)
    with trio.fail_after(LIMIT):
        async with Runner.open(PROGRAM, os.environ) as runner, trio.open_nursery() as nursery:

            async def background() -> None:
                command = ["sh", "-c", f"{RUNAWAY}; echo $PPID $$; exec sleep 1000"]
                await runner.run(command, env=ENV, cwd="/", on_output=outputs)

            nursery.start_soon(background)
            await outputs.ready.wait()
            nursery.cancel_scope.cancel()
    pids = [int(word) for word in outputs.stdout.split()]
    assert len(pids) == 3
    assert all(ended(pid) for pid in pids)


def test_client_killed() -> None:
    script = f"sleep 1000 & echo $PPID $$ $!; {RUNAWAY}; exec sleep 1000"
    client = subprocess.Popen([sys.executable, "-c", CLIENT, script], stdout=subprocess.PIPE)
    with client:
        try:
            assert client.stdout is not None
            pids = [int(word) for _ in range(2) for word in client.stdout.readline().split()]
            assert len(pids) == 4
            pidfds = [os.pidfd_open(pid) for pid in pids]
        finally:
            client.kill()
    try:
        wait_for_end(pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
