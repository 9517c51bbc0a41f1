"""Files as messages of PutFiles: many small ones in each, or parts of a large one.

What is sent replaces what the daemon has of a file, so that sending it twice does no harm. A small file is sent whole,
of a large one what was changed: it is a patch of what the store has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import _core
from pfsd.errors import PfsError, UnavailableError
from pfsd.names.paths import join
from pfsd.trees import entries
from pfsfuse.client.handing import LARGE_BYTES, Handed
from pfsfuse.client.writes import Writer
from pfsfuse.content.content import Content
from pfsfuse.kernel.errnos import LocalError
from pfsfuse.opencommits.opennodes import OpenFile
from pfsfuse.opencommits.scratch import Changes, Scratch

log = logging.getLogger(__name__)

Puts = Iterator[pfsd_pb2.FilePut]

SMALL_BYTES = 64 << 10
"""Files up to this size travel together."""

_EMPTY = entries.encode(entries.EMPTY_FILE)
_MESSAGE_BYTES = 1 << 20
_MESSAGE_FILES = 256


class Taken(NamedTuple):
    """A file, as it was when it was taken to be sent."""

    node: OpenFile
    path: str
    changes: int
    scratch: Scratch
    is_untouched: bool
    attributes: bytes
    kept_changes: int
    also: tuple[str, ...]
    """Its other names."""


class Sent(NamedTuple):
    """A file that the daemon has taken."""

    file: Taken
    value: bytes
    """The encoded entry that it has then."""
    data: bytes = b""
    """All of a small file ..."""
    digest: bytes = b""
    """... and its hash."""


def take(node: OpenFile) -> Taken:
    """What is to be sent of a file now."""
    return Taken(
        node,
        join(node.path()),
        node.changes,
        node.to_scratch(),
        node.is_untouched,
        node.kept.encode(node.default_mode),
        node.kept.changes,
        tuple(map(join, node.other_paths())),
    )


def small_files(
    commit: pfs_pb2.Commit, files: Sequence[Taken], lease: int
) -> tuple[list[pfsd_pb2.PutFilesRequest], list[Sent]]:
    """Files that are whole in memory, as messages, and what they are once those are taken.

    They are not when others have changed the commit since the `lease`, where that is not 0.
    """
    puts: list[pfsd_pb2.FilePut] = []
    sent: list[Sent] = []
    for file in files:
        size = file.scratch.changes().size
        data = file.scratch.local(0, size)
        puts.append(
            pfsd_pb2.FilePut(
                path=file.path,
                overwrite=not file.is_untouched,
                data=data,
                attributes=file.attributes,
                also=file.also,
            )
        )
        sent.append(_small(file, data))
    messages = list(_messages(commit, puts))
    messages[0].lease = lease
    return messages, sent


def _small(file: Taken, data: bytes) -> Sent:
    """What the store makes of a small file that holds this."""
    if not data:
        return Sent(file, _EMPTY + file.attributes)
    digest = blake3(data).digest()
    return Sent(file, entries.encode_one_chunk(len(data), digest) + file.attributes, data, digest)


async def send_large(writer: Writer, content: Content, commit: pfs_pb2.Commit, file: Taken) -> Sent:
    """Send one file, as a patch of what the store has if it can be. Raises what the daemon says."""
    changes = file.scratch.changes()
    if not changes.is_whole:
        size = sum(end - start for start, end in changes.ranges)
        try:
            return await _send(writer, commit, file, lambda handed: _patched(file, changes, handed), size)
        except (UnavailableError, LocalError):
            raise
        except PfsError as error:
            log.info("all of %s is sent: %s", file.path, error)
        await file.scratch.fill(content)
        changes = file.scratch.changes()
    return await _send(writer, commit, file, lambda handed: _whole(file, changes.size, handed), changes.size)


async def _send(
    writer: Writer, commit: pfs_pb2.Commit, file: Taken, puts: Callable[[Handed | None], Puts], size: int
) -> Sent:
    def messages(handed: Handed | None) -> Iterator[pfsd_pb2.PutFilesRequest]:
        return _messages(commit, puts(handed), handed.holder if handed is not None else b"")

    answer = await writer.put_files(messages, size, file.scratch.fd if size >= LARGE_BYTES else -1)
    value = answer.entries[0]
    return Sent(file, value[: _core.entry_end(value)] + file.attributes)


def _whole(file: Taken, size: int, handed: Handed | None) -> Puts:
    """A file, all of which is in its scratch."""
    yield _first(file)
    yield from _parts(file.scratch, 0, size, handed)
    yield pfsd_pb2.FilePut(tell=True)


def _patched(file: Taken, changes: Changes, handed: Handed | None) -> Puts:
    """What was changed of a file."""
    base = entries.encode(changes.base)
    yield _first(file, base, changes.size)
    for start, end in changes.ranges:
        yield from _parts(file.scratch, start, end, handed)
    yield pfsd_pb2.FilePut(tell=True)


def _first(file: Taken, base: bytes = b"", size: int = 0) -> pfsd_pb2.FilePut:
    """What begins a large file, which is a patch where it has a base."""
    return pfsd_pb2.FilePut(
        path=file.path,
        overwrite=True,
        base=base,
        size=size,
        attributes=file.attributes,
        also=file.also,
        more=True,
    )


def _parts(scratch: Scratch, start: int, end: int, handed: Handed | None) -> Puts:
    for first, stop, is_data in scratch.extents(start, end):
        if not is_data:
            yield pfsd_pb2.FilePut(offset=first, zeros=stop - first, more=True)
            continue
        if handed is not None and stop - first >= LARGE_BYTES:
            for at, part in handed.ranges(first, stop):
                yield pfsd_pb2.FilePut(offset=at, handed=part, more=True)
            continue
        for at in range(first, stop, _MESSAGE_BYTES):
            data = scratch.local(at, min(at + _MESSAGE_BYTES, stop))
            yield pfsd_pb2.FilePut(offset=at, data=data, more=True)


def _messages(
    commit: pfs_pb2.Commit, puts: Iterable[pfsd_pb2.FilePut], holder: bytes = b""
) -> Iterator[pfsd_pb2.PutFilesRequest]:
    """The puts, some to a message."""
    waiting: list[pfsd_pb2.FilePut] = []
    size = 0
    for put in puts:
        waiting.append(put)
        size += len(put.data) + put.handed.size
        if size >= _MESSAGE_BYTES or len(waiting) >= _MESSAGE_FILES:
            yield pfsd_pb2.PutFilesRequest(commit=commit, files=waiting, holder=holder)
            waiting, size = [], 0
    if waiting:
        yield pfsd_pb2.PutFilesRequest(commit=commit, files=waiting, holder=holder)
