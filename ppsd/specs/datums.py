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
from typing import Protocol

from blake3 import blake3

from pfsd.errors import InvalidError
from pfsd.trees import entries
from ppsd.specs.inputs import AtomSpec, CrossSpec, InputSpec, UnionSpec, members
from ppsd.specs.inputs import atoms as atoms_of

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
        """The hash of the entry's plain form, 32 bytes: see `pfsd.trees.entries.plain_hash`."""
        hasher = _ENTRY_HASHER.copy()
        hasher.update(entries.plain_bytes(self.entry))
        return hasher.digest()


@dataclass(frozen=True, slots=True)
class Datum:
    """A unit of work."""

    id: str
    """64 hex digits."""
    inputs: tuple[DatumInput, ...]
    order: str = ""
    """A job's datums come in the order of these texts, of which no two are equal."""


def make(salt: str, inputs: tuple[DatumInput, ...], order: str = "") -> Datum:
    """The datum that shows these inputs to a pipeline of this salt."""
    hasher = _DATUM_HASHER.copy()
    hasher.update(_framed(salt.encode()) + b"".join(map(_identifying, inputs)))
    return Datum(hasher.hexdigest(), inputs, order)


def _identifying(one: DatumInput) -> bytes:
    return _framed(one.name.encode()) + _framed(one.path.encode()) + _framed(one.hash)


def _framed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "big") + text


@dataclass(frozen=True, slots=True)
class AtomChange:
    """What the glob of one atom matches in a commit, against another, former one."""

    removed: Matches
    """What is gone or changed, as it was."""
    added: Matches
    """What is new or changed, as it is."""
    kept: Matches = ()
    """What is the same; may be left out where `needs_kept` says so."""


def needs_kept(spec: InputSpec, changed: Sequence[bool]) -> list[bool]:
    """For each atom, whether `changes` needs to know what is the same; `changed` says whether anything is not."""
    if not any(changed):
        return [False] * len(changed)
    return _needs_kept(spec, iter(changed), False)


def changes(
    salt: str, spec: InputSpec, atoms: Sequence[AtomChange], former: int = 0
) -> tuple[list[Datum], list[Datum]]:
    """The datums of an input that are gone against former commits, and those that are new, both in order.

    A datum that several members of a union have counts for each of them. Raises InvalidError when there are more than
    `MAX_DATUMS` now, `former` being how many there were.
    """
    part = _part(spec, iter(range(len(atoms))), atoms)
    count = former + part.count.added - part.count.removed
    if max(count, part.count.added) > MAX_DATUMS:
        raise InvalidError(f"the input makes {count} datums, and at most {MAX_DATUMS} are allowed: use coarser globs")
    return _made(salt, part.removed()), _made(salt, part.added())


def enumerate_all(salt: str, spec: InputSpec, matches: Sequence[Matches]) -> list[Datum]:
    """All datums of an input, given what the glob of each atom matches.

    An atom's come in the order of their paths' bytes; the first member of a cross varies slowest. A datum that several
    members of a union have comes with each of them. Raises InvalidError when there are more than `MAX_DATUMS`.
    """
    return changes(salt, spec, [AtomChange((), one) for one in matches])[1]


def may_repeat(spec: InputSpec) -> bool:
    """Whether an input may have a datum several times: only where members of a union share a name."""
    if isinstance(spec, UnionSpec):
        names = [{atom.name for atom in atoms_of(member)} for member in spec.union]
        if sum(map(len, names)) > len(set().union(*names)):
            return True
    return any(may_repeat(member) for member in members(spec))


def _made(salt: str, shown: Iterable[_Shown]) -> list[Datum]:
    return [make(salt, inputs, order) for order, inputs in sorted(shown, key=lambda one: one[0])]


def each_once(found: Iterable[Datum]) -> list[Datum]:
    """The datums in order, each where it comes first."""
    first: dict[str, Datum] = {}
    for datum in found:
        first.setdefault(datum.id, datum)
    return list(first.values())


def tag_prefix(salt: str) -> str:
    """What the tags of all output trees of a salt begin with."""
    return f"{TAG_PREFIX}{salt}/"


def merge_tag(salt: str, former: str) -> str:
    """The tag of a merge of datums' output trees: one of two, so that it is not the `former` merge's."""
    return min({f"{tag_prefix(salt)}merge-{place}" for place in "ab"} - {former})


def tag(salt: str, datum_id: str) -> str:
    """The tag of a datum's output tree."""
    return tag_prefix(salt) + datum_id


def stats_tag(salt: str, datum_id: str) -> str:
    """The tag of the tree that tells how a datum went; it goes with the datum's own."""
    return f"{tag(salt, datum_id)}/stats"


