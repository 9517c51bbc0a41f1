"""Killing the daemon under load: what was finished is whole, and nothing else is finished.

`PFSD_CRASHES=300 pytest tests/pfsdaemon/test_crash.py` kills it that often instead of a few times.
"""

from __future__ import annotations

import os
import pathlib
import random
import threading
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from pachproto import edits_pb2, pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.filesystem.store import Store
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from pfsd.upkeep.collect import collect_garbage
from tests.support.attributes import encoded, symlink
from tests.support.daemons import START_SECONDS, Daemon, commit, running
from tests.support.putfiles import request

KILLS = int(os.environ.get("PFSD_CRASHES", "15"))
CLIENTS = 4
OLDER = 4
"""Commits of before that each client reads again after a kill."""

Content = tuple[tuple[int, int], ...]
"""A file as the seeds and sizes of the random bytes that it was put together from; at the end also what it keeps: see
`MODE` and `LINK`."""
Files = dict[str, Content]
MODES = (0o600, 0o755, 0o4711)
SIZES = (0, 10, 300, 5_000, 20_000, 90_000, 700_000)
MODE = -1
"""Instead of a seed: what follows are a file's permission bits."""
LINK = -2
"""Instead of a seed: it is a symbolic link with the number that follows for a target."""

Shown = tuple[bytes, int, bytes]
"""A file's bytes, its permission bits, and the target of a link."""


def data(content: Content) -> bytes:
    return b"".join(random.Random(seed).randbytes(size) for seed, size in content if seed >= 0)


def shown(content: Content) -> Shown:
    kept = dict(content[-1:])
    return data(content), kept.get(MODE, 0), b"%d" % kept[LINK] if LINK in kept else b""


@dataclass
class Open:
    """The commit that a client has open."""

    id: str
    candidates: list[Files]
    """What may be in it: more than one once a call was cut off."""


