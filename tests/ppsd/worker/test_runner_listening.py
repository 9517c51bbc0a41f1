"""The runner that listens on a path, as in containers."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import stat
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import trio_test

from ppsd.worker.runner import Runner, RunnerError
from tests.support.runners import LIMIT, PROGRAM, STATIC, ended, run, until, wait_for_end


def answers(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@asynccontextmanager
async def listening(path: pathlib.Path, *command: str) -> AsyncIterator[trio.Process]:
    """Starts a command that makes a runner listen on `path`, and stops it."""
    process = await trio.lowlevel.open_process(list(command))
    try:
        await until(lambda: answers(path))
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            await process.wait()


@trio_test
async def test_listening_runner_serves_one_client_after_the_other(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    with trio.fail_after(LIMIT):
        async with listening(path, PROGRAM, "--socket", str(path)) as process:
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            for word in ("first", "second"):
                async with Runner.connect(str(path)) as runner:
                    _, outputs = await run(runner, "echo", word)
                    assert outputs.stdout == word.encode() + b"\n"
            second = subprocess.run([PROGRAM, "--socket", str(path)], capture_output=True, check=False)
            assert second.returncode == 1
            assert b"Address already in use" in second.stderr
            process.terminate()
            assert await process.wait() == 0
            assert not path.exists()


@trio_test
async def test_listening_runner_ends_the_command_of_a_lost_client(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    with trio.fail_after(LIMIT):
        async with listening(path, PROGRAM, "--socket", str(path)):
            stream = await trio.open_unix_socket(str(path))
            command = b"/\0/bin/sh\0-c\0echo $$; exec sleep 1000\0"
            await stream.send_all(struct.pack("<IBII", 9 + len(command), 2, 3, 0) + command)
            data = b""
            while not data.endswith(b"\n"):
                data += await stream.receive_some()
            with open(os.pidfd_open(int(data[6:]))) as pidfd:
                await stream.aclose()
                await trio.to_thread.run_sync(wait_for_end, [pidfd.fileno()])
            async with Runner.connect(str(path)) as runner:
                finished, _ = await run(runner, "true")
                assert finished.exit_code == 0


@trio_test
async def test_listening_runner_gives_commands_its_environment_and_directory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    own = ["PATH=/usr/bin:/bin", "KEPT=own", "PLACED=own", "PLACEDTOO=own", "EMPTY="]
    command = ["env", "-i", "-C", "/usr", *own, PROGRAM, "--socket", str(path)]
    with trio.fail_after(LIMIT):
        async with listening(path, *command) as process, Runner.connect(str(path)) as runner:
            assert runner.pid == process.pid
            _, outputs = await run(runner, "env", env={"PLACED": "other", "ADDED": "other"}, cwd="")
            assert sorted(outputs.stdout.decode().split()) == sorted(
                ["PLACED=other", "ADDED=other", *(entry for entry in own if entry != "PLACED=own")]
            )
            for cwd, found in {"": b"/usr\n", "/": b"/\n"}.items():
                _, outputs = await run(runner, "pwd", env={}, cwd=cwd)
                assert outputs.stdout == found
            process.kill()
            await runner.gone()


@trio_test
async def test_stale_socket_is_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    with trio.fail_after(LIMIT):
        async with listening(path, PROGRAM, "--socket", str(path)) as process:
            process.kill()
            await process.wait()
            assert path.exists()
            with pytest.raises(RunnerError, match="Connection refused"):
                async with Runner.connect(str(path)):
                    pass
        async with listening(path, PROGRAM, "--socket", str(path)), Runner.connect(str(path)) as runner:
            finished, _ = await run(runner, "true")
            assert finished.exit_code == 0


BARE_PROGRAM = r"""
#include <stdio.h>
#include <unistd.h>

/* Says its arguments, and leaves a process in a session of its own behind. */
int main(int argc, char **argv)
{
    int ready[2];
    if (pipe(ready))
        return 1;
    if (fork() == 0) {
        setsid();
        pid_t pid = fork();
        if (pid == 0)
            for (;;)
                pause();
        return write(ready[1], &pid, sizeof pid) != sizeof pid;
    }
    pid_t left;
    if (read(ready[0], &left, sizeof left) != sizeof left)
        return 1;
    for (int i = 0; i < argc; i++)
        printf("%s\n", argv[i]);
    printf("%d\n", (int)left);
    return 9;
}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
@pytest.mark.skipif(str(STATIC) != PROGRAM, reason="only the static runner works in an empty root file system")
@trio_test
async def test_root_file_system_that_holds_nothing_else(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(PROGRAM, root / "pfs-runner")
    (tmp_path / "bare.c").write_text(BARE_PROGRAM)
    subprocess.run(["gcc", "-static", "-o", str(root / "bin/bare"), str(tmp_path / "bare.c")], check=True)
    socket_path = root / "s"
    start = ["chroot", str(root), "/pfs-runner", "--socket", "/s"]
    with trio.fail_after(LIMIT):
        async with listening(socket_path, *start), Runner.connect(str(socket_path)) as runner:
            finished, outputs = await run(runner, "bare", "one", "two", env={"PATH": "/bin"})
            assert finished.exit_code == 9
            name, one, two, left = outputs.stdout.split()
            assert (name, one, two) == (b"bare", b"one", b"two")
            assert ended(int(left))
            finished, _ = await run(runner, "sh")
            assert finished.error == 'exec "sh": not found in PATH "/usr/bin:/bin"'
