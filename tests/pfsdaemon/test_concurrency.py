"""Many clients at once: each case of writers, readers, branches and waiting calls, with threads and processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from tests.support.daemons import Daemon, commit
from tests.support.places import TREE

SECONDS = 60
"""Whatever takes longer hangs."""

PROCESS = """
import sys
from pachproto import pfs_pb2
from tests.support.daemons import Daemon, commit
import pathlib
daemon = Daemon(pathlib.Path("unused"))
daemon.address, repo, at, number, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
for turn in range(count):
    here = commit(repo, at) if at else daemon.start_commit(repo, f"b{number}")
    daemon.put(here, f"own/{number}-{turn}", b"%d" % number * 3000)
    daemon.put(here, "shared", b"%04d\\n" % (number * 100 + turn))
    if not at:
        daemon.finish_commit(here)
"""


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(0)` to `work(count - 1)` return or raise, run in threads that begin together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait(SECONDS)
        try:
            return work(number)
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=SECONDS))


def refusals(results: list[Any]) -> list[str]:
    """The sentences of those that were refused; none may be a defect."""
    refused = [result for result in results if isinstance(result, grpc.RpcError)]
    assert all(error.code() is grpc.StatusCode.FAILED_PRECONDITION for error in refused), refused
    return [str(error.details()) for error in refused]


@pytest.fixture(autouse=True)
def no_defects(daemon: Daemon) -> Iterator[None]:
    """Every test ends with a daemon that met no defect and a store without a problem."""
    yield
    assert "a defect" not in daemon.log()
    assert "Traceback" not in daemon.log()
    admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
    *problems, _ = admin.Fsck(pfsd_pb2.FsckRequest(), timeout=SECONDS)
    assert problems == []


@contextlib.contextmanager
def processes(daemon: Daemon, repo: str, at: str, count: int, turns: int) -> Iterator[None]:
    """Client processes; the block ends when they have."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, daemon.address, repo, at, str(number), str(turns)],
            cwd=TREE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        yield
        for process in running:
            _, stderr = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, stderr
    finally:
        for process in running:
            process.kill()
            process.communicate()


# --- writers


def test_parallel_writers_to_one_commit_all_get_in(daemon: Daemon) -> None:
    daemon.create_repo("r")
    opened = daemon.start_commit("r")

    def write(number: int) -> None:
        for turn in range(5):
            daemon.put(opened, f"d{number % 3}/own-{number}-{turn}", bytes((number,)) * 20_000)
            daemon.put(opened, "shared", b"%02d\n" % number)
            daemon.put(opened, "large", b"%02d" % number * 100_000)

    assert at_once(12, write) == [None] * 12
    daemon.finish_commit(opened)
    for number in range(12):
        assert daemon.get(opened, f"d{number % 3}/own-{number}-4") == bytes((number,)) * 20_000
    lines = daemon.get(opened, "shared").split()
    assert sorted(lines) == sorted([b"%02d" % number for number in range(12)] * 5)
    large = daemon.get(opened, "large")
    parts = [large[at : at + 200_000] for at in range(0, len(large), 200_000)]
    assert all(part == part[:2] * 100_000 for part in parts)  # each append is there in one piece
    assert len(parts) == 60


def test_parallel_processes_write_to_one_commit(daemon: Daemon) -> None:
    daemon.create_repo("r")
    opened = daemon.start_commit("r")
    with processes(daemon, "r", opened.id, 4, 10):
        pass
    daemon.finish_commit(opened)
    assert len(daemon.list(opened, "own")) == 40
    assert len(set(daemon.get(opened, "shared").split())) == 40


def test_parallel_processes_write_commits_of_their_own(daemon: Daemon) -> None:
    daemon.create_repo("r")
    with processes(daemon, "r", "", 4, 6):
        pass
    for number in range(4):
        head = commit("r", f"b{number}")
        assert daemon.list(head, "own") == [f"own/{number}-{turn}" for turn in range(6)]
        assert daemon.get(head, "shared").split() == [b"%04d" % (number * 100 + turn) for turn in range(6)]
    commits = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="r"))).commit_info
    assert len(commits) == 24