@dataclass
class Client:
    """One client with a branch of its own, and what it knows must be there."""

    number: int
    chosen: random.Random
    finished: dict[str, Files] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    """Finished since the last check."""
    head: str = ""
    open: Open | None = None
    side: set[str] = field(default_factory=set)
    """Where the branch `side` of the client may point; empty before it is set."""

    @property
    def repo(self) -> str:
        return f"r{self.number // 2}"

    @property
    def branch(self) -> str:
        return f"b{self.number}"

    # --- load

    def step(self, daemon: Daemon) -> None:
        """One call."""
        if self.open is None:
            self._start(daemon)
        else:
            weights = (10, 3, 3, 3, 3, 2, 2, 4, 1)
            steps = (
                self._put,
                self._append_many,
                self._keep,
                self._edit,
                self._exchange,
                self._merge,
                self._remove,
                self._finish,
                self._drop,
            )
            self.chosen.choices(steps, weights)[0](daemon, self.open)

    def _start(self, daemon: Daemon) -> None:
        if self.fresh and self.chosen.random() < 0.2:
            target = self.chosen.choice(self.fresh)
            self.side.add(target)
            daemon.pfs.SetBranch(
                pfs_pb2.SetBranchRequest(commit=commit(self.repo, target), branch=f"side{self.number}")
            )
            self.side = {target}
        started = daemon.start_commit(self.repo, self.branch)
        self.open = Open(started.id, [dict(self.finished.get(self.head, {}))])

    def _new(self) -> tuple[int, int]:
        return self.chosen.randrange(1 << 40), self.chosen.choice(SIZES)

    def _change(self, at: Open, after: list[Files], call: Any, *args: Any, **kwargs: Any) -> None:
        """Make a call that turns the candidates into `after`, or, when it is cut off, may have."""
        before = at.candidates
        at.candidates = before + after
        call(*args, **kwargs)
        at.candidates = after

    def _put(self, daemon: Daemon, at: Open) -> None:
        path, piece, overwrite = f"d{self.chosen.randrange(3)}/f{self.chosen.randrange(4)}", self._new(), False
        if self.chosen.random() < 0.7:
            overwrite = True
        after = [
            {**files, path: (piece,) if overwrite else appended(files.get(path, ()), piece)} for files in at.candidates
        ]
        self._change(at, after, daemon.put, commit(self.repo, at.id), path, data((piece,)), overwrite=overwrite)

    def _append_many(self, daemon: Daemon, at: Open) -> None:
        """Several files in one stream: all or none."""
        pieces = {f"many/{self.chosen.randrange(9)}": self._new() for _ in range(5)}
        requests = [
            pfs_pb2.PutFileRequest(
                file=pfs_pb2.File(commit=commit(self.repo, at.id), path=path), value=data((piece,)), overwrite=True
            )
            for path, piece in pieces.items()
        ]
        after = [{**files, **{path: (piece,) for path, piece in pieces.items()}} for files in at.candidates]
        self._change(at, after, daemon.pfs.PutFile, iter(requests))

    def _keep(self, daemon: Daemon, at: Open) -> None:
        """A file with attributes and a symbolic link in one message: both or none."""
        path, link = f"d{self.chosen.randrange(3)}/f{self.chosen.randrange(4)}", f"links/{self.chosen.randrange(4)}"
        piece, mode, number = self._new(), self.chosen.choice(MODES), self.chosen.randrange(100)
        after = [{**files, path: (piece, (MODE, mode)), link: ((LINK, number),)} for files in at.candidates]
        file = pfsd_pb2.FilePut(path=path, data=data((piece,)), overwrite=True, attributes=encoded(mode=mode))
        message = request(commit(self.repo, at.id), file, symlink(link, str(number)))
        self._change(at, after, daemon.store.PutFiles, iter([message]))

    def _edit(self, daemon: Daemon, at: Open) -> None:
        """Attributes of a file, of directories and of the root, and a link, in one edit: all or none."""
        (files,) = at.candidates
        path = self.chosen.choice(sorted(path for path in files if not path.startswith("links/")) or [""])
        link, number, mode = f"links/{self.chosen.randrange(4)}", self.chosen.randrange(100), self.chosen.choice(MODES)
        given = encoded(mode=mode, time_ns=self.chosen.randrange(1 << 60))
        targets = [path, path.rpartition("/")[0], "links"]
        steps = [
            edits_pb2.EditStep(make_directories="links"),
            *(edits_pb2.EditStep(set_attributes={"path": each, "attributes": given}) for each in targets),
            edits_pb2.EditStep(replace={"path": link, "entry": symlink(link, str(number)).other}),
        ]
        after = {**files, link: ((LINK, number),)}
        if path:
            after[path] = (*(piece for piece in files[path] if piece[0] >= 0), (MODE, mode))
        edits = rpc.Stub(daemon.channel, edits_pb2.DESCRIPTOR.services_by_name["Edits"])
        message = edits_pb2.EditRequest(commit=commit(self.repo, at.id), steps=steps)
        self._change(at, [after], edits.Edit, message)

    def _exchange(self, daemon: Daemon, at: Open) -> None:
        """Two files change places, by three renames in one edit: all or none."""
        (files,) = at.candidates
        found = sorted(path for path in files if not path.startswith("links/"))
        if len(found) < 2:
            return
        one, other = self.chosen.sample(found, 2)
        moves = [(one, "aside"), (other, one), ("aside", other)]
        steps = [edits_pb2.EditStep(rename={"from": source, "to": target}) for source, target in moves]
        after = {**files, one: files[other], other: files[one]}
        edits = rpc.Stub(daemon.channel, edits_pb2.DESCRIPTOR.services_by_name["Edits"])
        message = edits_pb2.EditRequest(commit=commit(self.repo, at.id), steps=steps)
        self._change(at, [after], edits.Edit, message)

    def _merge(self, daemon: Daemon, at: Open) -> None:
        """Trees put beforehand become the commit's whole content."""
        tags, merged = [], Files()
        for tree_number in range(2):
            tag = f"tree-{self.number}-{self.chosen.randrange(1 << 40)}"
            pieces = {f"tree{tree_number}/{self.chosen.randrange(9)}": self._new() for _ in range(4)}
            writes = [pfsd_pb2.TreeWrite(path=path, data=data((piece,))) for path, piece in pieces.items()]
            daemon.store.PutTree(iter([pfsd_pb2.PutTreeRequest(tag=tag, writes=writes)]))
            merged |= {path: (piece,) for path, piece in pieces.items()}
            tags.append(tag)
        changes = [pfsd_pb2.TreeChange(order=tag, tag=tag) for tag in tags]
        request = pfsd_pb2.MergeTreesRequest(commit=commit(self.repo, at.id), changes=changes)
        self._change(at, [merged], daemon.store.MergeTrees, iter([request]))

    def _remove(self, daemon: Daemon, at: Open) -> None:
        top = self.chosen.choice(("d0", "d1", "many", "tree0", "links"))
        after = [
            {path: content for path, content in files.items() if not path.startswith(top + "/")}
            for files in at.candidates
        ]
        file = pfs_pb2.File(commit=commit(self.repo, at.id), path=top)
        self._change(at, after, daemon.pfs.DeleteFile, pfs_pb2.DeleteFileRequest(file=file))

    def _finish(self, daemon: Daemon, at: Open) -> None:
        daemon.finish_commit(commit(self.repo, at.id))
        (files,) = at.candidates
        self._note_finished(at.id, files)

    def _note_finished(self, commit_id: str, files: Files) -> None:
        self.finished[commit_id] = files
        self.fresh.append(commit_id)
        self.head = commit_id
        self.open = None

    def _drop(self, daemon: Daemon, at: Open) -> None:
        daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=commit(self.repo, at.id)))
        self.open = None

    # --- checks

    def settle(self, daemon: Daemon, infos: dict[str, Any]) -> None:
        """Find out what became of the call that the kill cut off."""
        if self.open is not None and self.open.id in infos:
            present = self._contents(daemon, self.open.id)
            matching = [files for files in self.open.candidates if _shown(files) == present]
            assert matching, f"{self.open.id} holds what was never put, or lacks what was"
            self.open.candidates = matching[:1]
            if infos[self.open.id].HasField("finished"):
                self._note_finished(self.open.id, matching[0])
        elif self.open is not None:
            self.open = None  # it was being deleted
        if self.side:
            heads = daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=pfs_pb2.Repo(name=self.repo))).branch_info
            at = {branch.name: branch.head.id for branch in heads}.get(f"side{self.number}")
            assert at in self.side or (at is None and len(self.side) == 1)
            self.side = {at} if at else set()

    def verify(self, daemon: Daemon) -> None:
        """Read what was finished since the last time, and some of what was finished before."""
        older = [commit_id for commit_id in self.finished if commit_id not in self.fresh]
        for commit_id in self.fresh + self.chosen.sample(older, min(OLDER, len(older))):
            assert self._contents(daemon, commit_id) == _shown(self.finished[commit_id]), commit_id
        self.fresh = []

    def _contents(self, daemon: Daemon, commit_id: str) -> dict[str, Shown]:
        at = commit(self.repo, commit_id)
        infos = daemon.pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=at, pattern="*/*")).file_info
        found = {}
        for info in infos:
            kept = info.attributes
            content = b"" if kept.symlink else daemon.get(at, info.file.path)
            found[info.file.path.lstrip("/")] = content, kept.mode, kept.symlink
        return found


