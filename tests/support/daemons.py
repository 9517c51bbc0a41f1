"""Running real daemons for tests."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc

from pachproto import pfs_pb2, pfsd_pb2, pps_pb2, versionpb_pb2
from pfsd import rpc

START_SECONDS = 30
STOP_SECONDS = 10


class Daemon:
    """A pfsd process over a root, on a port of its own."""

    def __init__(
        self,
        root: pathlib.Path,
        *options: str,
        wrapper: tuple[str, ...] = (),
        program: str = "pfsdaemon.main",
        fetches_from: str = "127.0.0.0/8",
    ) -> None:
        """`fetches_from` is the network of the servers that tests start; empty for none."""
        self.root = root
        self.program = program
        self.options = (*options, "--allow-fetch", fetches_from) if fetches_from else options
        self.wrapper = wrapper
        self.process: subprocess.Popen[str] | None = None
        self.address = "127.0.0.1:0"
        self._channel: grpc.Channel | None = None

    def start(self) -> Daemon:
        """Start it, or start it again at the same address; returns when it serves."""
        command = [sys.executable, "-m", self.program, "--root", str(self.root), "--listen", self.address]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, *command, "-v", *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(START_SECONDS)
            raise AssertionError(f"pfsd did not start:\n{self.log()}")
        self.address = line.split()[-1]
        return self

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self._close()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._close()

    def end(self) -> None:
        """Stop it if it runs."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self._close()

    @property
    def log_file(self) -> pathlib.Path:
        """Where that goes."""
        return self.root.parent / f"{self.root.name}.log"

    def log(self) -> str:
        """What it wrote to stderr, over all its runs."""
        return self.log_file.read_text(errors="replace")

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    # --- talking to it

    @property
    def channel(self) -> grpc.Channel:
        """A channel to it."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address, options=rpc.CHANNEL_OPTIONS)
        return self._channel

    @property
    def pfs(self) -> Any:
        return rpc.Stub(self.channel, pfs_pb2.DESCRIPTOR.services_by_name["API"])

    @property
    def store(self) -> Any:
        return rpc.Stub(self.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Store"])

    @property
    def records(self) -> Any:
        return rpc.Stub(self.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Records"])

    @property
    def pps(self) -> Any:
        return rpc.Stub(self.channel, pps_pb2.DESCRIPTOR.services_by_name["API"])

    @property
    def version(self) -> Any:
        return rpc.Stub(self.channel, versionpb_pb2.DESCRIPTOR.services_by_name["API"])

    def pachctl(self, *args: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run pachctl against it."""
        result = subprocess.run(
            [sys.executable, "-m", "pachctl.main", *args],
            input=stdin,
            capture_output=True,
            env={**os.environ, "ADDRESS": self.address},
            timeout=120,
            check=False,
        )
        if check and result.returncode:
            raise AssertionError(f"pachctl {args} failed: {result.stderr.decode()}")
        return result

    # --- shorthand for data

    def create_repo(self, name: str, *provenance: str) -> None:
        self.pfs.CreateRepo(
            pfs_pb2.CreateRepoRequest(
                repo=pfs_pb2.Repo(name=name), provenance=[pfs_pb2.Repo(name=other) for other in provenance]
            )
        )

    def start_commit(self, repo: str, branch: str = "master") -> pfs_pb2.Commit:
        request = pfs_pb2.StartCommitRequest(parent=commit(repo, ""), branch=branch)
        started: pfs_pb2.Commit = self.pfs.StartCommit(request)
        return started

    def put(self, at: pfs_pb2.Commit, path: str, data: bytes, *, overwrite: bool = False) -> None:
        """PutFile, in messages of 1 MiB."""
        file = pfs_pb2.File(commit=at, path=path)
        starts = range(0, max(1, len(data)), 1 << 20)
        self.pfs.PutFile(
            pfs_pb2.PutFileRequest(file=file, value=data[start : start + (1 << 20)], overwrite=overwrite)
            for start in starts
        )

    def finish_commit(self, at: pfs_pb2.Commit) -> None:
        self.pfs.FinishCommit(pfs_pb2.FinishCommitRequest(commit=at))

    def commit_files(self, repo: str, files: dict[str, bytes], branch: str = "master") -> pfs_pb2.Commit:
        """A finished commit on a branch with these files put."""
        at = self.start_commit(repo, branch)
        for path, data in files.items():
            self.put(at, path, data)
        self.finish_commit(at)
        return at

    def get(self, at: pfs_pb2.Commit, path: str, offset: int = 0, size: int = 0) -> bytes:
        request = pfs_pb2.GetFileRequest(file=pfs_pb2.File(commit=at, path=path), offset_bytes=offset, size_bytes=size)
        return b"".join(message.value for message in self.pfs.GetFile(request))

    def list(self, at: pfs_pb2.Commit, path: str = "") -> list[str]:
        infos = self.pfs.ListFile(pfs_pb2.ListFileRequest(file=pfs_pb2.File(commit=at, path=path)))
        return [info.file.path for info in infos.file_info]


def commit(repo: str, commit_id: str) -> pfs_pb2.Commit:
    """The name of a commit; the id may be a branch."""
    return pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=commit_id)


@contextlib.contextmanager
def running(root: pathlib.Path, *options: str) -> Iterator[Daemon]:
    """A daemon that is stopped at the end, whatever happens."""
    daemon = Daemon(root, *options)
    try:
        yield daemon.start()
    finally:
        daemon.end()
