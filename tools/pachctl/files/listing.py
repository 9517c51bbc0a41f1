"""Lists of files in streams of batches, or whole where the daemon offers no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from pachctl.terminal.command import UsageError
from pachctl.terminal.connection import Daemon, is_unimplemented
from pachproto import pfs_pb2, pfsd_pb2

CONTENT_BYTES = 1 << 14
"""Files up to this size come along when a directory is walked."""


def listed(daemon: Daemon, file: pfs_pb2.File) -> Iterator[pfs_pb2.FileInfo]:
    """The entries of a directory; raises grpc.RpcError."""
    batches = _unless_unimplemented(daemon.store.ListFiles(pfsd_pb2.ListFilesRequest(file=file)))
    if batches is not None:
        return (info for batch in batches for info in batch.files)
    return iter(daemon.pfs.ListFile(pfs_pb2.ListFileRequest(file=file)).file_info)


def walked(daemon: Daemon, file: pfs_pb2.File) -> Iterator[tuple[pfs_pb2.FileInfo, bytes | None]]:
    """All that is below a directory, each directory before what it holds; with the content of small files.

    Raises grpc.RpcError.
    """
    request = pfsd_pb2.ListFilesRequest(file=file, recursive=True, content_bytes=CONTENT_BYTES)
    batches = _unless_unimplemented(daemon.store.ListFiles(request))
    if batches is not None:
        for batch in batches:
            contents = {content.index: content.data for content in batch.contents}
            for index, info in enumerate(batch.files):
                yield info, contents.get(index)
        return
    pending = [file.path]
    while pending:
        directory = pfs_pb2.File(commit=file.commit, path=pending.pop())
        for info in daemon.pfs.ListFile(pfs_pb2.ListFileRequest(file=directory)).file_info:
            yield info, None
            if info.file_type == pfs_pb2.DIR:
                pending.append(info.file.path)


def globbed(daemon: Daemon, commit: pfs_pb2.Commit, pattern: str, *, recursive: bool) -> Iterator[pfs_pb2.FileInfo]:
    """What matches a pattern; raises grpc.RpcError, and UsageError for recursion where the daemon has none."""
    request = pfsd_pb2.GlobRequest(commit=commit, pattern=pattern, recursive=recursive)
    batches = _unless_unimplemented(daemon.store.GlobFiles(request))
    if batches is not None:
        return (info for batch in batches for info in batch.files)
    if recursive:
        raise UsageError("this daemon knows no recursive patterns: leave out --recursive")
    return iter(daemon.pfs.GlobFile(pfs_pb2.GlobFileRequest(commit=commit, pattern=pattern)).file_info)


def differing(daemon: Daemon, request: pfs_pb2.DiffFileRequest) -> Iterator[tuple[bool, pfs_pb2.FileInfo]]:
    """The files that differ, each with whether it is a new one; new ones first. Raises grpc.RpcError."""
    batches = _unless_unimplemented(daemon.store.DiffFiles(request))
    for part in batches if batches is not None else [daemon.pfs.DiffFile(request)]:
        yield from ((True, info) for info in part.new_files)
        yield from ((False, info) for info in part.old_files)


def _unless_unimplemented(batches: Iterable[Any]) -> Iterator[Any] | None:
    """The batches of a call, or None when the daemon lacks it."""
    iterator = iter(batches)
    try:
        first = next(iterator, None)
    except grpc.RpcError as error:
        if is_unimplemented(error):
            return None
        raise
    return _after(first, iterator)


def _after(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rest