def appended(content: Content, piece: tuple[int, int]) -> Content:
    """A file that keeps its mode when something is appended."""
    kept = content[-1:] if content and content[-1][0] < 0 else ()
    return (*content[: len(content) - len(kept)], piece, *kept)


def _shown(files: Files) -> dict[str, Shown]:
    return {path: shown(content) for path, content in files.items()}


class Load:
    """Clients at work until the daemon is killed under them."""

    def __init__(self, daemon: Daemon, clients: list[Client]) -> None:
        self._daemon = daemon
        self._killed = threading.Event()
        self._calls = threading.Semaphore(0)
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._work, args=(client,)) for client in clients]

    def run(self, calls: int, seconds: float) -> None:
        """Let the clients make `calls` calls and a little more, then kill the daemon."""
        for thread in self._threads:
            thread.start()
        for _ in range(calls):
            if not self._calls.acquire(timeout=60):
                self.failures.append(AssertionError("the clients hang"))
                break
        self._killed.wait(seconds)
        self._killed.set()
        assert self._daemon.process is not None
        self._daemon.process.kill()
        for thread in self._threads:
            thread.join()
        self._daemon.kill()  # no client opens its channel again now

    def _work(self, client: Client) -> None:
        try:
            while not self._killed.is_set():
                client.step(self._daemon)
                self._calls.release()
        except Exception as error:  # noqa: BLE001 (shown by the test, once the threads have ended)
            cut_off = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            is_kill = isinstance(error, ValueError) or (isinstance(error, grpc.RpcError) and error.code() in cut_off)
            if not (self._killed.is_set() and is_kill):
                self.failures.append(error)
                self._calls.release(1000)