# --- the parts of an input

_Shown = tuple[str, tuple[DatumInput, ...]]
"""A datum's order, and what it shows."""


@dataclass(frozen=True, slots=True)
class _Count:
    removed: int
    added: int
    kept: int


class _Part(Protocol):
    """What a part of an input makes: each list is made when it is asked for."""

    @property
    def count(self) -> _Count:
        """How long the lists are."""

    def removed(self) -> Iterable[_Shown]: ...

    def added(self) -> Iterable[_Shown]: ...

    def kept(self) -> Iterable[_Shown]: ...


class _Atom:
    """The part that an atom is. The order is the path and a 0x00, which makes it end before any that goes on."""

    def __init__(self, name: str, number: int, change: AtomChange) -> None:
        self._name = name
        self._number = number
        self._change = change
        self.count = _Count(len(change.removed), len(change.added), len(change.kept))

    def removed(self) -> list[_Shown]:
        return self._shown(self._change.removed)

    def added(self) -> list[_Shown]:
        return self._shown(self._change.added)

    def kept(self) -> list[_Shown]:
        return self._shown(self._change.kept)

    def _shown(self, matches: Matches) -> list[_Shown]:
        return [(f"{path}\0", (DatumInput(self._name, path, entry, self._number),)) for path, entry in matches]


class _Union:
    """The order is the member's number, of a fixed width, and the order in the member."""

    def __init__(self, below: Sequence[_Part]) -> None:
        self._below = below
        counts = [part.count for part in below]
        self.count = _Count(
            sum(one.removed for one in counts), sum(one.added for one in counts), sum(one.kept for one in counts)
        )

    def removed(self) -> list[_Shown]:
        return self._numbered([part.removed() for part in self._below])

    def added(self) -> list[_Shown]:
        return self._numbered([part.added() for part in self._below])

    def kept(self) -> list[_Shown]:
        return self._numbered([part.kept() for part in self._below])

    def _numbered(self, parts: Sequence[Iterable[_Shown]]) -> list[_Shown]:
        width = len(str(len(parts)))
        return [(f"{number:0{width}}{order}", inputs) for number, part in enumerate(parts) for order, inputs in part]


class _Cross:
    """The order is the members' orders, one after the other."""

    def __init__(self, below: Sequence[_Part]) -> None:
        self._below = below
        counts = [part.count for part in below]
        kept = math.prod(one.kept for one in counts)
        removed = math.prod(one.kept + one.removed for one in counts) - kept
        added = math.prod(one.kept + one.added for one in counts) - kept
        self.count = _Count(removed, added, kept)

    def removed(self) -> Iterator[_Shown]:
        return self._changed([list(part.removed()) for part in self._below])

    def added(self) -> Iterator[_Shown]:
        return self._changed([list(part.added()) for part in self._below])

    def kept(self) -> Iterator[_Shown]:
        return _joined([list(part.kept()) for part in self._below])

    def _changed(self, changed: Sequence[list[_Shown]]) -> Iterator[_Shown]:
        """The tuples in which something changed: by the first member that did."""
        if not any(changed):
            return
        kept = [list(part.kept()) for part in self._below]
        for place, own in enumerate(changed):
            if own:
                later = [[*same, *other] for same, other in zip(kept[place + 1 :], changed[place + 1 :], strict=True)]
                yield from _joined([*kept[:place], own, *later])


def _joined(parts: Sequence[Sequence[_Shown]]) -> Iterator[_Shown]:
    for chosen in itertools.product(*parts):
        yield "".join(order for order, _ in chosen), tuple(itertools.chain(*(inputs for _, inputs in chosen)))


def _part(spec: InputSpec, numbers: Iterator[int], atoms: Sequence[AtomChange]) -> _Part:
    """The part that an input is; takes one number for each atom, in the order of the atoms."""
    if isinstance(spec, AtomSpec):
        number = next(numbers)
        return _Atom(spec.name, number, atoms[number])
    below = [_part(member, numbers, atoms) for member in members(spec)]
    return _Cross(below) if isinstance(spec, CrossSpec) else _Union(below)


def _needs_kept(spec: InputSpec, changed: Iterator[bool], whole: bool) -> list[bool]:
    """The same for a part of an input, of which with `whole` all is needed; takes one flag for each atom."""
    if isinstance(spec, AtomSpec):
        next(changed)
        return [whole]
    below = [(member, [next(changed) for _ in atoms_of(member)]) for member in members(spec)]
    needed: list[bool] = []
    for member, flags in below:
        crossed = isinstance(spec, CrossSpec) and any(any(other) for one, other in below if one is not member)
        needed += _needs_kept(member, iter(flags), whole or crossed)
    return needed
