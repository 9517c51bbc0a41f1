"""The static runner and its client, with real processes. PFS_RUNNER names another build to test."""

from __future__ import annotations

import errno
import os
import pathlib
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pyfuse3
import pytest
import trio
from trio.testing import trio_test

import ppsd.worker.runner
from pfsd.errors import InvalidError, UnavailableError
from ppsd.worker.runner import STDERR, STDOUT, Finished, Runner, RunnerError

STATIC = pathlib.Path(ppsd.worker.runner.__file__).with_name("pfs-runner")
PROGRAM = os.environ.get("PFS_RUNNER", str(STATIC))
ENV = {"PATH": "/usr/bin:/bin"}
LIMIT = 60.0
"""Seconds after which a test that hangs fails."""

RUNAWAY = "setsid sh -c 'sleep 1000 & echo $!'"
"""Shell code that leaves a process behind in another session, with our output open, and prints its PID."""


@dataclass
class Outputs:
    """Collects what a command writes; `ready` is set after that many lines on standard output."""

    lines: int = 1
    data: dict[int, bytearray] = field(default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()})
    ready: trio.Event = field(default_factory=trio.Event)

    def __call__(self, which: int, data: bytes) -> None:
        self.data[which] += data
        if which == STDOUT and not self.ready.is_set():
            self.lines -= data.count(b"\n")
            if self.lines <= 0:
                self.ready.set()

    @property
    def stdout(self) -> bytes:
        return bytes(self.data[STDOUT])

    @property
    def stderr(self) -> bytes:
        return bytes(self.data[STDERR])


@asynccontextmanager
async def opened() -> AsyncIterator[Runner]:
    with trio.fail_after(LIMIT):
        async with Runner.open(PROGRAM, os.environ) as runner:
            yield runner


async def run(
    runner: Runner, *argv: str, env: dict[str, str] = ENV, cwd: str = "/", stdin: bytes = b""
) -> tuple[Finished, Outputs]:
    outputs = Outputs()
    return await runner.run(argv, env=env, cwd=cwd, stdin=stdin, on_output=outputs), outputs


