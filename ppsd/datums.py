"""Datums: the units of a job's work, and the identity under which what they gave is remembered.

A datum's identity is BLAKE3 (derive-key mode, context `DATUM_CONTEXT`) over the pipeline's salt and, for each
input, its name, the path of the entry in its repo and the entry's content hash; every text is preceded by its
length in bytes as 8 bytes, big-endian. So the same content under the same path is the same datum in every commit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from pfsd import entries
from pfsd.errors import InvalidError
from ppsd.inputs import AtomSpec, CrossSpec, InputSpec, members

DATUM_CONTEXT = "pfsd 2026-11 datum v1"
TAG_PREFIX = "datum/"
MAX_DATUMS = 10_000_000
"""A job with more would not end: a cross of large inputs gets there quickly."""

# Copied for every use: making one derives its key anew.
_DATUM_HASHER = blake3(derive_key_context=DATUM_CONTEXT)
_ENTRY_HASHER = blake3(derive_key_context=entries.ENTRY_CONTEXT)

Matches = Sequence[tuple[str, bytes]]
"""What a glob matches in a commit: paths, each with its tree entry."""


@dataclass(frozen=True, slots=True)
class DatumInput:
    """One input's part of a datum."""

    name: str
    path: str
    """Absolute path of the entry in its repo."""
    entry: bytes
    """The tree entry, as directories hold it."""
    atom: int = 0
    """Which of the pipeline's atoms it comes from; no part of the datum's identity."""

    @property
    def hash(self) -> bytes:
        """The entry's content hash, 32 bytes: see `pfsd.entries.content_hash`."""
        hasher = _ENTRY_HASHER.copy()
        hasher.update(self.entry)  # equal content has equal bytes: no need to decode them
        return hasher.digest()


@dataclass(frozen=True, slots=True)
class Datum:
    """A unit of work."""

    id: str
    """64 hex digits."""
    inputs: tuple[DatumInput, ...]


def make(salt: str, inputs: tuple[DatumInput, ...]) -> Datum:
    """The datum that shows these inputs to a pipeline of this salt."""
    hasher = _DATUM_HASHER.copy()
    hasher.update(_framed(salt.encode()) + b"".join(map(_identifying, inputs)))
    return Datum(hasher.hexdigest(), inputs)


def _identifying(one: DatumInput) -> bytes:
    return _framed(one.name.encode()) + _framed(one.path.encode()) + _framed(one.hash)


def _framed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "big") + text


def enumerate_all(salt: str, spec: InputSpec, matches: Sequence[Matches]) -> list[Datum]:
    """All datums of an input, given what the glob of each atom matches.

    An atom's come in the order of their paths' bytes; the first member of a cross varies slowest. A datum that a union
    has twice counts once. Raises InvalidError when there are more than `MAX_DATUMS`.
    """
    parts = [_ordered(number, one) for number, one in enumerate(matches)]
    count = _count(spec, iter([len(part) for part in parts]))
    if count > MAX_DATUMS:
        raise InvalidError(f"the input makes {count} datums, and {MAX_DATUMS} are the most: use coarser globs")
    found: dict[str, Datum] = {}
    for shown in _combined(spec, iter(parts)):
        datum = make(salt, shown)
        found.setdefault(datum.id, datum)
    return list(found.values())


def _ordered(number: int, matches: Matches) -> list[tuple[int, str, bytes]]:
    return [(number, path, entry) for path, entry in sorted(matches, key=lambda match: match[0].encode())]


def _count(spec: InputSpec, sizes: Iterator[int]) -> int:
    if isinstance(spec, AtomSpec):
        return next(sizes)
    counts = [_count(member, sizes) for member in members(spec)]
    return math.prod(counts) if isinstance(spec, CrossSpec) else sum(counts)


def _combined(spec: InputSpec, parts: Iterator[list[tuple[int, str, bytes]]]) -> Iterable[tuple[DatumInput, ...]]:
    """What each datum shows; takes one part for each atom, in the order of the atoms."""
    if isinstance(spec, AtomSpec):
        name = spec.name
        return [(DatumInput(name, path, entry, number),) for number, path, entry in next(parts)]
    below = [_combined(member, parts) for member in members(spec)]
    if isinstance(spec, CrossSpec):
        return (tuple(itertools.chain(*chosen)) for chosen in itertools.product(*below))
    return itertools.chain(*below)


def tag_prefix(salt: str) -> str:
    """What the tags of all output trees of a salt begin with."""
    return f"{TAG_PREFIX}{salt}/"


def tag(salt: str, datum_id: str) -> str:
    """The tag of a datum's output tree."""
    return tag_prefix(salt) + datum_id


def stats_tag(salt: str, datum_id: str) -> str:
    """The tag of the tree that tells how a datum went; it goes with the datum's own."""
    return f"{tag(salt, datum_id)}/stats"
