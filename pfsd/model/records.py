"""Repos and commits as they are kept: frozen records, stored as JSON objects of their fields."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pfsd.errors import CorruptError
from pfsd.trees.tree import EMPTY

R = TypeVar("R")

RECORDS_KNOWN = 4096
"""Records of each kind that are kept decoded: the same few are read again and again, by calls that wait all repos."""


@dataclass(frozen=True, slots=True)
class CommitRef:
    """The name of a commit."""

    repo: str
    id: str
    """32 hex digits."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repo."""

    name: str
    created: int
    """Nanoseconds since the epoch."""
    description: str = ""
    parents: tuple[str, ...] = ()
    """Its direct provenance, sorted."""
    ancestors: tuple[str, ...] = ()
    """Its provenance, transitively, sorted."""
    size: int = 0
    """Bytes of the files that its finished commits added or changed."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. The tree of an open one is `root` with what is staged for it."""

    repo: str
    id: str
    sequence: int
    """Order of starting, over all repos."""
    started: int
    """Nanoseconds since the epoch."""
    finished: int = 0
    """Nanoseconds since the epoch; 0 while it is open."""
    parent: str | None = None
    root: str = EMPTY.hex()
    """Root hash of its tree, in hex."""
    size: int = 0
    """Bytes of its whole tree; set when it is finished."""
    provenance: tuple[CommitRef, ...] = ()
    """The commits that it was made from, transitively."""
    tree: str = ""
    """Hash of its tree object; set when it is finished."""
    failure: str = ""
    """Why it will never finish, where that is known."""
    attributes: str = ""
    """Of its root directory, in hex: see `pfsd.trees.attributes`."""

    @property
    def ref(self) -> CommitRef:
        return CommitRef(self.repo, self.id)

    @property
    def is_open(self) -> bool:
        return not self.finished

    @property
    def changed(self) -> tuple[int, int]:
        """When it was last started or finished, to sort by."""
        return max(self.started, self.finished), self.sequence


@dataclass(frozen=True, slots=True)
class Snapshot(Commit):
    """An open commit as it was at one moment, to be read without its lock: `root` is all that it held."""

    @property
    def is_open(self) -> bool:
        return False


def dump(record: Repo | Commit) -> bytes:
    """The stored form of a record; fields that have their default are left out."""
    fields = {
        field.name: value
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) != field.default
    }
    return json.dumps(fields, default=dataclasses.asdict, separators=(",", ":")).encode()


@functools.lru_cache(maxsize=RECORDS_KNOWN)
def load_repo(data: bytes) -> Repo:
    """The repo of its stored form; raises CorruptError."""
    fields = _fields(data)
    for name in ("parents", "ancestors"):
        fields[name] = tuple(fields.get(name, ()))
    return _make(Repo, fields)


@functools.lru_cache(maxsize=RECORDS_KNOWN)
def load_commit(data: bytes) -> Commit:
    """The commit of its stored form; raises CorruptError."""
    fields = _fields(data)
    fields["provenance"] = tuple(_make(CommitRef, ref) for ref in fields.get("provenance", ()))
    return _make(Commit, fields)


def parent_of(data: bytes) -> str | None:
    """The parent of a commit, of whose stored form nothing else is looked at; raises CorruptError."""
    parent = _fields(data).get("parent")
    if parent is not None and not isinstance(parent, str):
        raise CorruptError("a record in the metadata is damaged: a commit's parent is no name")
    return parent


def _fields(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"a record in the metadata is damaged: {error}") from error
    if not isinstance(fields, dict):
        raise CorruptError("a record in the metadata is damaged: it is not an object")
    return fields


def _make(kind: type[R], fields: dict[str, Any]) -> R:
    try:
        return kind(**fields)
    except TypeError as error:
        raise CorruptError(f"a record in the metadata is damaged: {error}") from error
