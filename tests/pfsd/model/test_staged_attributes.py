"""Staged writes with attributes, links and directories, against a plain model."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfsd.chunks import content
from pfsd.errors import InvalidError, IsADirectoryPfsError, NotADirectoryPfsError
from pfsd.model.root import Root
from pfsd.model.staging import Write
from pfsd.names.paths import Path
from pfsd.trees import attributes, dirs, entries, tree
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import DirEntry, FileEntry, SpecialEntry, SymlinkEntry
from tests.pfsd.model.test_staging import root, settle, staged

__all__ = ["root"]

Thing = tuple[bytes, bytes] | bytes | SymlinkEntry | SpecialEntry
"""A file as its bytes and attributes, a directory as its attributes, or another entry."""

NAMES = st.sampled_from(["a", "b", "\x01"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
ENCODED = st.builds(
    Attributes,
    st.sampled_from([None, 0o600, 0o755]),
    st.sampled_from([None, (1, 2)]),
    st.sampled_from([None, -5, 1 << 60]),
    st.sampled_from([(), ((b"user.a", b"1"),)]),
).map(attributes.encode)
LINKED = st.sampled_from([b"", b"\x05LINKLINK"])
FILE = st.builds(
    Write,
    PATHS,
    st.lists(st.binary(min_size=1, max_size=3), max_size=2),
    st.booleans(),
    st.none() | st.builds(bytes.__add__, ENCODED, LINKED),
)
DIRECTORY = st.builds(Write, PATHS, attributes=st.none() | ENCODED, directory=st.just(entries.EMPTY_DIR))
OTHERS = st.builds(SymlinkEntry, st.sampled_from([b"a", b"../b"]), ENCODED) | st.builds(SpecialEntry, st.just(1))
OTHER = st.builds(Write, PATHS, other=OTHERS)
REMOVE = st.builds(Write, st.just(()) | PATHS, remove=st.just(True))
BATCHES = st.lists(st.lists(FILE | FILE | OTHER | DIRECTORY | REMOVE, max_size=5), max_size=7)
EVENTS = st.lists(st.sampled_from(["", "", "fold", "restart"]), min_size=7, max_size=7)


def written(things: dict[Path, Thing], write: Write) -> dict[Path, Thing]:
    """What a tree has after a write."""
    path = write.path
    if write.remove:
        return {other: thing for other, thing in things.items() if other[: len(path)] != path}
    things = dict(things)
    for depth in range(1, len(path)):
        if not isinstance(things.setdefault(path[:depth], b""), bytes):
            raise NotADirectoryPfsError
    before = things.get(path)
    if write.directory is not None:
        if not isinstance(before, bytes | None):
            raise NotADirectoryPfsError
        things[path] = (before or b"") if write.attributes is None else write.attributes
    elif isinstance(before, bytes):
        raise IsADirectoryPfsError
    elif write.other is not None:
        things[path] = write.other
    elif isinstance(before, SymlinkEntry | SpecialEntry) and not write.overwrite:
        raise InvalidError
    else:
        data, kept = before if isinstance(before, tuple) and not write.overwrite else (b"", b"")
        if write.attributes is not None:
            kept = write.attributes
        elif write.pieces:
            kept = attributes.encode(replace(attributes.decode(kept), time_ns=None, link=b""))
        things[path] = data + b"".join(piece for piece in write.pieces if isinstance(piece, bytes)), kept
    return things


def found(root: Root, top: bytes) -> dict[Path, Thing]:
    things: dict[Path, Thing] = {}
    for path, entry in dirs.walk(root.nodes, entries.dir_entry(root.nodes, top)):
        if isinstance(entry, FileEntry):
            things[path] = b"".join(content.read(root.nodes, root.chunks, entry)), entry.attributes
        elif isinstance(entry, DirEntry):
            assert entry == replace(entries.dir_entry(root.nodes, entry.root), attributes=entry.attributes)
            things[path] = entry.attributes
        else:
            things[path] = entry
    things.pop((), None)
    return things


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, events=EVENTS)
def test_folded_writes_are_those_of_the_model(root: Root, batches: list[list[Write]], events: list[str]) -> None:
    base, area = tree.EMPTY, uuid.uuid4().bytes
    staging, model = staged(root, base, area), dict[Path, Thing]()
    for batch, event in zip(batches, events, strict=False):
        after = model
        try:
            for write in batch:
                after = written(after, write)
        except (IsADirectoryPfsError, NotADirectoryPfsError, InvalidError) as error:
            with pytest.raises(type(error)):
                staging.apply(batch)
        else:
            staging.apply(batch)
            model = after
        if event == "fold":
            base = staging.fold()
            settle(root, staging, base)
        elif event == "restart":
            staging = staged(root, base, area)
    top = staging.fold()
    assert found(root, top) == model
    copy = staged(root)
    copy.apply([Write((), directory=entries.dir_entry(root.nodes, top))])
    assert copy.fold() == top
    for used in (staging, copy):
        settle(root, used, tree.EMPTY)
