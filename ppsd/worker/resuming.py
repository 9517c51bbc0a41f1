"""Incremental pipelines, on the worker's side: what is new in a datum, and its former output laid out again."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import trio

from pfsd.errors import PfsError
from pfsd.names import paths
from pfsd.names.bytenames import shown_name
from pfsd.trees import entries, tree
from pfsd.trees.entries import EMPTY_DIR, DirEntry, Entry, FileEntry, SymlinkEntry
from pfsd.trees.tree import NodeReader
from pfsfuse.content.content import Content
from pfsfuse.job.jobview import JobInput
from ppsd.worker import keeping

BLOCK_BYTES = 4 << 20


class _GoneError(PfsError):
    """Something of the former datum is not in the new one."""


class NotRestoredError(PfsError):
    """The former output holds what commands can't be given again."""


async def news(content: Content, inputs: Sequence[JobInput], formers: Sequence[Entry]) -> list[JobInput] | None:
    """What is new or changed in a datum's inputs against their former entries; None where something is gone."""
    found: list[JobInput] = []
    for given, former in zip(inputs, formers, strict=True):
        try:
            found += await content.run(functools.partial(_news_of, content.nodes, given, former))
        except _GoneError:
            return None
    return found


def _news_of(nodes: NodeReader, given: JobInput, former: Entry) -> list[JobInput]:
    parts = [replace(given, path=path, entry=entry) for path, entry in _changed(nodes, former, given.entry, given.path)]
    # An input's directory is there though nothing in it is new.
    there = given.path if given.entry.is_dir else given.path[:-1]
    return parts or [replace(given, path=there, entry=EMPTY_DIR)]


def _changed(nodes: NodeReader, old: Entry, new: Entry, path: paths.Path) -> Iterator[tuple[paths.Path, Entry]]:
    """The files and whole directories that are new or changed at and below `path`."""
    if entries.plain(old) == entries.plain(new):
        return
    if isinstance(old, DirEntry) and isinstance(new, DirEntry):
        for name, before, after in tree.diff(nodes, old.root, new.root):
            below = (*path, name.decode())
            if after is None:
                raise _GoneError(f"{paths.join(below)} is gone")
            if before is None:
                yield below, entries.decode(after)
            else:
                yield from _changed(nodes, entries.decode(before), entries.decode(after), below)
    elif old.is_dir:
        raise _GoneError(f"{paths.join(path)} was a directory")
    else:
        yield path, new


async def restore(content: Content, root: bytes, target: str) -> int:
    """Lay out what is in the tree `root` below the directory `target`, which is empty; returns its bytes.

    Raises NotRestoredError where it holds special files.
    """
    return await _Restoring(content).directory(root, os.fsencode(target))


class _Restoring:
    """Lays out a tree."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._linked: dict[bytes, bytes] = {}
        """Where the files of several names are, by their entries."""

    async def directory(self, root: bytes, target: bytes) -> int:
        size = 0
        for name, value in await self._content.run(lambda: list(tree.items(self._content.nodes, root))):
            size += await self._item(value, target + b"/" + shown_name(name))
        return size

    async def _item(self, value: bytes, path: bytes) -> int:
        """Lay out one entry; returns its bytes."""
        if value in self._linked:
            os.link(self._linked[value], path, follow_symlinks=False)
            return 0
        entry = entries.decode(value)
        size = 0
        if isinstance(entry, DirEntry):
            os.mkdir(path)
            size = await self.directory(entry.root, path)
        elif isinstance(entry, FileEntry):
            await _restore_file(self._content, entry, path)
            size = entry.size
        elif isinstance(entry, SymlinkEntry):
            os.symlink(entry.target, path)
        else:
            raise NotRestoredError(f"{os.fsdecode(path)} is a special file")
        keeping.restore(path, entry)
        if entries.attributes_of(entry).link:
            self._linked[value] = path
        return size


async def _restore_file(content: Content, entry: FileEntry, path: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "wb", buffering=0) as file:
        for offset in range(0, entry.size, BLOCK_BYTES):
            data = await content.read(entry, offset, BLOCK_BYTES)
            await trio.to_thread.run_sync(file.write, data)
