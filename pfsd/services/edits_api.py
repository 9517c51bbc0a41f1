"""`pfsd.Edits`: what a writable mount changes in an open commit."""

from __future__ import annotations

import functools
from typing import Any

from pachproto import edits_pb2
from pfsd.calls import convert
from pfsd.errors import InvalidError
from pfsd.filesystem.edits import Edits, MakeDirectory, Remove, Rename, Replace, SetAttributes, Step
from pfsd.filesystem.store import Store
from pfsd.names import paths
from pfsd.runtime.threads import LOOKUP, in_thread, in_turn
from pfsd.trees.entries import DirEntry


class EditsService:
    """The method of `pfsd.Edits`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._edits = Edits(store.root, store.commits)

    async def Edit(self, request: edits_pb2.EditRequest, _context: Any) -> edits_pb2.EditResponse:
        steps = [_step(message) for message in request.steps]
        commit = await in_thread(LOOKUP, self._store.commits.resolve, request.commit.repo.name, request.commit.id)
        take = functools.partial(self._edits.apply, commit, steps, tells=not request.silent)
        top = await in_turn(commit.id, take)
        return edits_pb2.EditResponse(root=b"" if top is None else top.root)


def _step(message: edits_pb2.EditStep) -> Step:
    kind = message.WhichOneof("step")
    if kind == "make_directory":
        return MakeDirectory(paths.parse(message.make_directory))
    if kind == "remove":
        remove = message.remove
        return Remove(paths.parse(remove.path), remove.empty_directory, remove.file)
    if kind == "rename":
        rename = message.rename
        return Rename(paths.parse(getattr(rename, "from")), paths.parse(rename.to), rename.no_replace)
    if kind == "replace":
        what = f"what replaces {message.replace.path}"
        entry = convert.any_entry(message.replace.entry, what)
        if isinstance(entry, DirEntry):
            raise InvalidError(f"{what} is a directory's entry")
        return Replace(paths.parse_file(message.replace.path), entry)
    if kind == "make_directories":
        return MakeDirectory(paths.parse_file(message.make_directories), parents=True)
    if kind == "set_attributes":
        return SetAttributes(paths.parse(message.set_attributes.path), message.set_attributes.attributes)
    raise InvalidError("an edit has a step without content")
