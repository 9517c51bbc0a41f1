"""How soon one client is answered while others load the daemon: InspectRepo under each of many loads."""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import _core, rpc
from tools.bench.measure import MIB, Bench, serving

REPO = "bench"
BATCH = 1000
"""Files in a message."""
WARM_CALLS = 50
LONGEST_SECONDS = 30.0
"""For which a call is waited."""
SLOW_PUTS = 64
WRITERS = 100


@dataclass(frozen=True, slots=True)
class Scale:
    """How much load."""

    seconds: float = 20.0
    """For which one is measured at most, from when it has begun."""
    rows: int = 400_000
    names: int = 200_000
    json_bytes: int = 100 * MIB
    line_bytes: int = 300 * MIB


DEFAULT = Scale()
LARGE = Scale(seconds=120.0)
QUICK = Scale(0.3, 500, 300, MIB, MIB)


class Client:
    """One connection."""

    def __init__(self, address: str) -> None:
        options = [*rpc.CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(address, options)
        self.pfs: Any = rpc.Stub(channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])
        self.store: Any = rpc.Stub(channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])

    def start(self, branch: str) -> pfs_pb2.Commit:
        """Start a commit."""
        at = pfs_pb2.Commit(repo={"name": REPO})
        commit: pfs_pb2.Commit = self.pfs.StartCommit(pfs_pb2.StartCommitRequest(parent=at, branch=branch))
        return commit

    def put(
        self, commit: pfs_pb2.Commit, path: str, blocks: Iterator[bytes], delimiter: pfs_pb2.Delimiter = pfs_pb2.NONE
    ) -> None:
        """Put a file."""
        file = pfs_pb2.File(commit=commit, path=path)
        self.pfs.PutFile(pfs_pb2.PutFileRequest(file=file, value=block, delimiter=delimiter) for block in blocks)

    def put_names(self, commit: pfs_pb2.Commit, names: Iterator[str]) -> None:
        """Put a small file of each name."""

        def messages() -> Iterator[pfsd_pb2.PutFilesRequest]:
            while True:
                files = [pfsd_pb2.FilePut(path=name, data=b"x") for _, name in zip(range(BATCH), names, strict=False)]
                if not files:
                    return
                yield pfsd_pb2.PutFilesRequest(commit=commit, files=files)

        self.store.PutFiles(messages())


Load = Callable[[Client, str, Scale, Any], None]
"""Loads the daemon of an address; sets the event once what is to be measured begins."""


def run(bench: Bench, large: bool, quick: bool) -> None:
    """Print the table."""
    scale = LARGE if large else QUICK if quick else DEFAULT
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # on one core, the load's client would be measured too
    try:
        print(f"\nInspectRepo under load, for up to {scale.seconds:g} s each; all cores")
        print(f"{'':<52}{'p50':>9}{'p99':>9}{'max':>9}{'calls':>8}{'load took':>11}{'SIGTERM':>9}")
        for name, load in LOADS.items():
            measure(bench, name, load, scale)
    finally:
        os.sched_setaffinity(0, own)


def measure(bench: Bench, name: str, load: Load, scale: Scale) -> None:
    """One line of the table."""
    context = multiprocessing.get_context("spawn")
    with bench.scratch() as scratch, serving(scratch / "root") as server:
        client = Client(server.address)
        repo = pfs_pb2.Repo(name=REPO)
        client.pfs.CreateRepo(pfs_pb2.CreateRepoRequest(repo=repo))
        request = pfs_pb2.InspectRepoRequest(repo=repo)
        for _ in range(WARM_CALLS):
            client.pfs.InspectRepo(request)
        begun = context.Event()
        process = context.Process(target=_load, args=(name, server.address, scale, begun), daemon=True)
        process.start()
        while not begun.wait(0.1) and process.is_alive():
            pass
        started = time.monotonic()
        times = []
        while process.is_alive() and time.monotonic() - started < scale.seconds:
            before = time.perf_counter()
            try:
                client.pfs.InspectRepo(request, timeout=LONGEST_SECONDS)
            except grpc.RpcError:  # not answered at all
                break
            finally:
                times.append(time.perf_counter() - before)
            time.sleep(0.002)
        took = "" if process.is_alive() else f"{time.monotonic() - started:.1f} s"
        ending = time.monotonic()
        try:
            server.stop()
        except subprocess.TimeoutExpired:
            pass  # it was killed, and the line tells after how long
        ended = time.monotonic() - ending
        process.kill()
        process.join()
    if len(times) < 2:
        print(f"{name:<52}  over before it was measured")
        return
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    cells = [f"{seconds * 1e3:.1f} ms" for seconds in (statistics.median(times), cuts[98], max(times))]
    print(f"{name:<52}{''.join(f'{cell:>9}' for cell in cells)}{len(times):>8,}{took:>11}{ended:>7.1f} s", flush=True)


