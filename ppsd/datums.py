"""Datums: the units of a job's work, and the identity under which what they gave is remembered.

A datum's identity is BLAKE3 (derive-key mode, context `DATUM_CONTEXT`) over the pipeline's salt and, for each
input, its name, the path of the entry in its repo and the entry's content hash; every text is preceded by its
length in bytes as 8 bytes, big-endian. So the same content under the same path is the same datum in every commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from pfsd import entries

DATUM_CONTEXT = "pfsd 2026-11 datum v1"
TAG_PREFIX = "datum/"


@dataclass(frozen=True, slots=True)
class DatumInput:
    """One input's part of a datum."""

    name: str
    path: str
    """Absolute path of the entry in its repo."""
    entry: bytes
    """The tree entry, as directories hold it."""

    @property
    def hash(self) -> bytes:
        """The entry's content hash, 32 bytes."""
        return entries.content_hash(entries.decode(self.entry))


@dataclass(frozen=True, slots=True)
class Datum:
    """A unit of work."""

    id: str
    """64 hex digits."""
    inputs: tuple[DatumInput, ...]


def make(salt: str, inputs: tuple[DatumInput, ...]) -> Datum:
    """The datum that shows these inputs to a pipeline of this salt."""
    hasher = blake3(derive_key_context=DATUM_CONTEXT)
    for text in (salt.encode(), *_identifying(inputs)):
        hasher.update(len(text).to_bytes(8, "big"))
        hasher.update(text)
    return Datum(hasher.hexdigest(), inputs)


def _identifying(inputs: tuple[DatumInput, ...]) -> Iterable[bytes]:
    for one in inputs:
        yield from (one.name.encode(), one.path.encode(), one.hash)


def from_glob(salt: str, name: str, matches: Iterable[tuple[str, bytes]]) -> list[Datum]:
    """The datums of an input called `name`: one for each match (path, entry), in the order of the paths' bytes."""
    ordered = sorted(matches, key=lambda match: match[0].encode())
    return [make(salt, (DatumInput(name, path, entry),)) for path, entry in ordered]


def tag_prefix(salt: str) -> str:
    """What the tags of all output trees of a salt begin with."""
    return f"{TAG_PREFIX}{salt}/"


def tag(salt: str, datum_id: str) -> str:
    """The tag of a datum's output tree."""
    return tag_prefix(salt) + datum_id
