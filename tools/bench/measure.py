"""Measuring: commands, daemons, rounds in which contenders take turns, and tables."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MIB = 1 << 20
SAMPLE_SECONDS = 0.02
STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a contender cost."""

    seconds: float
    client: int | None = None
    """Peak resident bytes of the command, where it ran long enough for it to be seen."""
    daemon: int | None = None
    """Peak resident bytes of the daemon since it started."""
    disk: int | None = None
    """Bytes on disk afterwards."""
    calls: int | None = None
    """Calls of the daemon that a mount made meanwhile."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests of each kind that the kernel made of a mount meanwhile, where it counts them."""
    mount_seconds: float | None = None
    """Processor time of the process that serves the mount."""
    server_seconds: float | None = None
    """Processor time of the daemon behind it."""


Contender = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a benchmark keeps its files."""

    directory: pathlib.Path

    @contextlib.contextmanager
    def scratch(self) -> Iterator[pathlib.Path]:
        """An empty directory that goes again."""
        path = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path)


def peak_memory(pid: int) -> int:
    """Peak resident bytes (VmHWM) of a process; 0 when it has ended."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used; 0 when it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_command(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    lines: int | None = None,
    directory: pathlib.Path | None = None,
) -> Sample:
    """Run a command in a directory to its end, with variables added to the environment; raises RuntimeError when it
    fails.

    With `lines`, it has to print so many of them, or more.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        os.sync()  # what an earlier command left to write is not this one's
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=errors, env={**os.environ, **(env or {})}, cwd=directory)
        ended = threading.Event()
        peaks = [0]

        def watch() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                peaks.append(peak_memory(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            status = process.wait()
            seconds = time.perf_counter() - started
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            ended.set()
            watcher.join()
        out.seek(0)
        errors.seek(0)
        if status:
            raise RuntimeError(f"{' '.join(command)} failed: {errors.read().decode(errors='replace')}")
        if lines is not None and out.read().count(b"\n") < lines:
            raise RuntimeError(f"{' '.join(command)} printed fewer than {lines} lines")
    return Sample(seconds, max(peaks) or None)


def disk_bytes(directory: pathlib.Path) -> int:
    """Bytes that the files below a directory take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


class Server:
    """A pfsd over a root of its own."""

    def __init__(
        self,
        root: pathlib.Path,
        pipelines: bool = False,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "pfsdaemon.main", "--root", str(root), "--listen", "127.0.0.1:0", *options]
        command += ["--allow-fetch", "127.0.0.0/8"]  # where the servers of measurements are
        if not pipelines:
            command.append("--no-pipelines")
        self.root = root
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"pfsd over {root} did not start: status {self._process.wait()}")
        self.address = line.split()[-1]

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def peak(self) -> int:
        """Its peak resident bytes so far."""
        return peak_memory(self._process.pid)

    def pachctl(self, *arguments: str, lines: int | None = None) -> Sample:
        """The cost of a pachctl command, which has to succeed."""
        command = [sys.executable, "-m", "pachctl.main", *arguments]
        sample = run_command(command, {"ADDRESS": self.address}, lines)
        return Sample(sample.seconds, sample.client, self.peak)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


@contextlib.contextmanager
def serving(
    root: pathlib.Path, pipelines: bool = False, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A daemon, with `pipelines` one that runs them too, that is stopped at the end."""
    server = Server(root, pipelines, options, env)
    try:
        yield server
    finally:
        server.stop()


def alternate(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Sample]]:
    """Samples of contenders that take turns, in an order that turns round from round to round."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(contenders[name]())
    return samples


# --- printing

_COLUMNS = (
    ("", 44),
    ("time", 10),
    ("rate", 18),
    ("x pfsd", 8),
    ("client", 9),
    ("daemon", 9),
    ("on disk", 10),
    ("calls", 7),
)


def heading(title: str) -> None:
    """Begin a table."""
    print(f"\n{title}")
    _row([name for name, _ in _COLUMNS])


def compare(title: str, samples: Mapping[str, Sequence[Sample]], amount: float, unit: str) -> None:
    """A table of contenders, the first of which is pfsd; `amount` of `unit` was done in each run."""
    heading(title)
    base = next(iter(samples.values()))
    for name, own in samples.items():
        seconds = statistics.median(sample.seconds for sample in own)
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(own, base, strict=True))
        line(name, seconds, f"{amount / seconds:,.0f} {unit}/s", f"{ratio:.2f}", own[-1])


def line(name: str, seconds: float, rate: str = "", ratio: str = "", sample: Sample | None = None) -> None:
    """One line of a table."""
    at = sample or Sample(seconds)
    _row([f"  {name}", _time(seconds), rate, ratio, _mib(at.client), _mib(at.daemon), _mib(at.disk), _count(at.calls)])


def _row(cells: Sequence[str]) -> None:
    widths = [width for _, width in _COLUMNS]
    first, *others = (
        cell.ljust(width) if number == 0 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    print("".join((first, *others)).rstrip(), flush=True)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:,.1f} M"
