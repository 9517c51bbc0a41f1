"""What the tests of attributes share: putting with them, changing them, and seeing what a commit keeps."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from pachproto import edits_pb2, pfs_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.trees import attributes, entries
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import SpecialEntry, SymlinkEntry
from tests.support.daemons import Daemon
from tests.support.putfiles import FilePut, request

TIME = 1_500_000_000_123_456_789


def encoded(**kept: Any) -> bytes:
    return attributes.encode(Attributes(**kept))


def symlink(path: str, target: bytes | str, **kept: Any) -> pfsd_pb2.FilePut:
    target = target.encode() if isinstance(target, str) else target
    return FilePut(path=path, other=entries.encode(SymlinkEntry(target, encoded(**kept))))


def pipe(path: str) -> pfsd_pb2.FilePut:
    return FilePut(path=path, other=entries.encode(SpecialEntry(1)))


class Keeper:
    """One open commit of a daemon."""

    def __init__(self, daemon: Daemon, repo: str = "r") -> None:
        self.daemon = daemon
        self._edits = rpc.Stub(daemon.channel, edits_pb2.DESCRIPTOR.services_by_name["Edits"])
        daemon.create_repo(repo)
        self.repo = repo
        self.at = daemon.start_commit(repo)

    def put(self, *files: pfsd_pb2.FilePut) -> None:
        self.daemon.store.PutFiles(iter([request(self.at, *files)]))

    def edit(self, *steps: dict[str, Any]) -> None:
        self._edits.Edit(edits_pb2.EditRequest(commit=self.at, steps=[edits_pb2.EditStep(**step) for step in steps]))

    def give(self, path: str, **kept: Any) -> None:
        """Set attributes."""
        self.edit({"set_attributes": {"path": path, "attributes": encoded(**kept)}})

    def commit(self) -> pfs_pb2.Commit:
        """Finish the commit and start the next; returns what was finished."""
        finished = self.at
        self.daemon.finish_commit(finished)
        self.at = self.daemon.start_commit(self.repo)
        return finished

    def info(self, path: str, at: pfs_pb2.Commit | None = None) -> pfs_pb2.FileInfo:
        file = pfs_pb2.File(commit=at or self.at, path=path)
        info: pfs_pb2.FileInfo = self.daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=file))
        return info

    def kept(self, path: str, at: pfs_pb2.Commit | None = None) -> Attributes:
        """What is kept of what stands at a path."""
        told = self.info(path, at).attributes
        return Attributes(
            told.mode if told.HasField("mode") else None,
            (told.uid, told.gid) if told.HasField("uid") else None,
            told.modified.ToNanoseconds() if told.HasField("modified") else None,
            tuple((each.name, each.value) for each in told.extended),
            told.link,
        )

    def tree(self, at: pfs_pb2.Commit | None = None) -> pfsd_pb2.CommitTree:
        found: pfsd_pb2.CommitTree = self.daemon.store.GetCommitTree(at or self.at)
        return found

    def repo_size(self) -> int:
        repo = self.daemon.pfs.InspectRepo(pfs_pb2.InspectRepoRequest(repo=pfs_pb2.Repo(name=self.repo)))
        return int(repo.size_bytes)

    def differing(self, new: pfs_pb2.Commit, old: pfs_pb2.Commit, path: str = "/") -> tuple[list[str], list[str]]:
        """The paths that DiffFile tells."""
        files = (pfs_pb2.File(commit=each, path=path) for each in (new, old))
        found = self.daemon.pfs.DiffFile(
            pfs_pb2.DiffFileRequest(new_file=next(files), old_file=next(files), shallow=False)
        )
        return [info.file.path for info in found.new_files], [info.file.path for info in found.old_files]


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    """What a call is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    assert caught.value.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return caught.value.details() or ""