def test_parallel_repos_with_equal_content_store_it_once(daemon: Daemon) -> None:
    content = bytes(range(256)) * 20_000
    for number in range(8):
        daemon.create_repo(f"r{number}")
    results = at_once(8, lambda number: daemon.commit_files(f"r{number}", {"f": content}))
    assert refusals(results) == []
    packs = [*(daemon.root / "spool").iterdir(), *(daemon.root / "objects").rglob("????????????????????????????????")]
    assert sum(path.stat().st_size for path in packs) < 1.1 * len(content)


# --- readers


def test_readers_see_only_whole_puts(daemon: Daemon) -> None:
    daemon.create_repo("r")
    opened = daemon.start_commit("r")
    daemon.put(opened, "f", b"-" * 300_000)
    done = threading.Event()

    def read(_number: int) -> int:
        reads = 0
        while not done.is_set() or not reads:
            content = daemon.get(opened, "f")
            assert len(content) == 300_000
            assert content == content[:1] * 300_000
            pair = {path: daemon.get(opened, path) for path in daemon.list(opened, "pair")}
            assert set(pair) in (set(), {"pair/a", "pair/b"})
            reads += 1
        return reads

    def write(_number: int) -> None:
        try:
            for turn in range(15):
                daemon.put(opened, "f", bytes((65 + turn,)) * 300_000, overwrite=True)
                files = [pfs_pb2.File(commit=opened, path=f"pair/{name}") for name in "ab"]
                daemon.pfs.PutFile(
                    pfs_pb2.PutFileRequest(file=file, value=b"%d" % turn, overwrite=True) for file in files
                )
        finally:
            done.set()

    daemon.pfs.PutFile(
        pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=opened, path=f"pair/{name}"), value=b"x") for name in "ab"
    )
    results = at_once(5, lambda number: write(number) if number == 0 else read(number))
    assert refusals(results) == []
    assert all(reads >= 1 for reads in results[1:])


def test_a_branch_head_moves_under_readers_from_one_whole_commit_to_the_next(daemon: Daemon) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"a": b"0", "b": b"0"})
    done = threading.Event()

    def write(_number: int) -> None:
        try:
            for turn in range(1, 30):
                at = daemon.start_commit("r", "next")
                for name in "ab":
                    daemon.put(at, name, b"%d" % turn, overwrite=True)
                daemon.finish_commit(at)
                daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=at, branch="master"))
        finally:
            done.set()

    def read(_number: int) -> int:
        last = -1
        while not done.is_set():
            info = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", "master")))
            values = {daemon.get(info.commit, name) for name in "ab"}
            assert len(values) == 1
            turn = int(values.pop())
            assert turn >= last
            last = turn
        return last

    results = at_once(5, lambda number: write(number) if number == 0 else read(number))
    assert refusals(results) == []


# --- branches and commits


def test_of_two_commits_started_on_one_branch_at_once_one_is_refused(daemon: Daemon) -> None:
    daemon.create_repo("r")
    for _ in range(10):
        results = at_once(4, lambda _number: daemon.start_commit("r"))
        (winner,) = [result for result in results if not isinstance(result, grpc.RpcError)]
        expected = f"parent commit {winner.id} has not been finished: finish or delete it first"
        assert refusals(results) == [expected] * 3
        daemon.finish_commit(winner)


def test_of_many_finishes_of_one_commit_one_succeeds(daemon: Daemon) -> None:
    daemon.create_repo("r")
    for turn in range(5):
        opened = daemon.start_commit("r")
        daemon.put(opened, f"f{turn}", b"x" * 50_000)

        def finish(_number: int, opened: pfs_pb2.Commit = opened) -> None:
            daemon.finish_commit(opened)

        results = at_once(6, finish)
        refused = refusals(results)
        assert len(refused) == 5
        assert all("has already been finished" in text for text in refused)
    (info,) = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info
    assert info.size_bytes == 250_000