def ended(pid: int) -> bool:
    """Whether the process is gone and reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for_end(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        readable, _, _ = select.select([pidfd], [], [], LIMIT)
        assert readable, "a process did not end"


async def until(condition: Callable[[], bool]) -> None:
    """For states that nothing tells about."""
    while not condition():
        await trio.sleep(0.005)


# ---- how commands end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
@trio_test
async def test_exit_code(code: int) -> None:
    async with opened() as runner:
        finished, _ = await run(runner, "sh", "-c", f"exit {code}")
        assert (finished.exit_code, finished.signal, finished.error) == (code, None, None)


@trio_test
async def test_signal() -> None:
    async with opened() as runner:
        finished, _ = await run(runner, "sh", "-c", "kill -TERM $$")
        assert (finished.exit_code, finished.signal, finished.error) == (None, signal.SIGTERM, None)


@trio_test
async def test_what_could_not_start(tmp_path: pathlib.Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/interpreter\n")
    headless = tmp_path / "headless"
    headless.write_text("echo no shell runs this\n")
    for script in (orphan, headless):
        script.chmod(0o755)
    texts = {
        "/no/such": 'exec "/no/such": No such file or directory',
        "no-such": 'exec "no-such": not found in PATH "/usr/bin:/bin"',
        "": 'exec "": No such file or directory',
        str(plain): f'exec "{plain}": Permission denied',
        str(orphan): f'exec "{orphan}": its interpreter or loader does not exist',
        str(headless): f'exec "{headless}": Exec format error',
    }
    async with opened() as runner:
        for name, text in texts.items():
            finished, outputs = await run(runner, name)
            assert (finished.exit_code, finished.signal, finished.error) == (None, None, text)
            assert (outputs.stdout, outputs.stderr) == (b"", b"")
        finished, _ = await run(runner, "true", cwd="/no/such")
        assert finished.error == 'chdir "/no/such": No such file or directory'
        finished, _ = await run(runner, "true", "x" * (200 << 10))
        assert finished.error == 'exec "true": Argument list too long'
        finished, _ = await run(runner, "true")
        assert finished.exit_code == 0


@trio_test
async def test_usage_is_the_command_and_not_the_runner() -> None:
    burn = "import time\nb = b'x' * (64 << 20)\nwhile time.process_time() < 0.2: pass"
    async with opened() as runner:
        busy, _ = await run(runner, sys.executable, "-S", "-c", burn)
        assert busy.cpu_seconds >= 0.2
        assert 64 << 20 <= busy.max_rss_bytes < 256 << 20
        behind, _ = await run(runner, "sh", "-c", f'{sys.executable} -S -c "{burn}" & wait')
        assert behind.cpu_seconds >= 0.2
        idle, _ = await run(runner, "true", stdin=bytes(64 << 20))
        assert idle.cpu_seconds < 0.2
        assert 0 < idle.max_rss_bytes < 48 << 20


# ---- what a command finds --------------------------------------------------------------------------------


@trio_test
async def test_environment_directory_and_arguments_arrive_as_given(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / os.fsdecode(b"d\xff")
    directory.mkdir()
    odd = ["a b", "", "*", "$HOME", "ä\n", os.fsdecode(b"\xfe\x80")]
    async with opened() as runner:
        finished, outputs = await run(runner, "env", env={**ENV, "X": "1=2", "Y": os.fsdecode(b"\xff"), "E": ""})
        assert finished.exit_code == 0
        assert sorted(outputs.stdout.splitlines()) == [b"E=", b"PATH=/usr/bin:/bin", b"X=1=2", b"Y=\xff"]
        finished, outputs = await run(runner, "pwd", cwd=str(directory))
        assert outputs.stdout == os.fsencode(directory) + b"\n"
        finished, outputs = await run(runner, "printf", "%s\\0", *odd)
        assert outputs.stdout == b"".join(os.fsencode(text) + b"\0" for text in odd)


@trio_test
async def test_program_is_searched_in_the_given_path(tmp_path: pathlib.Path) -> None:
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        script = tmp_path / name / "tool"
        script.write_text(f"#!/bin/sh\necho {name}\n")
        script.chmod(mode)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    async with opened() as runner:
        _, outputs = await run(runner, "tool", env={"PATH": f"/no/such:{first}:/etc/passwd:{second}"})
        assert outputs.stdout == b"second\n"
        finished, _ = await run(runner, "tool", env={"PATH": first})
        assert finished.error == 'exec "tool": Permission denied'
        _, outputs = await run(runner, "tool", env={"PATH": "/no/such:"}, cwd=second)
        assert outputs.stdout == b"second\n"
        _, outputs = await run(runner, "./tool", env={}, cwd=second)
        assert outputs.stdout == b"second\n"
        finished, _ = await run(runner, "true", env={})
        assert finished.exit_code == 0


@trio_test
async def test_process_state_is_clean() -> None:
    async with opened() as runner:
        _, outputs = await run(runner, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
        assert {line.split()[1] for line in outputs.stdout.splitlines()} == {b"0" * 16}
        _, outputs = await run(runner, "cut", "-d ", "-f1,5,6", "/proc/self/stat")
        pid, group, session = outputs.stdout.split()
        assert pid == group == session
        _, outputs = await run(runner, "ls", "/proc/self/fd")
        assert outputs.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


# ---- standard input and output ---------------------------------------------------------------------------


@trio_test
async def test_large_input_and_output_at_once() -> None:
    data = os.urandom(1 << 20) * 24
    async with opened() as runner:
        finished, outputs = await run(runner, "sh", "-c", "tee /dev/stderr", stdin=data)
        assert finished.exit_code == 0
        assert outputs.stdout == data
        assert outputs.stderr == data


@trio_test
async def test_no_input_is_an_empty_input() -> None:
    async with opened() as runner:
        finished, outputs = await run(runner, "cat")
        assert (finished.exit_code, outputs.stdout) == (0, b"")


@trio_test
async def test_input_that_is_not_read_does_not_matter() -> None:
    data = bytes(8 << 20)
    async with opened() as runner:
        for script in ("true", "exec <&-; echo closed", "head -c 1 >/dev/null; exec <&-; echo closed"):
            finished, _ = await run(runner, "sh", "-c", script, stdin=data)
            assert finished.exit_code == 0
        _, outputs = await run(runner, "cat", stdin=b"new")
        assert outputs.stdout == b"new"


@trio_test
async def test_all_output_comes_before_the_end() -> None:
    async with opened() as runner:
        for _ in range(50):
            finished, outputs = await run(runner, "sh", "-c", "head -c 65536 /dev/zero; echo end >&2; exit 3")
            assert finished.exit_code == 3
            assert len(outputs.stdout) == 65536
            assert outputs.stderr == b"end\n"


@trio_test
async def test_output_arrives_while_the_command_runs(tmp_path: pathlib.Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    outputs = Outputs()
    async with opened() as runner, trio.open_nursery() as nursery:

        async def answer() -> None:
            await outputs.ready.wait()
            assert outputs.stdout == b"ready\n"
            async with await trio.open_file(fifo, "w") as file:
                await file.write("go\n")

        nursery.start_soon(answer)
        script = f"echo ready; read word <{fifo}; echo $word"
        finished = await runner.run(["sh", "-c", script], env=ENV, cwd="/", on_output=outputs)
        assert finished.exit_code == 0
        assert outputs.stdout == b"ready\ngo\n"


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


CLIENT = f"""
import os, sys, trio
from ppsd.worker.runner import Runner

