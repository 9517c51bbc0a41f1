"""Runs user code: the client of the static program pfs-runner.

One runner process lives as long as its worker and runs one command after the other. Starting a command
therefore never forks or blocks this process, which may be serving the very files that the command reads. The
protocol is written down in csrc/runner/frames.h.

    async with Runner.open() as runner:
        await runner.enclose(["/var/lib/pfsd"])
        finished = await runner.run(["sort"], env={}, cwd="/", stdin=b"b\\na\\n", on_output=print_it)
"""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import signal
import socket
import struct
import subprocess
import types
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

import trio

from pfsd.errors import InvalidError, UnavailableError

_log = logging.getLogger(__name__)

STDOUT: Final = 1
STDERR: Final = 2

_PROGRAM: Final = pathlib.Path(__file__).with_name("pfs-runner")

_REQUEST_STDIN: Final = 1
_REQUEST_RUN: Final = 2
_REQUEST_KILL: Final = 3
_REQUEST_ENCLOSE: Final = 6
_REPLY_EXIT: Final = 5
_EXITED: Final = 0
_SIGNALLED: Final = 1

_HEADER: Final = struct.Struct("<IB")
_COUNTS: Final = struct.Struct("<II")
_CREDENTIALS: Final = struct.Struct("iII")
_EXIT: Final = struct.Struct("<BIQQ")
_PID: Final = struct.Struct("<I")
_MAX_FRAME: Final = 8 << 20
_STDIN_PIECE: Final = (64 << 10) - _HEADER.size  # fills the runner's buffer, which need not grow
_RECEIVE: Final = 128 << 10

_PATIENCE: Final = 10.0
"""Seconds that the runner process gets to take a request, to confirm a kill, or to end."""


class RunnerError(UnavailableError):
    """The runner can't be started, has ended or does not answer; the command, if there was one, is lost."""


@dataclass(frozen=True)
class Finished:
    """How a command ended: exactly one of exit_code, signal and error is set."""

    exit_code: int | None
    signal: int | None
    error: str | None
    """Why it could not start, for the user to read."""
    cpu_seconds: float
    """User and system time of all its processes."""
    max_rss_bytes: int
    """The largest resident set that any one of its processes had."""


@dataclass(frozen=True)
class Enclosure:
    """Where commands run once they were enclosed."""

    pid: int
    """A process whose root directory and mounts are theirs."""
    refused: str
    """What the system did not allow, for people to read; empty where nothing was refused."""


OnOutput = Callable[[int, bytes], None]
"""Gets which stream (STDOUT or STDERR) and what was written; must not block."""


