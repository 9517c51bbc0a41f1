"""Packs in S3, 20 ms away: reading, listing and writing through the mount, beside `rclone mount` and `s3fs`.

The server is versitygw, which `python -m tools.s3server` builds. It and the line to it
have a core of their own where there is one. What is cold has a new mount and an empty cache; what is warm has a new
mount, whose pages the kernel does not have yet, and the cache that the cold run left.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc

from pachproto import pfs_pb2
from pfsfuse.kernel.mounts import mount_at
from tools.bench.measure import MIB, Bench, Server, serving
from tools.bench.network import Network, slow_line
from tools.bench.store import Client, write_random
from tools.s3server import environment, gateway_path

ROUND_TRIP_SECONDS = 0.02
START_SECONDS = 60
STORED_SECONDS = 600
END_SECONDS = 20
SMALL_BYTES = 4096
ACCESS, SECRET = "bench-access", "bench-secret"
PLAIN, PACKS = "plain", "packs"
"""The buckets: files as the others want them, and the packs."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    large: int = 256 * MIB
    """Bytes of the large file."""
    small: int = 2000
    """Files of SMALL_BYTES."""
    entries: int = 100_000
    """Files in the directory that is listed."""
    written: int = 2000
    """Small files that are written."""
    seconds: float = 120
    """After which reading or writing small files is stopped: the others take minutes."""
    rounds: int = 3
    """Of what takes seconds; what takes the others minutes is done once."""


