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
from pfsd.trees.entries import DirEntry, Entry, FileEntry, SpecialEntry, SymlinkEntry

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


def other_entry(data: bytes, what: str) -> SymlinkEntry | SpecialEntry:
    """The entry of a symbolic link or special file that a client sent; raises InvalidError when it is none."""
    entry = any_entry(data, what)
    if isinstance(entry, FileEntry | DirEntry):
        raise InvalidError(f"{what} is not a link's or special file's entry")
    return entry


def any_entry(data: bytes, what: str) -> Entry:
    """The entry that a client sent; raises InvalidError, which names it as `what`, when it is none."""
    try:
        return entries.decode(data)
    except CorruptError:
        raise InvalidError(f"{what} can't be decoded") from None


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


def file_info(
    commit: Commit | pfs_pb2.Commit, path: str, entry: Entry, target: Entry | None = None
) -> pfs_pb2.FileInfo:
    """Without children and objects, which only a single file is asked for. Many should share the commit's message.

    `target` is what a symbolic link leads to.
    """
    content = entry if target is None else target
    name = commit_name(commit.repo, commit.id) if isinstance(commit, Commit) else commit
    info = pfs_pb2.FileInfo(
        file=pfs_pb2.File(commit=name, path=path),
        file_type=pfs_pb2.DIR if content.is_dir else pfs_pb2.FILE,
        size_bytes=content.size,
        hash=entries.content_hash(content),
    )
    if entry.attributes or isinstance(entry, SymlinkEntry | SpecialEntry):
        info.attributes.CopyFrom(file_attributes(entry))
    return info


def file_attributes(entry: Entry) -> pfs_pb2.FileAttributes:
    """What an entry keeps beside its content."""
    kept = entries.attributes_of(entry)
    message = pfs_pb2.FileAttributes(
        mode=kept.mode,
        modified=None if kept.time_ns is None else timestamp(kept.time_ns),
        extended=[pfs_pb2.ExtendedAttribute(name=name, value=value) for name, value in kept.xattrs],
        link=kept.link,
    )
    if kept.owner is not None:
        message.uid, message.gid = kept.owner
    if isinstance(entry, SymlinkEntry):
        message.symlink = entry.target
    elif isinstance(entry, SpecialEntry):
        message.special_kind, message.device = entry.kind, entry.device
    return message


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