class Runner:
    """One runner process, which runs one command at a time: further calls of run() wait for their turn."""

    def __init__(self, stream: trio.SocketStream, process: trio.Process | None) -> None:
        """Use open() or connect()."""
        self._stream = stream
        self._process = process
        self._received = bytearray()
        self._turn = trio.Lock()
        self._running = False
        self._lost: str | None = None

    @property
    def pid(self) -> int:
        """The process that starts the commands; 0 where another PID namespace keeps it from being seen."""
        if self._process is not None:
            return self._process.pid
        credentials = self._stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(credentials)[0]
        return pid

    async def gone(self) -> None:
        """Returns when the runner's process has ended. It has to be visible: see `pid`."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, program: str | None = None, env: Mapping[str, str] = types.MappingProxyType({})
    ) -> AsyncIterator[Runner]:
        """Starts the runner (by default the one built beside this module) and stops it on leaving.

        Commands can read its environment, `env`, since they run as its user. Raises RunnerError when the program can't
        be started.
        """
        path = program or str(_PROGRAM)
        ours, theirs = socket.socketpair()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        with theirs:
            try:
                process = await trio.lowlevel.open_process(
                    [path, "--fd", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=dict(env),
                    start_new_session=True,  # a terminal's Ctrl-C is the worker's to handle
                )
            except OSError as error:
                await trio.aclose_forcefully(stream)
                reason = error.strerror or str(error)
                raise RunnerError(f"runner {path} can't be started: {reason}; is it built?") from error
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        runner = cls(stream, process)
        try:
            yield runner
        finally:
            await runner._close()

    @classmethod
    @asynccontextmanager
    async def connect(cls, path: str) -> AsyncIterator[Runner]:
        """Uses a runner that listens on the socket `path`. Leaving ends what it runs for us, not the runner.

        Raises RunnerError when nobody listens there.
        """
        try:
            stream = await trio.open_unix_socket(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunnerError(f"no runner answers on {path}: {reason}") from error
        runner = cls(stream, None)
        try:
            yield runner
        finally:
            await runner._close()

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: bytes = b"",
        on_output: OnOutput,
    ) -> Finished:
        """Runs a command to its end, which is also the end of every process that descends from it.

        argv[0] without a slash is searched in the PATH of the command's environment; no shell is involved. That
        environment is `env` as it is; a runner that was connected to lays `env` over its own, and takes an empty `cwd`
        for the directory that it was started in. Strings travel as UTF-8, with surrogateescape for other bytes. All
        that the command wrote has gone to on_output when this returns.

        When cancelled, or when on_output raises, the command with all its processes is killed first. Raises
        InvalidError for arguments that no command can have and RunnerError when the runner itself fails.
        """
        request = _run_request(argv, env, cwd)
        async with self._turn:
            if self._lost:
                raise RunnerError(f"{self._lost}; it takes no more commands")
            done = False
            try:
                await self._request(request, stdin)
                finished = await self._replies(on_output)
                done = True
            finally:
                if not done:
                    await self._abort()
            return finished

    async def enclose(self, hidden: Iterable[str]) -> Enclosure:
        """From now on, let commands see neither what is in these directories nor the processes of others.

        What the system refuses is left out, and told. Call it once, before the first command, on a runner that was
        opened. Raises RunnerError when the runner itself fails.
        """
        async with self._turn:
            # Shielded, for an answer that nobody took would be taken for the next command's.
            with trio.move_on_after(_PATIENCE, shield=True) as scope:
                await self._send(_frame(_REQUEST_ENCLOSE, b"".join(map(_string, hidden))))
                _, payload = await self._reply()
            if scope.cancelled_caught:
                self._give_up(f"runner was not enclosed within {_PATIENCE:.0f} s")
                raise RunnerError(str(self._lost))
        return Enclosure(_PID.unpack_from(payload)[0], payload[_PID.size :].decode("utf-8", "backslashreplace"))

    async def _request(self, request: bytes, stdin: bytes) -> None:
        rest = memoryview(stdin)
        while rest:
            await self._send(_frame(_REQUEST_STDIN, rest[:_STDIN_PIECE]))
            rest = rest[_STDIN_PIECE:]
            await trio.lowlevel.checkpoint_if_cancelled()
        self._running = True
        await self._send(_frame(_REQUEST_RUN, request))

    async def _send(self, frame: bytes) -> None:
        # Shielded, for a frame that was cut off would leave nothing to say to the runner.
        with trio.move_on_after(_PATIENCE, shield=True) as scope:
            try:
                await self._stream.send_all(frame)
            except trio.BrokenResourceError as error:
                await self._lose(error)
        if scope.cancelled_caught:
            self._give_up(f"runner took no request for {_PATIENCE:.0f} s")
            raise RunnerError(str(self._lost))

    async def _replies(self, on_output: OnOutput) -> Finished:
        while True:
            kind, payload = await self._reply()
            if kind == _REPLY_EXIT:
                self._running = False
                return _finished(payload)
            on_output(payload[0], payload[1:])

    async def _reply(self) -> tuple[int, bytes]:
        await self._receive(_HEADER.size)
        size, kind = _HEADER.unpack_from(self._received)
        end = _HEADER.size - 1 + size
        await self._receive(end)
        payload = bytes(memoryview(self._received)[_HEADER.size : end])
        del self._received[:end]
        return kind, payload

    async def _receive(self, length: int) -> None:
        """Waits until that many bytes are there; loses none when cancelled."""
        while len(self._received) < length:
            try:
                data = await self._stream.receive_some(_RECEIVE)
            except trio.BrokenResourceError as error:
                await self._lose(error)
            if not data:
                await self._lose(None)
            self._received += data

    async def _lose(self, cause: BaseException | None) -> NoReturn:
        """Raises RunnerError with the reason why the runner closed its socket."""
        reason = "runner closed its connection"
        if self._process is not None:
            with trio.move_on_after(_PATIENCE, shield=True):
                reason = f"runner {_ending(await self._process.wait())}"
        self._lost = reason
        raise RunnerError(reason) from cause

    async def _abort(self) -> None:
        """Kills the running command and waits for the confirmation. A runner that gives none is given up."""
        if self._lost:
            return
        with trio.move_on_after(_PATIENCE, shield=True) as scope:
            try:
                await self._send(_frame(_REQUEST_KILL, bytes([signal.SIGKILL])))
                if self._running:  # otherwise this only drops the standard input sent so far
                    await self._replies(lambda _which, _data: None)
            except RunnerError as error:
                _log.warning("command lost while it was being killed: %s", error)
        if scope.cancelled_caught:
            self._give_up(f"runner did not confirm the end of a command within {_PATIENCE:.0f} s")

    def _give_up(self, reason: str) -> None:
        self._lost = reason
        _log.error("%s; it is given up", reason)
        if self._process is not None:
            self._process.kill()

    async def _close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)
            if self._process is None:
                return
            with trio.move_on_after(_PATIENCE) as scope:
                status = await self._process.wait()
            if scope.cancelled_caught:
                _log.error("runner did not end within %.0f s of its worker; it is killed", _PATIENCE)
                self._process.kill()
                await self._process.wait()
            elif status != 0 and not self._lost:
                _log.error("runner %s", _ending(status))


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status}"
    return f"ended with exit status {status}"


def _frame(kind: int, payload: bytes | memoryview) -> bytes:
    return b"".join([_HEADER.pack(1 + len(payload), kind), payload])


def _run_request(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> bytes:
    if not argv:
        raise InvalidError("a command needs at least the name of its program")
    for name in env:
        if not name or "=" in name:
            raise InvalidError(f"environment variable {name!r} can't have this name")
    strings = [cwd, *argv, *(f"{name}={value}" for name, value in env.items())]
    payload = b"".join([_COUNTS.pack(len(argv), len(env)), *map(_string, strings)])
    if len(payload) >= _MAX_FRAME:
        size = len(payload)
        raise InvalidError(f"command {argv[0]!r} has {size} bytes of arguments and environment; use its stdin")
    return payload


def _string(text: str) -> bytes:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidError(f"{text!r} in a command is not a valid string") from error
    if b"\0" in data:
        raise InvalidError(f"{text!r} in a command holds a 0 byte")
    return data + b"\0"


def _finished(payload: bytes) -> Finished:
    kind, value, microseconds, max_rss = _EXIT.unpack_from(payload)
    text = payload[_EXIT.size :].decode("utf-8", "backslashreplace")
    return Finished(
        exit_code=value if kind == _EXITED else None,
        signal=value if kind == _SIGNALLED else None,
        error=None if kind in (_EXITED, _SIGNALLED) else text or errno.errorcode.get(value, str(value)),
        cpu_seconds=microseconds / 1e6,
        max_rss_bytes=max_rss,
    )
