"""From damaged nodes, chunks and packs to problems: what each touches, and what can be done about it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pfsd.errors import CorruptError
from pfsd.model import treeobjects
from pfsd.model.root import Root
from pfsd.upkeep.checks.findings import Places, Problem, problem
from pfsd.upkeep.checks.packs import PackCheck
from pfsd.upkeep.checks.records import RecordCheck
from pfsd.upkeep.checks.trees import PathSearch, TreeCheck, is_located


class Remedy(enum.Enum):
    """What can be done about damage."""

    NONE = enum.auto()
    COPY = enum.auto()
    """Another intact copy of the chunk is in some pack."""
    AGAIN = enum.auto()
    """The chunk is a commit's tree object, which follows from the commit."""


@dataclass(slots=True)
class _Cause:
    """Damage that one sentence tells."""

    what: Callable[[int, str], str]
    """The sentence, given how many nodes or chunks it is about and the first of them."""
    remedy: Remedy
    is_index: bool
    """Whether entries of the chunk index are wrong, which is worth telling also where nothing uses them."""
    members: list[bytes] = field(default_factory=list)
    places: Places = field(default_factory=Places)
    last: str = ""


class DamageReport:
    """The problems of one check."""

    def __init__(self, root: Root, records: RecordCheck, trees: TreeCheck, packs: PackCheck) -> None:
        self._root = root
        self._records = records
        self._trees = trees
        self._packs = packs
        self._causes: dict[object, _Cause] = {}
        self._cause_of: dict[bytes, _Cause] = {}
        self._tree_objects: dict[bytes, bytes] = {}
        """Damaged tree objects of commits, and the roots that they name."""

    def run(self, *, fix: bool, is_alone: bool) -> Iterator[Problem]:
        """The problems, repaired where `fix` says so and it can be done."""
        yield from self._unused_nodes(fix=fix and is_alone)
        self._gather()
        if self._causes:
            self._search()
        for cause in self._causes.values():
            if cause.places.count or cause.is_index:
                is_fixed = fix and self._repair(cause)
                what = cause.what(len(cause.members), min(cause.members).hex())
                if not cause.places.count:
                    what += "; nothing uses them" if len(cause.members) > 1 else "; nothing uses it"
                yield Problem(what, tuple(cause.places.first), cause.places.count, is_fixed)
        lost_in = {at.pack for at in self._packs.broken.values() if at is not None}
        for pack, start in self._packs.scars.items():
            if pack not in lost_in:
                yield problem(
                    f"pack {pack} is damaged at byte {start}, and every chunk that the index names in it is intact"
                )

    def _unused_nodes(self, *, fix: bool) -> Iterator[Problem]:
        names = list(self._trees.rest())
        if not names:
            return
        if fix:
            batch = self._root.db.batch()
            for name in names:
                batch.delete("nodes", name)
            self._root.db.write(batch, sync=True)
        counted = f"{len(names)} tree nodes that nothing uses are" if len(names) > 1 else "a tree node is"
        tail = "" if len(names) > 1 else "; nothing uses it"
        yield problem(f"{counted} damaged: {names[0].hex()}{tail}", fixed=fix)

    # --- what is wrong

    def _gather(self) -> None:
        bad_chunks = self._packs.broken.keys() | self._trees.missing_chunks
        for commit in self._records.commits():
            if commit.tree and (name := bytes.fromhex(commit.tree)) in bad_chunks:
                self._tree_objects[name] = bytes.fromhex(commit.root)
        for name, why in self._trees.bad_nodes.items():
            if self._trees.still_bad(name):
                self._add(why, name, _nodes(why), Remedy.NONE, is_index=False)
        for name in self._trees.missing_chunks:
            if name not in self._packs.broken and not is_located(self._root, name):
                remedy = self._remedy(name)
                self._add((None, remedy), name, _missing(remedy), remedy, is_index=False)
        for name, at in self._packs.broken.items():
            remedy = self._remedy(name)
            reason = "the chunk index is damaged" if at is None else self._packs.reason(at.pack)
            self._add((reason, remedy), name, _broken(reason, remedy), remedy, is_index=True)

    def _remedy(self, name: bytes) -> Remedy:
        if name in self._packs.copies:
            return Remedy.COPY
        return Remedy.AGAIN if name in self._tree_objects else Remedy.NONE

    def _add(
        self, kind: object, name: bytes, what: Callable[[int, str], str], remedy: Remedy, *, is_index: bool
    ) -> None:
        cause = self._causes.setdefault(kind, _Cause(what, remedy, is_index))
        cause.members.append(name)
        self._cause_of[name] = cause

    # --- what it touches

    def _search(self) -> None:
        """Go through all trees again, as they are now, for what uses the damaged parts."""
        search = PathSearch(self._root, self._cause_of, self._cause_of)
        for commit in self._records.commits():
            place = f"{commit.repo}/{commit.id}"
            search.directory(bytes.fromhex(commit.root), self._noter(place + ":"))
            if commit.tree and (cause := self._cause_of.get(bytes.fromhex(commit.tree))):
                cause.places.add(place)
        for place, entry in self._records.objects():
            search.file(entry, self._noter(place, show_path=False))
        for place, name in self._records.tags():
            top = self._records.tree_of(name)
            if top is not None:
                search.directory(top, self._noter(place + ":"))
            elif cause := self._cause_of.get(name):
                cause.places.add(place)
        for place, entry in self._records.staged_files():
            search.file(entry, self._noter(place, show_path=False))

    def _noter(self, place: str, *, show_path: bool = True) -> Callable[[bytes, str], None]:
        def note(name: bytes, path: str) -> None:
            cause = self._cause_of[name]
            here = place + path if show_path else place
            if here != cause.last:  # a file of many damaged chunks is one place
                cause.last = here
                cause.places.add(here)

        return note

    # --- what can be done

    def _repair(self, cause: _Cause) -> bool:
        """Repair what can be; whether all of it was."""
        is_done = cause.remedy is not Remedy.NONE or not cause.places.count
        for name in cause.members:
            if cause.remedy is Remedy.COPY:
                is_done &= self._packs.use_copy(name)
            elif name in self._packs.broken:
                self._packs.forget(name)
            if cause.remedy is Remedy.AGAIN:
                treeobjects.put(self._root.chunks, self._tree_objects[name])
        if cause.remedy is Remedy.AGAIN:
            self._root.chunks.flush()
            self._root.db.write(self._root.db.batch(), sync=True)
        try:
            for name in cause.members if cause.remedy is not Remedy.NONE else ():
                self._root.chunks.read(name)
        except CorruptError:
            return False
        return is_done


def _nodes(why: str) -> Callable[[int, str], str]:
    def what(count: int, first: str) -> str:
        if count == 1:
            return f"tree node {first} {why}"
        return f"{count} tree nodes, {first} among them, each: {why}"

    return what


def _missing(remedy: Remedy) -> Callable[[int, str], str]:
    def what(count: int, first: str) -> str:
        counted = f"{count} chunks are" if count > 1 else f"chunk {first} is"
        return f"{counted} missing from the chunk index{_AFTERWARDS[remedy]}"

    return what


def _broken(reason: str, remedy: Remedy) -> Callable[[int, str], str]:
    def what(count: int, first: str) -> str:
        counted = f"{count} chunks" if count > 1 else f"chunk {first}"
        return f"{reason}: {counted} can't be read there{_AFTERWARDS[remedy]}"

    return what


_AFTERWARDS = {
    Remedy.NONE: " and there is no other copy: put the same content again to restore it",
    Remedy.COPY: ", but intact in a pack",
    Remedy.AGAIN: ", but can be made again: it is the tree object of a commit",
}