def _load(name: str, address: str, scale: Scale, begun: Any) -> None:
    os.nice(5)  # on a small machine the load's own client takes processor time, too, that nobody has to wait for
    try:
        LOADS[name](Client(address), address, scale, begun)
    except grpc.RpcError:  # refused, or the measuring is over and the daemon with it
        pass


# --- loads


def idle(_client: Client, _address: str, scale: Scale, begun: Any) -> None:
    begun.set()
    time.sleep(scale.seconds)


def slow_urls(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    """Puts from a server that sends a byte every second."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=SLOW_PUTS)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    commit = client.start("master")

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(int(scale.seconds) + 10):
            connection.sendall(b"x")
            time.sleep(1)

    files = [pfs_pb2.File(commit=commit, path=f"f{number}") for number in range(SLOW_PUTS)]
    puts = [client.pfs.PutFile.future(iter([pfs_pb2.PutFileRequest(file=file, url=url)])) for file in files]
    for _ in range(SLOW_PUTS * 3 // 4):  # as many as one client may
        threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()
    begun.set()
    for put in puts:
        put.result()


def writers_behind_a_fold(client: Client, address: str, scale: Scale, begun: Any) -> None:
    """Puts into a commit, through a connection each, while what it holds is folded."""
    commit = client.start("master")
    client.put_names(commit, (f"d/{number:07d}" for number in range(scale.rows)))
    fold = client.store.GetCommitTree.future(commit)
    begun.set()
    puts = [Client(address) for _ in range(WRITERS)]
    threads = [
        threading.Thread(target=one.put, args=(commit, f"w{number}", iter([b"x"]))) for number, one in enumerate(puts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fold.result()


def fold(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    commit = client.start("master")
    client.put_names(commit, (f"d{number % 7}/{number:07d}" for number in range(scale.rows)))
    begun.set()
    client.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))


def stars(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    commit = client.start("master")
    client.put_names(commit, iter(["a" * 60]))
    client.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))
    begun.set()
    _again(scale, lambda: client.pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=commit, pattern="*a" * 12 + "b")))


def far_ancestor(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    commit = client.start("master")
    client.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=commit))
    begun.set()
    far = pfs_pb2.Commit(repo={"name": REPO}, id="master~999999999999")
    _again(scale, lambda: client.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=far)))


def _again(scale: Scale, call: Callable[[], object]) -> None:
    """Make a call again and again, refused or not."""
    deadline = time.monotonic() + scale.seconds
    while time.monotonic() < deadline:
        try:
            call()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise


def split_json(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    commit = client.start("master")
    element = b'{"name": "value", "numbers": [1, 2, 3.5], "text": "\\"quoted\\""},'
    block = element * (MIB // len(element))
    begun.set()

    def blocks() -> Iterator[bytes]:
        yield b"["
        for _ in range(scale.json_bytes // len(block)):
            yield block
        yield b"0]"

    client.put(commit, "f", blocks(), pfs_pb2.JSON)


def split_line(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    commit = client.start("master")
    begun.set()
    client.put(commit, "f", (b"A" * MIB for _ in range(scale.line_bytes // MIB)), pfs_pb2.LINE)


def one_node(client: Client, _address: str, scale: Scale, begun: Any) -> None:
    """A directory of names of which none ends a tree node, then files added to it one at a time."""
    commit = client.start("master")
    chosen = (name for number in range(1 << 60) if _core.rank((name := f"{number:08d}").encode()) == 0)
    client.put_names(commit, (f"d/{name}" for _, name in zip(range(scale.names), chosen, strict=False)))
    client.store.GetCommitTree(commit)
    begun.set()

    def add() -> None:
        client.put_names(commit, iter([f"d/{next(chosen)}"]))
        client.store.GetCommitTree(commit)

    _again(scale, add)


LOADS: dict[str, Load] = {
    "idle": idle,
    f"{SLOW_PUTS} puts from URLs that send a byte a second": slow_urls,
    f"{WRITERS} writers wait for a commit that folds": writers_behind_a_fold,
    "a glob with many stars on a long name": stars,
    "master~999999999999": far_ancestor,
    "--split json of one large array": split_json,
    "--split line without a newline": split_line,
    "files added to a directory of chosen names": one_node,
    "a commit of many files is finished": fold,
}
