"""The store: putting files, commits, differences, lists and what many versions take on disk."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import grpc
from google.protobuf import empty_pb2

from pachproto import pfs_pb2, versionpb_pb2
from pfsd import rpc
from pfsd.filesystem.store import Store
from tools.bench.measure import (
    MIB,
    Bench,
    Contender,
    Sample,
    Server,
    alternate,
    compare,
    disk_bytes,
    heading,
    line,
    run_command,
    serving,
)

BATCH = 500
"""Files of an upload, where a root is prepared."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    files: tuple[int, ...] = (256 * MIB,)
    """Sizes of the large files."""
    trees: tuple[int, ...] = (20_000,)
    """Counts of the tiny files."""
    entries: int = 100_000
    """Files in the directory that is listed, changed and compared."""
    rounds: int = 3
    calls: int = 300
    versions: int = 20
    version_bytes: int = 64 * MIB
    edit_bytes: int = MIB


DEFAULT = Scale()
LARGE = replace(
    DEFAULT, files=(256 * MIB, 4096 * MIB), trees=(20_000, 1_000_000), versions=100, version_bytes=256 * MIB
)
LARGE_ENTRIES = 1_000_000
QUICK = Scale((MIB,), (50,), 200, 1, 5, 2, 2 * MIB, MIB // 8)


def run(bench: Bench, large: bool, quick: bool) -> None:
    """Print all tables."""
    scale = LARGE if large else QUICK if quick else DEFAULT
    for size in scale.files:
        put_file(bench, size, scale.rounds)
    for count in scale.trees:
        put_tree(bench, count, scale.rounds if count < 1_000_000 else 1)
    with_many_files(bench, scale.entries, scale)
    if large:
        with_many_files(bench, LARGE_ENTRIES, scale)
    versions(bench, scale)


# --- putting


def put_file(bench: Bench, size: int, rounds: int) -> None:
    """One file of random bytes."""
    with bench.scratch() as scratch:
        source = scratch / "file"
        write_random(source, size, random.Random(1))
        samples = alternate(putters(bench, source, ["data", "-f", str(source)]), rounds)
        compare(f"put one file of {size // MIB} MiB", samples, size / MIB, "MiB")


def put_tree(bench: Bench, count: int, rounds: int) -> None:
    """Many tiny files, 100 to a directory."""
    with bench.scratch() as scratch:
        source = scratch / "tree"
        for number in range(count):
            path = source / f"{number // 100:05d}" / f"file-{number}"
            if number % 100 == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"content of %d\n" % number)
        samples = alternate(putters(bench, source, ["-r", "data", "-f", str(source)]), rounds)
        compare(f"put {count:,} tiny files", samples, count, "files")