def test_a_put_that_races_a_finish_is_in_whole_or_refused(daemon: Daemon) -> None:
    daemon.create_repo("r")
    for _ in range(8):
        opened = daemon.start_commit("r")

        def work(number: int, opened: pfs_pb2.Commit = opened) -> None:
            if number == 0:
                daemon.finish_commit(opened)
            else:
                daemon.put(opened, f"f{number}", b"%d" % number * 400_000, overwrite=True)
                daemon.put(opened, f"f{number}", b"+", overwrite=False)

        results = at_once(5, work)
        assert all("is finished: start a new commit to write" in text for text in refusals(results))
        present = daemon.list(opened)
        for number in range(1, 5):
            whole = b"%d" % number * 400_000
            got = daemon.get(opened, f"f{number}") if f"f{number}" in present else b""
            if results[number] is None:
                assert got == whole + b"+"
        size = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=opened)).size_bytes
        assert size == sum(len(daemon.get(opened, path)) for path in present)


def test_a_put_that_races_the_deletion_of_its_commit_leaves_nothing(daemon: Daemon) -> None:
    daemon.create_repo("r")
    for _ in range(8):
        opened = daemon.start_commit("r")

        def work(number: int, opened: pfs_pb2.Commit = opened) -> None:
            if number == 0:
                daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=opened))
            else:
                daemon.put(opened, f"f{number}", b"x" * 400_000)

        for result in at_once(4, work):
            if isinstance(result, grpc.RpcError):
                assert result.code() is grpc.StatusCode.NOT_FOUND, result
        with pytest.raises(grpc.RpcError) as refusal:
            daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=opened))
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert not daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name="r"))).branch_info


def test_a_repo_is_deleted_under_its_writers(daemon: Daemon) -> None:
    for turn in range(5):
        repo = f"r{turn}"
        daemon.create_repo(repo)

        def work(number: int, repo: str = repo) -> None:
            if number == 0:
                daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name=repo)))
            else:
                for _ in range(5):
                    daemon.commit_files(repo, {"f": b"y" * 100_000}, branch=f"b{number}")

        results = at_once(4, work)
        assert results[0] is None
        assert all(
            isinstance(result, grpc.RpcError) and result.code() is grpc.StatusCode.NOT_FOUND for result in results[1:]
        ), results
    assert not daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info


# --- waiting calls


def test_hundreds_of_subscribers_all_see_every_commit_in_order(daemon: Daemon) -> None:
    streams, commits = 500, 8
    daemon.create_repo("r")
    request = pfs_pb2.SubscribeCommitRequest(repo=pfs_pb2.Repo(name="r"), branch="master")
    open_streams = [daemon.pfs.SubscribeCommit(request, timeout=SECONDS) for _ in range(streams)]
    made = [daemon.commit_files("r", {f"f{number}": b"x"}).id for number in range(commits)]

    def follow(stream: Any) -> list[str]:
        return [next(stream).commit.id for _ in range(commits)]

    with ThreadPoolExecutor(16) as pool:
        assert all(seen == made for seen in pool.map(follow, open_streams, timeout=SECONDS))
    for stream in open_streams:
        stream.cancel()
    assert daemon.list(commit("r", "master")) == [f"f{number}" for number in range(commits)]


def test_many_flushes_end_when_what_comes_of_their_commits_is_finished(daemon: Daemon) -> None:
    daemon.create_repo("in")
    daemon.create_repo("out", "in")
    sources = [daemon.commit_files("in", {"f": b"x"}) for _ in range(5)]
    streams = [
        daemon.pfs.FlushCommit(pfs_pb2.FlushCommitRequest(commits=[source]), timeout=SECONDS)
        for source in sources
        for _ in range(40)
    ]
    expected: dict[str, str] = {}
    for source in sources:
        made = daemon.pfs.StartCommit(
            pfs_pb2.StartCommitRequest(parent=commit("out", ""), branch="master", provenance=[source])
        )
        daemon.finish_commit(made)
        expected[source.id] = made.id
    with ThreadPoolExecutor(16) as pool:
        ends = list(pool.map(lambda stream: [info.commit.id for info in stream], streams, timeout=SECONDS))
    assert ends == [[expected[source.id]] for source in sources for _ in range(40)]


def test_the_daemon_answers_while_every_thread_of_it_writes(daemon: Daemon) -> None:
    daemon.create_repo("r")
    opened = daemon.start_commit("r")
    answered = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            for _ in range(20):
                daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name="r")), timeout=SECONDS)
            answered.set()
        else:
            while not answered.is_set():
                daemon.put(opened, f"f{number}", b"z" * 1_000_000, overwrite=True)

    assert refusals(at_once(24, work)) == []
