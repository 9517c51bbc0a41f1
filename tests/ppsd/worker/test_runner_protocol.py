"""The runner's protocol, spoken frame by frame, and its command line."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import trio_test

from tests.support.runners import LIMIT, PROGRAM, RUNAWAY, ended, until, wait_for_end


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