def putters(bench: Bench, source: pathlib.Path, arguments: Sequence[str]) -> dict[str, Contender]:
    """Contenders that store `source` in an empty place; those that are not installed are left out."""

    def pfsd() -> Sample:
        with bench.scratch() as scratch, serving(scratch / "root") as server:
            server.pachctl("create-repo", "bench")
            options = [argument for argument in arguments if argument == "-r"]
            rest = [argument for argument in arguments if argument != "-r"]
            sample = server.pachctl("put-file", "-c", *options, "bench", "master", *rest)
            return replace(sample, disk=disk_bytes(server.root))

    def copy() -> Sample:
        with bench.scratch() as scratch:
            sample = run_command(["cp", "-r", str(source), str(scratch / "copy")])
            return replace(sample, disk=disk_bytes(scratch))

    contenders: dict[str, Contender] = {"pfsd, pachctl put-file -c": pfsd, "cp -r, not synced": copy}
    for peer in peers():
        contenders[peer.name] = lambda peer=peer: peer.store(bench, source)  # type: ignore[misc]
    return contenders


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program that stores what it is given once."""

    name: str
    init: Callable[[pathlib.Path], Sequence[str]]
    create: Callable[[pathlib.Path, str, pathlib.Path], Sequence[str]]

    def environment(self, scratch: pathlib.Path) -> dict[str, str]:
        """Lets it keep its caches in the scratch directory, and ask nothing."""
        home = {"HOME": str(scratch), "XDG_CACHE_HOME": str(scratch / "cache"), "RESTIC_PASSWORD": "bench"}
        return home | {"BORG_BASE_DIR": str(scratch / "borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def store(self, bench: Bench, source: pathlib.Path) -> Sample:
        """The cost of storing `source` in a new repository."""
        with bench.scratch() as scratch:
            repository = scratch / "repository"
            environment = self.environment(scratch)
            run_command(self.init(repository), environment)
            sample = run_command(self.create(repository, "one", source), environment)
            return replace(sample, disk=disk_bytes(repository))


def peers() -> Iterator[Peer]:
    """Those that are installed."""
    if shutil.which("borg"):
        yield Peer(
            "borg create -C none",
            lambda repository: ["borg", "init", "-e", "none", str(repository)],
            lambda repository, name, source: ["borg", "create", "-C", "none", f"{repository}::{name}", str(source)],
        )
    if shutil.which("restic"):
        yield Peer(
            "restic backup",
            lambda repository: ["restic", "-r", str(repository), "init"],
            lambda repository, name, source: ["restic", "-r", str(repository), "backup", "--tag", name, str(source)],
        )


# --- a commit of many files


def with_many_files(bench: Bench, count: int, scale: Scale) -> None:
    """What costs a commit of many files in one directory."""
    with bench.scratch() as scratch:
        heading(f"a commit of {count:,} files in one directory")
        started = time.perf_counter()
        prepare(scratch / "root", count)
        seconds = time.perf_counter() - started
        line("staged and folded without the daemon", seconds, f"{count / seconds:,.0f} files/s")
        with serving(scratch / "root") as server, grpc.insecure_channel(server.address) as channel:
            finishing(channel, scale)
            cycles(channel, scale)
            differing(channel, scale)
            listing(server, count, scale)


def prepare(root: pathlib.Path, count: int) -> None:
    """Make a root with two repos: `empty`, and `many` with a finished commit of so many files."""
    store = Store(root)
    for name in ("empty", "many"):
        store.repos.create(name)
        commit = store.commits.start(name, branch="master")
        for start in range(0, count if name == "many" else 0, BATCH):
            upload = store.files.upload(commit)
            for number in range(start, min(count, start + BATCH)):
                upload.begin(f"d/file-{number:07d}")
                upload.write(b"content of %d\n" % number)
            upload.finish()
        store.commits.finish(name, commit.id)
    store.close()


class Client:
    """The calls of a client that is measured."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._pfs = rpc.Stub(channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])
        self._version = rpc.Stub(channel, versionpb_pb2.DESCRIPTOR.services_by_name["API"])

    def start(self, repo: str) -> pfs_pb2.Commit:
        parent = pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo))
        started: pfs_pb2.Commit = self._pfs.StartCommit(pfs_pb2.StartCommitRequest(parent=parent, branch="master"))
        return started

    def put(self, commit: pfs_pb2.Commit, path: str, data: bytes) -> None:
        file = pfs_pb2.File(commit=commit, path=path)
        self._pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=file, value=data, overwrite=True)]))

    def finish(self, commit: pfs_pb2.Commit) -> None:
        self._pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))

    def diff(self, new: pfs_pb2.Commit, old: pfs_pb2.Commit) -> int:
        """How many files differ."""
        files = [pfs_pb2.File(commit=commit, path="d") for commit in (new, old)]
        request = pfs_pb2.DiffFileRequest(new_file=files[0], old_file=files[1])
        return len(self._pfs.DiffFile(request).new_files)

    def nothing(self) -> None:
        """An empty unary call."""
        self._version.GetVersion(empty_pb2.Empty())


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def finishing(channel: grpc.Channel, scale: Scale) -> None:
    """Finishing a commit that changes one file, against the same in an empty repo."""
    client = Client(channel)

    def finish(repo: str) -> Sample:
        commit = client.start(repo)
        client.put(commit, "d/file-0000042", os.urandom(16))
        return Sample(timed(lambda: client.finish(commit)))

    contenders = {repo: (lambda repo=repo: finish(repo)) for repo in ("empty", "many")}
    samples = alternate(contenders, max(4, scale.calls // 10))
    empty, many = ([sample.seconds for sample in samples[repo]] for repo in ("empty", "many"))
    ratio = statistics.median(b / a for a, b in zip(empty, many, strict=True))
    line("finish a commit of 1 file, empty repo", statistics.median(empty))
    line("finish a commit that changes 1 file", statistics.median(many), f"{ratio:.2f} x empty")


def cycles(channel: grpc.Channel, scale: Scale) -> None:
    """Start, put and finish, three calls, against empty calls."""
    client = Client(channel)

    def cycle() -> Sample:
        def work() -> None:
            commit = client.start("empty")
            client.put(commit, "f", os.urandom(16))
            client.finish(commit)

        return Sample(timed(work))

    contenders = {"cycle": cycle, "call": lambda: Sample(timed(client.nothing))}
    samples = alternate(contenders, scale.calls)
    cycle_time, call_time = (statistics.median(sample.seconds for sample in samples[name]) for name in contenders)
    line("an empty unary call", call_time, f"{1 / call_time:,.0f} /s")
    line("start, put, finish", cycle_time, f"{1 / cycle_time:,.0f} /s")
    line("  its three calls against empty ones", cycle_time / 3, f"{3 * call_time / cycle_time:.0%}")


def differing(channel: grpc.Channel, scale: Scale) -> None:
    """The difference of two commits that differ in 10 files."""
    client = Client(channel)
    commits = []
    for turn in range(2):
        commits.append(client.start("many"))
        for number in range(10):
            client.put(commits[-1], f"d/file-{number * 19:07d}", b"changed %d" % turn)
        client.finish(commits[-1])
    found = client.diff(commits[1], commits[0])
    if found != 10:
        raise RuntimeError(f"{found} files differ where 10 do")
    times = [timed(lambda: client.diff(commits[1], commits[0])) for _ in range(scale.rounds)]
    line("difference of two that differ in 10 files", statistics.median(times))


def listing(server: Server, count: int, scale: Scale) -> None:
    """The whole directory as pachctl prints it."""
    for name, arguments in (("list-file", "d"), ("glob-file", "d/*")):
        samples = [server.pachctl(name, "many", "master", arguments, lines=count) for _ in range(scale.rounds)]
        seconds = statistics.median(sample.seconds for sample in samples)
        line(f"pachctl {name} of all", seconds, f"{count / seconds:,.0f} files/s", sample=samples[-1])


# --- versions


def versions(bench: Bench, scale: Scale) -> None:
    """What versions of a file take, each with one edit, as a share of their plain sum."""
    plain = scale.versions * scale.version_bytes
    size, edit = scale.version_bytes // MIB, scale.edit_bytes / MIB
    heading(f"{scale.versions} versions of a file of {size} MiB, each with {edit:g} MiB changed; time is per version")
    with bench.scratch() as scratch:
        with serving(scratch / "root") as server:
            server.pachctl("create-repo", "bench")

            def put(source: pathlib.Path, number: int) -> Sample:
                return server.pachctl("put-file", "-c", "-o", "bench", "master", "file", "-f", str(source))

            _versions("pfsd", put, scratch, server.root, scale, plain)
        for peer in peers():
            environment = peer.environment(scratch)
            repository = scratch / "repository"
            run_command(peer.init(repository), environment)

            def create(
                source: pathlib.Path,
                number: int,
                peer: Peer = peer,
                repository: pathlib.Path = repository,
                environment: dict[str, str] = environment,
            ) -> Sample:
                return run_command(peer.create(repository, f"v{number}", source), environment)

            _versions(peer.name, create, scratch, repository, scale, plain)
            shutil.rmtree(repository)
    if scale.versions < LARGE.versions:
        print(f"  (scaled down; --large takes {LARGE.versions} versions of {LARGE.version_bytes // MIB} MiB)")


def _versions(
    name: str,
    put: Callable[[pathlib.Path, int], Sample],
    scratch: pathlib.Path,
    stored: pathlib.Path,
    scale: Scale,
    plain: int,
) -> None:
    chosen = random.Random(2)
    source = scratch / "file"
    write_random(source, scale.version_bytes, chosen)
    samples = []
    for number in range(scale.versions):
        if number:
            with source.open("r+b") as file:
                file.seek(chosen.randrange(scale.version_bytes - scale.edit_bytes))
                file.write(chosen.randbytes(scale.edit_bytes))
        samples.append(put(source, number))
    size = disk_bytes(stored)
    seconds = statistics.median(sample.seconds for sample in samples)
    line(name, seconds, f"{size / plain:.1%} of plain", sample=replace(samples[-1], disk=size))


def write_random(path: pathlib.Path, size: int, source: random.Random) -> None:
    """Write a file of random bytes, which a seed decides."""
    with path.open("wb") as file:
        while size:
            file.write(source.randbytes(min(size, MIB)))
            size -= min(size, MIB)