def check_finished(daemon: Daemon, clients: list[Client]) -> None:
    """Exactly what the clients finished is finished; what a kill left without an owner is open, and is removed."""
    for repo in sorted({client.repo for client in clients}):
        infos = {
            info.commit.id: info
            for info in daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo))).commit_info
        }
        owners = [client for client in clients if client.repo == repo]
        for client in owners:
            client.settle(daemon, infos)
        known = {commit_id for client in owners for commit_id in client.finished}
        assert {commit_id for commit_id, info in infos.items() if info.HasField("finished")} == known
        still_open = {client.open.id for client in owners if client.open is not None}
        present = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name=repo))).commit_info
        for info in present:
            if info.commit.id not in known | still_open:
                daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=info.commit))
    for client in clients:
        client.verify(daemon)


def check_root(root: pathlib.Path) -> None:
    """The store is sound."""
    assert [found for found in fsck.check_root(root, False) if isinstance(found, Problem)] == []


def test_kills_under_load_lose_nothing_finished_and_finish_nothing(tmp_path: pathlib.Path) -> None:
    seed = int(os.environ.get("PFSD_SEED", "0")) or random.randrange(1 << 32)
    print(f"PFSD_SEED={seed}")  # noqa: T201 (shown when the test fails)
    chosen = random.Random(seed)
    clients = [Client(number, random.Random(chosen.randrange(1 << 40))) for number in range(CLIENTS)]
    with running(tmp_path / "root", "--no-pipelines") as daemon:
        for repo in sorted({client.repo for client in clients}):
            daemon.create_repo(repo)
        for number in range(KILLS):
            load = Load(daemon, clients)
            load.run(chosen.randrange(1, 120), chosen.uniform(0, 0.03))
            assert load.failures == []
            if number % 3 == 0:
                check_root(daemon.root)
            daemon.start()
            grpc.channel_ready_future(daemon.channel).result(START_SECONDS)
            check_finished(daemon, clients)
        _drop_everything_open(daemon, clients)
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        (last,) = admin.Fsck(pfsd_pb2.FsckRequest())
        assert last.summary.problems == 0
        daemon.store.DeleteTagPrefix(pfsd_pb2.DeleteTagPrefixRequest(prefix="tree-"))
        admin.CollectGarbage(Empty())
    _is_reclaimed(tmp_path / "root")
    print(  # noqa: T201 (shown on demand)
        f"{KILLS} kills, {sum(len(client.finished) for client in clients)} commits finished"
    )


def _drop_everything_open(daemon: Daemon, clients: list[Client]) -> None:
    for client in clients:
        if client.open is not None:
            daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=commit(client.repo, client.open.id)))


def _is_reclaimed(root: pathlib.Path) -> None:
    """Nothing is staged, and every chunk is one that something finished uses."""
    store = Store(root)
    try:
        assert list(store.root.db.scan("staging", b"")) == []
        collect_garbage(store.root)
        again = collect_garbage(store.root)
        assert (again.nodes_removed, again.chunks_removed, again.bytes_freed) == (0, 0, 0)
    finally:
        store.close()
    assert all(not isinstance(found, Problem) for found in fsck.check_root(root, False))
