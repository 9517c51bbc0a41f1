"""Records as protobuf messages."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BytesValue

from pachproto import pfs_pb2
from pfsd.errors import CorruptError, InvalidError
from pfsd.model.records import Commit, CommitRef, Repo
from pfsd.runtime import cancelling
from pfsd.runtime.batches import batches
from pfsd.trees import entries
from pfsd.trees.entries import Entry, FileEntry

MESSAGE_BYTES = 1 << 20
"""Bytes of content in one message."""

PACKED_AT_ONCE = 500


def timestamp(nanoseconds: int) -> Timestamp:
    """A time in nanoseconds since the epoch."""
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def file_entry(data: bytes, what: str) -> FileEntry:
    """The file's entry that a client sent; raises InvalidError, which names it as `what`, when it is none."""
    try:
        entry = entries.decode(data)
    except CorruptError:
        entry = entries.EMPTY_DIR
    if not isinstance(entry, FileEntry):
        raise InvalidError(f"{what} is not a file's entry")
    return entry


def repo_info(repo: Repo) -> pfs_pb2.RepoInfo:
    return pfs_pb2.RepoInfo(
        repo=pfs_pb2.Repo(name=repo.name),
        created=timestamp(repo.created),
        size_bytes=repo.size,
        provenance=[pfs_pb2.Repo(name=name) for name in repo.ancestors],
        description=repo.description,
    )


def commit_name(repo: str, commit_id: str) -> pfs_pb2.Commit:
    return pfs_pb2.Commit(repo=pfs_pb2.Repo(name=repo), id=commit_id)


def commit_info(commit: Commit) -> pfs_pb2.CommitInfo:
    return pfs_pb2.CommitInfo(
        commit=commit_name(commit.repo, commit.id),
        parent_commit=commit_name(commit.repo, commit.parent) if commit.parent else None,
        started=timestamp(commit.started),
        finished=None if commit.is_open else timestamp(commit.finished),
        size_bytes=commit.size,
        provenance=[commit_name(ref.repo, ref.id) for ref in commit.provenance],
        tree=pfs_pb2.Object(hash=commit.tree) if commit.tree else None,
    )


def file_info(commit: Commit | pfs_pb2.Commit, path: str, entry: Entry) -> pfs_pb2.FileInfo:
    """Without children and objects, which only a single file is asked for. Many should share the commit's message."""
    name = commit_name(commit.repo, commit.id) if isinstance(commit, Commit) else commit
    return pfs_pb2.FileInfo(
        file=pfs_pb2.File(commit=name, path=path),
        file_type=pfs_pb2.DIR if entry.is_dir else pfs_pb2.FILE,
        size_bytes=entry.size,
        hash=entries.content_hash(entry),
    )


def below(asked: str, name: str) -> str:
    """A path as it was asked for, with a name below it, cleaned; as it was asked for without one."""
    if not name:
        return asked
    joined = posixpath.normpath(posixpath.join(asked, name))
    return "/" + joined.lstrip("/") if joined.startswith("/") else joined


def commit_ref(message: pfs_pb2.Commit) -> CommitRef:
    """The commit that a message names; its id may be a branch."""
    return CommitRef(message.repo.name, message.id)


def byte_values(block: bytes) -> Iterator[BytesValue]:
    """Bytes as messages of bounded size."""
    for at in range(0, len(block), MESSAGE_BYTES):
        yield BytesValue(value=block[at : at + MESSAGE_BYTES])


def packed(kind: type[Message], field: str, items: Iterable[Message]) -> bytes:
    """A message whose repeated field holds these, serialized a part at a time: as large as it may be, no step is long.

    In protobuf's encoding, the parts of a repeated field stand one after the other.
    """
    parts = []
    for batch in batches(items, PACKED_AT_ONCE):
        cancelling.check()
        parts.append(kind(**{field: batch}).SerializeToString())
    return b"".join(parts)
