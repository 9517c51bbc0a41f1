"""Enclosed commands see nothing of others, and can't end their runner."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import trio
from trio.testing import trio_test

from ppsd.worker.runner import Runner, RunnerError
from tests.support.runners import CLIENT, LIMIT, PROGRAM, RUNAWAY, ended, opened, run, wait_for_end

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")


def inside(pid: int) -> list[int]:
    """The processes that are in the PID namespace of process `pid`."""
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found += [int(entry.name)] if os.readlink(entry / "ns/pid") == namespace else []
            except OSError:  # it has ended
                continue
    return found


@needs_root
@trio_test
async def test_enclosed_commands_see_their_own_processes_and_nothing_in_hidden_directories(
    tmp_path: pathlib.Path,
) -> None:
    hidden, other = tmp_path / "hidden", tmp_path / "other"
    for directory in (hidden, other):
        directory.mkdir()
        (directory / "file").touch()
    async with opened() as runner:
        enclosure = await runner.enclose([str(hidden), str(tmp_path / "absent")])
        assert enclosure.refused == ""
        script = f"ls {hidden} {other}; touch {hidden}/new || echo no; echo /proc/[0-9]* $$; ls /proc/1/fd >/dev/null"
        for number in range(1, 3):
            finished, outputs = await run(runner, "bash", "-c", script)
            assert finished.exit_code == 0, outputs.stderr
            *lines, processes = outputs.stdout.decode().splitlines()
            assert lines == [f"{hidden}:", "", f"{other}:", "file", "no"]
            first, own, shell = processes.split()
            assert (first, own) == ("/proc/1", f"/proc/{shell}"), number
        assert inside(enclosure.pid) == [enclosure.pid]
        assert sorted(os.listdir(f"/proc/{enclosure.pid}/root{tmp_path}")) == ["hidden", "other"]
        assert os.listdir(f"/proc/{enclosure.pid}/root{hidden}") == []
    assert os.listdir(hidden) == ["file"]
    assert ended(enclosure.pid)


@needs_root
@trio_test
async def test_nothing_that_an_enclosed_command_leaves_outlives_it() -> None:
    async with opened() as runner:
        enclosure = await runner.enclose([])
        finished, _ = await run(runner, "bash", "-c", f"for i in $(seq 20); do {RUNAWAY} & done; wait; exit 3")
        assert finished.exit_code == 3
        assert inside(enclosure.pid) == [enclosure.pid]


@needs_root
@trio_test
async def test_an_enclosed_command_can_not_end_the_runner() -> None:
    async with opened() as runner:
        await runner.enclose([])
        script = "for s in TERM INT HUP USR1 KILL STOP; do kill -$s 1; done; echo alive"
        for _ in range(2):
            finished, outputs = await run(runner, "bash", "-c", script)
            assert (finished.exit_code, outputs.stdout) == (0, b"alive\n")


@needs_root
@pytest.mark.parametrize("victim", ["client", "outer", "inner"])
def test_what_is_enclosed_ends_with_whichever_is_killed(victim: str) -> None:
    script = f"{RUNAWAY}; sleep 1000"
    client = subprocess.Popen([sys.executable, "-c", CLIENT, script, "/no/such"], stdout=subprocess.PIPE)
    pidfds: list[int] = []
    with client:
        try:
            assert client.stdout is not None
            client.stdout.readline()
            [outer] = children(client.pid)
            [inner] = children(outer)
            processes = inside(inner)
            assert len(processes) >= 3
            for pid in (outer, *processes):
                with contextlib.suppress(ProcessLookupError):  # the shell starts some that end at once
                    pidfds.append(os.pidfd_open(pid))
            assert len(pidfds) >= 3
            os.kill({"client": client.pid, "outer": outer, "inner": inner}[victim], signal.SIGKILL)
            wait_for_end(pidfds)
        finally:
            client.kill()
            for pidfd in pidfds:
                os.close(pidfd)


def children(pid: int) -> list[int]:
    files = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in files for word in file.read_text().split()]


def without_pid_namespaces(directory: pathlib.Path) -> str:
    """A runner in a user namespace whose processes may not make PID namespaces."""
    program = directory / "runner"
    inner = f'echo 0 > /proc/sys/user/max_pid_namespaces && exec {PROGRAM} "$@"'
    program.write_text(f"#!/bin/sh\nexec unshare --user --map-root-user sh -c '{inner}' sh \"$@\"\n")
    program.chmod(0o755)
    return str(program)


@needs_root
@trio_test
async def test_what_the_kernel_refuses_is_told_and_the_rest_holds(tmp_path: pathlib.Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").touch()
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("user namespaces can't be made here")
    with trio.fail_after(LIMIT):
        async with Runner.open(without_pid_namespaces(tmp_path), os.environ) as runner:
            enclosure = await runner.enclose([str(hidden)])
            assert "the processes of others can be seen, for there is no PID namespace" in enclosure.refused
            finished, outputs = await run(runner, "sh", "-c", f"ls -A {hidden}; {RUNAWAY}")
            assert finished.exit_code == 0
            assert ended(int(outputs.stdout))


@trio_test
async def test_a_runner_is_enclosed_once_and_before_its_first_command() -> None:
    async with opened() as runner:
        await run(runner, "true")
        with pytest.raises(RunnerError, match="ended with exit status 2"):
            await runner.enclose([])