def show(which, data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()

async def main():
    async with Runner.open({PROGRAM!r}, os.environ) as runner:
        script = sys.argv[1]
        if sys.argv[2:]:
            await runner.enclose(sys.argv[2:])
        await runner.run(["sh", "-c", script], env={ENV!r}, cwd="/", on_output=show)

trio.run(main)
"""


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


@trio_test
async def test_program_that_is_not_there() -> None:
    with pytest.raises(RunnerError, match="runner /no/such can't be started: No such file or directory"):
        async with Runner.open("/no/such"):
            pass


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        ([], {}),
        (["a\0b"], {}),
        (["\ud800"], {}),
        (["true"], {"": "x"}),
        (["true"], {"A=B": "x"}),
        (["true", "x" * (9 << 20)], {}),
    ],
    ids=["no-program", "zero-byte", "surrogate", "no-name", "equals-sign", "too-large"],
)
@trio_test
async def test_impossible_arguments(argv: list[str], env: dict[str, str]) -> None:
    async with opened() as runner:
        with pytest.raises(InvalidError):
            await run(runner, *argv, env=env)
        finished, _ = await run(runner, "true")
        assert finished.exit_code == 0


# ---- the protocol itself ---------------------------------------------------------------------------------


class Raw:
    """A runner that is spoken to frame by frame."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.stream = connection.makefile("rb")

    def send(self, kind: int, payload: bytes) -> None:
        self.connection.sendall(struct.pack("<IB", 1 + len(payload), kind) + payload)

    def run(self, *argv: str) -> None:
        strings = ["/", *argv, "PATH=/usr/bin:/bin"]
        self.send(2, struct.pack("<II", len(argv), 1) + b"".join(os.fsencode(s) + b"\0" for s in strings))

    def receive(self) -> tuple[int, bytes]:
        size, kind = struct.unpack("<IB", self.stream.read(5))
        return kind, self.stream.read(size - 1)

    def close(self) -> None:
        """Ends the runner, which ends what it runs."""
        self.stream.close()
        self.connection.close()
        try:
            self.process.wait(LIMIT)
        finally:
            self.process.kill()

    def end(self) -> tuple[int, str]:
        """Exit status and messages of the runner, once it ends by itself."""
        _, messages = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, messages.decode()


@contextmanager
def raw_runner() -> Iterator[Raw]:
    ours, theirs = socket.socketpair()
    leak = os.open("/", os.O_RDONLY)
    ours.settimeout(LIMIT)
    with ours, theirs:
        command = [PROGRAM, "--fd", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno(), leak], stderr=subprocess.PIPE)
        os.close(leak)
        theirs.close()
        with process:
            raw = Raw(process, ours)
            try:
                yield raw
            finally:
                raw.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<I", 0), "length is out of range"),
        (struct.pack("<I", (8 << 20) + 1), "length is out of range"),
        (struct.pack("<IB", 1, 9), "unknown type"),
        (struct.pack("<IB", 1, 2), "RUN is too short"),
        (struct.pack("<IBII", 9, 2, 1, 0), "wrong number of strings"),
        (struct.pack("<IBII", 11, 2, 0, 0) + b"/\0", "wrong number of strings"),
        (struct.pack("<IBII", 13, 2, 1, 0) + b"/\0a\0", None),
        (struct.pack("<IBII", 12, 2, 1, 0) + b"/\0a", "wrong number of strings"),
        (struct.pack("<IBII", 15, 2, 1, 0) + b"/\0a\0b\0", "wrong number of strings"),
        (struct.pack("<IBII", 13, 2, 0xFFFFFFFF, 0xFFFFFFFF) + b"/\0a\0", "wrong number of strings"),
        (struct.pack("<IBII", 13, 2, 1, 0xFFFFFFFF) + b"/\0a\0", "wrong number of strings"),
        (struct.pack("<IB", 1, 3), "KILL needs a signal"),
        (struct.pack("<IBB", 2, 3, 0), "KILL needs a signal"),
        (struct.pack("<IBB", 2, 3, 65), "KILL needs a signal"),
    ],
)
def test_malformed_frame(data: bytes, message: str | None) -> None:
    with raw_runner() as raw:
        raw.connection.sendall(data)
        if message is None:
            kind, payload = raw.receive()
            assert (kind, payload[0]) == (5, 2)
            raw.close()
            assert raw.end() == (0, "")
        else:
            status, messages = raw.end()
            assert status == 2
            assert message in messages


@pytest.mark.parametrize("kind", [1, 2], ids=["STDIN", "RUN"])
def test_request_while_a_command_runs_ends_both(kind: int) -> None:
    with raw_runner() as raw:
        raw.run("sh", "-c", "echo $$; exec sleep 1000")
        _, payload = raw.receive()
        with open(os.pidfd_open(int(payload[1:]))) as pidfd:
            raw.send(kind, b"")
            status, messages = raw.end()
            assert status == 2
            assert "before the EXIT of the last command" in messages
            wait_for_end([pidfd.fileno()])


