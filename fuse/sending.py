"""Files as messages of PutFiles: many small ones in each, or parts of a large one.

Every file is sent whole and replaces what the daemon has of it, so that sending it twice does no harm. Of a file that
was changed, the chunks before the first change are named instead of sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from blake3 import blake3

from fuse.content import Content
from fuse.opennodes import OpenFile
from fuse.scratch import Scratch
from pachproto import pfs_pb2, pfsd_pb2
from pfsd import entries
from pfsd.entries import Chunk, FileEntry
from pfsd.paths import join

SMALL_BYTES = 64 << 10
"""Files up to this size travel together."""

_MESSAGE_BYTES = 1 << 20
_MESSAGE_FILES = 256
_MESSAGE_CHUNKS = 4096


@dataclass(frozen=True, slots=True)
class Sent:
    """A file, as it was when it was taken to be sent."""

    node: OpenFile
    path: str
    changes: int
    scratch: Scratch
    size: int


def take(node: OpenFile) -> Sent:
    """What is to be sent of a file now."""
    scratch = node.to_scratch()
    return Sent(node, join(node.path()), node.changes, scratch, scratch.size)


def small_files(commit: pfs_pb2.Commit, files: Sequence[Sent]) -> list[pfsd_pb2.PutFilesRequest]:
    """Files that are whole in memory."""
    messages: list[pfsd_pb2.PutFilesRequest] = []
    puts: list[pfsd_pb2.FilePut] = []
    size = 0
    for file in files:
        puts.append(pfsd_pb2.FilePut(path=file.path, overwrite=True, data=file.scratch.local(0, file.size)))
        size += file.size
        if size >= _MESSAGE_BYTES or len(puts) >= _MESSAGE_FILES:
            messages.append(pfsd_pb2.PutFilesRequest(commit=commit, files=puts))
            puts, size = [], 0
    if puts:
        messages.append(pfsd_pb2.PutFilesRequest(commit=commit, files=puts))
    return messages


def small_entry(data: bytes) -> FileEntry:
    """What the store makes of a small file that holds this."""
    if not data:
        return entries.EMPTY_FILE
    return FileEntry(len(data), (Chunk(blake3(data).digest(), len(data)),), None, 1)


async def unchanged_chunks(content: Content, base: FileEntry, changed: int, size: int) -> tuple[list[Chunk], int]:
    """The chunks of `base` that stand before the offset `changed`, and how many bytes they are.

    The last chunk of a file counts only where the file still ends with it: its end was not decided by its content.
    """

    def read() -> tuple[list[Chunk], int]:
        chunks: list[Chunk] = []
        end = 0
        for start, chunk in entries.chunks_from(content.nodes, base, 0) if changed else ():
            stop = start + chunk.size
            if stop > changed or (stop == base.size and stop != size):
                break
            chunks.append(chunk)
            end = stop
        return chunks, end

    return await content.run(read)


def large_file(
    commit: pfs_pb2.Commit, file: Sent, chunks: Sequence[Chunk], start: int
) -> Iterator[pfsd_pb2.PutFilesRequest]:
    """One file: chunks that are stored already, then what is in its scratch from `start` on."""

    def message(put: pfsd_pb2.FilePut) -> pfsd_pb2.PutFilesRequest:
        return pfsd_pb2.PutFilesRequest(commit=commit, files=[put])

    path = file.path
    left = iter(chunks)
    while some := list(islice(left, _MESSAGE_CHUNKS)):
        references = [pfsd_pb2.ChunkReference(hash=chunk.hash, size=chunk.size) for chunk in some]
        yield message(pfsd_pb2.FilePut(path=path, overwrite=True, chunks=references, more=True))
        path = ""
    for first, end, is_data in file.scratch.extents(start, file.size):
        if not is_data:
            yield message(pfsd_pb2.FilePut(path=path, overwrite=True, zeros=end - first, more=True))
            path = ""
            continue
        for at in range(first, end, _MESSAGE_BYTES):
            data = file.scratch.local(at, min(at + _MESSAGE_BYTES, end))
            yield message(pfsd_pb2.FilePut(path=path, overwrite=True, data=data, more=True))
            path = ""
    yield message(pfsd_pb2.FilePut(path=path, overwrite=True))