DEFAULT = Scale()
QUICK = Scale(4 * MIB, 20, 200, 5, rounds=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    seconds: float
    requests: int
    done: float = 1
    """The part that was done, where it was stopped for taking too long."""


class TooLongError(Exception):
    """A run was stopped when it had done a part, from 0 to 1."""

    def __init__(self, done: float) -> None:
        super().__init__()
        self.done = done


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is."""

    directory: pathlib.Path
    files: pathlib.Path
    """What the bucket PLAIN has, as the server keeps it, or as it was put there."""
    network: Network
    environment: Mapping[str, str]

    @contextlib.contextmanager
    def process(self, command: Sequence[str], env: Mapping[str, str], point: pathlib.Path) -> Iterator[pathlib.Path]:
        """A process that mounts something at `point`, and is asked to end."""
        point.mkdir()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **self.environment, **env}
            )
            try:
                _wait(lambda: point.is_mount() or process.poll() is not None, f"{command[0]} to mount")
                if process.poll() is not None:
                    errors.seek(0)
                    raise RuntimeError(f"{command[0]} ended: {errors.read().decode(errors='replace')}")
                yield point
            finally:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):  # some do not end by themselves
                    process.wait(END_SECONDS)
                process.kill()
                process.wait()
                if mount_at(str(point)) is not None:
                    subprocess.run(["umount", "-l", str(point)], check=False)
                point.rmdir()


class Writer(abc.ABC):
    """A way for files into the bucket."""

    name = ""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abc.abstractmethod
    def write(self, work: Callable[[pathlib.Path], None], size: int) -> float:
        """Let `work` write `size` bytes to an empty directory; seconds until the bucket has them."""


class Contender(Writer):
    """A file system over the bucket. What is below is read as `large`, `small/*` and `many/*`."""

    keeps_names = False
    """Whether a new mount can know names and sizes from an earlier one, so that listing warm is another thing."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.cache = place.directory / f"cache-{self.name.split()[0]}"

    @abc.abstractmethod
    def mounted(self) -> contextlib.AbstractContextManager[pathlib.Path]:
        """The files, at a new mount."""

    def write(self, work: Callable[[pathlib.Path], None], size: int) -> float:
        target = f"written-{random.getrandbits(32)}"
        with self.mounted() as point:
            (point / target).mkdir()
            started = time.perf_counter()
            work(point / target)
            _wait(lambda: _size(self.place.files / target) >= size, f"{self.name} to store what was written")
            return time.perf_counter() - started


class Rclone(Contender):
    """`rclone mount`, with the cache that lets it read a file in pieces and write."""

    name = "rclone mount"

    def mounted(self) -> contextlib.AbstractContextManager[pathlib.Path]:
        environment = {
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
            "RCLONE_CONFIG_BENCH_ENDPOINT": self.place.environment["AWS_ENDPOINT_URL"],
            "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": ACCESS,
            "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": SECRET,
            "RCLONE_CONFIG_BENCH_REGION": "us-east-1",
            "RCLONE_CONFIG_BENCH_FORCE_PATH_STYLE": "true",
            "RCLONE_CONFIG": os.devnull,
            "AWS_CA_BUNDLE": "",  # what another program needs, it does not understand
        }
        point = self.place.directory / "at-rclone"
        options = ["--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--dir-cache-time", "1h", "--no-modtime"]
        command = ["rclone", "mount", f"bench:{PLAIN}", str(point), "--cache-dir", str(self.cache), *options]
        return self.place.process(command, environment, point)


class S3fs(Contender):
    """`s3fs`."""

    name = "s3fs"

    def mounted(self) -> contextlib.AbstractContextManager[pathlib.Path]:
        point = self.place.directory / "at-s3fs"
        self.cache.mkdir(exist_ok=True)
        url = self.place.environment["AWS_ENDPOINT_URL"]
        options = [
            f"url={url}",
            "use_path_request_style",
            f"use_cache={self.cache}",
            "endpoint=us-east-1",
        ]
        command = ["s3fs", PLAIN, str(point), "-f", *(word for option in options for word in ("-o", option))]
        environment = {"AWSACCESSKEYID": ACCESS, "AWSSECRETACCESSKEY": SECRET}
        return self.place.process(command, environment, point)


class Pfsd(Contender):
    """The mount of this project, which keeps blocks in a directory of its own, as on another machine."""

    name = "pfsd"
    keeps_names = True

    def __init__(self, place: Place, server: Server, name: str = "pfsd") -> None:
        self.name = name
        super().__init__(place)
        self.server = server
        self._mounts = 0

    def mounted(self) -> contextlib.AbstractContextManager[pathlib.Path]:
        return self._mounted("bench/master")

    @contextlib.contextmanager
    def _mounted(self, below: str) -> Iterator[pathlib.Path]:
        point = self.place.directory / f"at-{self.name.split()[0]}"
        command = [sys.executable, "-m", "pfsfuse.mount", "--mountpoint", str(point), "--address", self.server.address]
        with self.place.process(command, {"PFS_CACHE_DIR": str(self.cache)}, point):
            yield point / below

    def write(self, work: Callable[[pathlib.Path], None], size: int) -> float:
        self.server.pachctl("start-commit", "written", "master")
        with self._mounted("written/master") as target:
            started = time.perf_counter()
            work(target)
            with grpc.insecure_channel(self.server.address) as channel:
                Client(channel).finish(pfs_pb2.Commit(repo=pfs_pb2.Repo(name="written"), id="master"))
            return time.perf_counter() - started


class Pachctl(Writer):
    """`pachctl put-file -r` of files on the disk, into a commit that it starts and finishes."""

    name = "pachctl put-file -r"

    def __init__(self, place: Place, server: Server) -> None:
        super().__init__(place)
        self.server = server

    def write(self, work: Callable[[pathlib.Path], None], size: int) -> float:
        with tempfile.TemporaryDirectory(dir=self.place.directory) as source:
            work(pathlib.Path(source))
            os.sync()
            return self.server.pachctl("put-file", "-c", "-r", "written", "master", "/", "-f", source).seconds


# --- the tables


def run(bench: Bench, large: bool, quick: bool) -> None:
    """Print all tables."""
    scale = QUICK if quick else DEFAULT
    with bench.scratch() as scratch, _place(scratch) as place:
        make_files(place.files, scale)
        options = ["--object-store", f"s3://{PACKS}/root", "--cache-dir", str(scratch / "daemons-cache")]
        with (
            serving(scratch / "root", options=options, env=place.environment) as server,
            serving(scratch / "local-root") as local,
        ):
            for each in (server, local):
                each.pachctl("create-repo", "bench")
                each.pachctl("create-repo", "written")
                each.pachctl("put-file", "-c", "-r", "bench", "master", "/", "-f", str(place.files))
            own = Pfsd(place, server)
            beside = [Pfsd(place, local, "local packs (pfsd)")]
            others = [kind(place) for kind in (Rclone, S3fs) if shutil.which(kind.name.split()[0])]
            size = scale.large / MIB
            small = functools.partial(read_small, seconds=scale.seconds)
            readings: list[tuple[str, Callable[[pathlib.Path], int], float, str, int]] = [
                (f"read one file of {size:g} MiB", read_large, size, "MiB", scale.rounds),
                (f"read {scale.small:,} files of {SMALL_BYTES} bytes", small, scale.small, "files", 1),
                (f"list {scale.entries:,} files with their sizes", list_many, scale.entries, "files", 1),
            ]
            for title, work, amount, unit, rounds in readings:
                _compare(title, _read([own, *beside, *others], work, rounds), amount, unit)
            writers = [own, Pachctl(place, server), *beside, *others]
            _compare(
                f"write one file of {size:g} MiB, until it is stored",
                _write(writers, write_large, scale, scale.large, scale.rounds),
                size,
                "MiB",
            )
            _compare(
                f"write {scale.written:,} files of {SMALL_BYTES} bytes, until they are stored",
                _write(writers, write_small, scale, scale.written * SMALL_BYTES, 1),
                scale.written,
                "files",
            )


def _read(contenders: Sequence[Contender], work: Callable[[pathlib.Path], int], rounds: int) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {}
    amounts = set()
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            shutil.rmtree(contender.cache, ignore_errors=True)
            for state in ("cold", "warm") if work is not list_many or contender.keeps_names else ("cold",):
                done = 1.0
                with contender.mounted() as point:
                    os.sync()
                    before, started = contender.place.network.requests(), time.perf_counter()
                    try:
                        amounts.add(work(point))
                    except TooLongError as error:
                        done = error.done
                    cost = Cost(time.perf_counter() - started, contender.place.network.requests() - before, done)
                costs.setdefault(f"{contender.name}, {state}", []).append(cost)
    if len(amounts) != 1:
        raise RuntimeError(f"not everybody read the same: {amounts}")
    return costs


def _write(
    contenders: Sequence[Writer], work: Callable[..., None], scale: Scale, size: int, rounds: int
) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            os.sync()
            before = contender.place.network.requests()
            done, started = 1.0, time.perf_counter()
            try:
                seconds = contender.write(functools.partial(work, scale=scale, seed=f"{contender.name} {number}"), size)
            except TooLongError as error:
                done, seconds = error.done, time.perf_counter() - started
            cost = Cost(seconds, contender.place.network.requests() - before, done)
            costs.setdefault(contender.name, []).append(cost)
    return costs


def _compare(title: str, costs: Mapping[str, Sequence[Cost]], amount: float, unit: str) -> None:
    """A table; a run's ratio is over that of pfsd, the first, in the same state and round.

    Of a run that was stopped, the time for all of it is an estimate.
    """
    print(f"\n{title}\n{'':40}{'time':>10}{'rate':>18}{'requests':>10}{'x pfsd':>9}")
    for name, own in costs.items():
        _, comma, state = name.rpartition(", ")
        base = costs.get(f"pfsd, {state}" if comma else "pfsd", own)
        ratio = statistics.median(a.seconds / a.done / b.seconds for a, b in zip(own, base, strict=True))
        seconds = statistics.median(cost.seconds / cost.done for cost in own)
        rate = f"{amount / seconds:,.0f} {unit}/s"
        last = own[-1]
        stopped = f"   stopped after {last.seconds:.0f} s, {last.done:.0%} done" if last.done < 1 else ""
        print(f"  {name:38}{seconds:>8.2f} s{rate:>18}{last.requests:>10,}{ratio:>9.2f}{stopped}", flush=True)


# --- what is done


def make_files(directory: pathlib.Path, scale: Scale) -> None:
    """Write the files that are read and listed."""
    source = random.Random(1)
    write_random(directory / "large", scale.large, source)
    for name, count, size in (("small", scale.small, SMALL_BYTES), ("many", scale.entries, 16)):
        (directory / name).mkdir()
        for number in range(count):
            (directory / name / f"file-{number:06}").write_bytes(source.randbytes(size))


def read_large(point: pathlib.Path) -> int:
    """Read `large` from its beginning to its end; how many bytes that were."""
    total = 0
    with (point / "large").open("rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while count := file.readinto(buffer):
            total += count
    return total


def read_small(point: pathlib.Path, seconds: float) -> int:
    """Read the files of `small` one after the other; how many bytes they have."""
    total = 0
    names = sorted(os.listdir(point / "small"))
    deadline = time.monotonic() + seconds
    for number, name in enumerate(names):
        total += len((point / "small" / name).read_bytes())
        if time.monotonic() > deadline:
            raise TooLongError((number + 1) / len(names))
    return total


def list_many(point: pathlib.Path) -> int:
    """Look at everything in `many`; the sum of the sizes."""
    with os.scandir(point / "many") as found:
        return sum(entry.stat().st_size for entry in found)


def write_large(target: pathlib.Path, scale: Scale, seed: str) -> None:
    """Write one file of random bytes, which nobody else writes: the same would not be stored again."""
    write_random(target / "large", scale.large, random.Random(f"large {seed}"))


def write_small(target: pathlib.Path, scale: Scale, seed: str) -> None:
    """Write many files of random bytes."""
    source = random.Random(f"small {seed}")
    deadline = time.monotonic() + scale.seconds
    for number in range(scale.written):
        (target / f"file-{number:06}").write_bytes(source.randbytes(SMALL_BYTES))
        if time.monotonic() > deadline:
            raise TooLongError((number + 1) / scale.written)


# --- the server


@contextlib.contextmanager
def _place(scratch: pathlib.Path) -> Iterator[Place]:
    """A server with two buckets, behind a slow line."""
    program = gateway_path()
    if program is None:
        raise RuntimeError("there is no versitygw here: python -m tools.s3server builds it")
    cpus = sorted(_all_cpus() - os.sched_getaffinity(0)) or sorted(os.sched_getaffinity(0))
    files, beside = scratch / "buckets", scratch / "beside"
    files.mkdir()
    beside.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["taskset", "-c", str(cpus[0]), str(program), "--access", ACCESS, "--secret", SECRET, "--port", address]
    process = subprocess.Popen(
        [*command, "--quiet", "posix", "--sidecar", str(beside), str(files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(lambda: _answers(address), "versitygw to answer")
        for bucket in (PLAIN, PACKS):
            (files / bucket).mkdir()
        with slow_line(address, ROUND_TRIP_SECONDS, cpus[0]) as network:
            settings = environment(f"http://{network.address}", ACCESS, SECRET)
            yield Place(scratch, files / PLAIN, network, settings)
    finally:
        process.kill()
        process.wait()


def _all_cpus() -> set[int]:
    return set(range(os.cpu_count() or 1))


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # if only to say no
    except OSError:
        return False


def _size(directory: pathlib.Path) -> int:
    """Bytes of the files in a directory, which may not be there yet."""
    if not directory.is_dir():
        return 0
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())


def _wait(is_done: Callable[[], bool], what: str) -> None:
    """Return once something is so; raises RuntimeError after long."""
    deadline = time.monotonic() + max(START_SECONDS, STORED_SECONDS)
    while not is_done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited for {what} in vain")
        time.sleep(0.02)