def test_frames_in_small_pieces() -> None:
    with raw_runner() as raw:
        frame = struct.pack("<IB", 3, 1) + b"in" + struct.pack("<IBII", 15, 2, 1, 0) + b"/\0cat\0"
        for i in range(len(frame)):
            raw.connection.sendall(frame[i : i + 1])
        assert raw.receive() == (4, b"\1in")
        assert raw.receive()[0] == 5


TWO_PROCESSES = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
pid = os.fork()
os.write(1, b"+")
signal.sigwait([signal.SIGUSR1])
os.write(1, b"-")
if pid:
    os.waitpid(pid, 0)
    os._exit(7)
"""
"""Says + in two processes, waits for SIGUSR1 in both, says -."""


def test_other_signals_go_to_the_process_group() -> None:
    with raw_runner() as raw:
        raw.run(sys.executable, "-S", "-c", TWO_PROCESSES)
        said = b""
        while said != b"++":
            said += raw.receive()[1][1:]
        raw.send(3, bytes([signal.SIGUSR1]))
        while said != b"++--":
            said += raw.receive()[1][1:]
        kind, payload = raw.receive()
        assert (kind, payload[0], payload[1]) == (5, 0, 7)


def test_termination_kills_the_command() -> None:
    with raw_runner() as raw:
        raw.run("sh", "-c", f"trap '' TERM; echo $$; {RUNAWAY}; exec sleep 1000")
        pids = raw.receive()[1][1:].split()
        while len(pids) < 2:
            pids += raw.receive()[1][1:].split()
        raw.process.terminate()
        assert raw.end()[0] == 0
        assert all(ended(int(pid)) for pid in pids)


def memory(pid: int, what: str) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(what))


@trio_test
async def test_slow_client_holds_the_command_up_and_no_memory_grows() -> None:
    size = 64 << 20
    with trio.fail_after(LIMIT), raw_runner() as raw:
        raw.run("sh", "-c", f"echo $$; exec head -c {size} /dev/zero")
        _, payload = raw.receive()
        line, _, data = payload[1:].partition(b"\n")
        stat_file = pathlib.Path(f"/proc/{int(line)}/stat")
        before = memory(raw.process.pid, "VmRSS")
        # head sleeps only while its pipe is full, the runner only when the socket is full, too.
        runner_file = pathlib.Path(f"/proc/{raw.process.pid}/stat")
        await until(lambda: all(file.read_text().split()[2] == "S" for file in (stat_file, runner_file)))
        total = len(data)
        while True:
            kind, payload = raw.receive()
            if kind == 5:
                break
            total += len(payload) - 1
        assert total == size
        assert memory(raw.process.pid, "VmHWM") - before < 8 << 20


@pytest.mark.parametrize(
    "arguments", [[], ["--fd"], ["--fd", "x"], ["--fd", "0"], ["--socket", "relative"], ["-x", "y"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 64
    assert done.stderr.startswith(b"pfs-runner: ")


# ---- listening on a path ---------------------------------------------------------------------------------


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


# ---- commands that see nothing of others -----------------------------------------------------------------

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
            pidfds = [os.pidfd_open(pid) for pid in (outer, *processes)]
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


# ---- files served by the client itself -------------------------------------------------------------------


class OneScript(pyfuse3.Operations):
    """A file system whose root holds one executable script."""

    NAME = b"script"
    TEXT = b"#!/bin/sh\npwd\ncat script | wc -l\n"
    INODE = pyfuse3.ROOT_INODE + 1

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext | None = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        is_root = inode == pyfuse3.ROOT_INODE
        entry.st_mode = (stat.S_IFDIR if is_root else stat.S_IFREG) | 0o755
        entry.st_size = 0 if is_root else len(self.TEXT)
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if name != self.NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(self.INODE)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        return self.TEXT[offset : offset + size]


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse")
@trio_test
async def test_command_in_a_file_system_that_this_very_loop_serves(tmp_path: pathlib.Path) -> None:
    async with opened() as runner:
        pyfuse3.init(OneScript(), str(tmp_path), set(pyfuse3.default_options))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pyfuse3.main)
                finished, outputs = await run(runner, str(tmp_path / "script"), cwd=str(tmp_path))
                assert finished.exit_code == 0, outputs.stderr
                assert outputs.stdout.split() == [os.fsencode(tmp_path), b"3"]
                finished, _ = await run(runner, str(tmp_path / "other"), cwd=str(tmp_path))
                assert finished.error == f'exec "{tmp_path}/other": No such file or directory'
                pyfuse3.terminate()
        finally:
            pyfuse3.close(unmount=True)
