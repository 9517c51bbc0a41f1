"""Checking packs and the chunk index against each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from blake3 import blake3

from pfsd._core import MAX_CHUNK, next_cut
from pfsd.errors import CorruptError
from pfsd.local.packs import INDEX, MAGIC, RECORD, Location, growing_packs, location, pack_object, sealed_name
from pfsd.model.root import Root
from pfsd.objectstores.objectstore import open_object
from pfsd.upkeep.checks.findings import HashSet, Tally

AT_ONCE = 256
"""Chunks looked up in one call."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An intact chunk as a pack holds it."""

    name: bytes
    pack: str
    offset: int
    size: int

    def is_at(self, row: bytes | None) -> bool:
        """Whether an index row says that the chunk is here."""
        at = parse_row(row) if row is not None else None
        return at is not None and (at.pack, at.offset, at.size) == (self.pack, self.offset, self.size)


@dataclass(slots=True)
class PackCheck:
    """Reads every pack once, in order, then looks at the index entries that no pack bears out."""

    root: Root
    tally: Tally
    broken: dict[bytes, Location | None] = field(default_factory=dict)
    """Chunks whose bytes are not where the index says; None for an entry of the index that says nothing."""
    copies: dict[bytes, Stored] = field(default_factory=dict)
    """Intact chunks that lie where the index does not say, where it names them elsewhere or they are wanted."""
    scars: dict[str, int] = field(default_factory=dict)
    """Packs whose records can't be followed from one to the next: the byte at which the first damaged one begins."""
    _verified: HashSet = field(default_factory=HashSet)

    def run(self, wanted: set[bytes]) -> None:
        """Check everything; `wanted` are chunks that the index lacks."""
        for pack, is_growing in self._packs():
            try:
                with self._open(pack, is_growing) as file:
                    stored = list(self._records(pack, file, is_growing))
                    self.tally.packs += 1
                    self.tally.bytes += file.tell()
            except (FileNotFoundError, CorruptError):  # sealed, or rewritten by a collection, meanwhile
                continue
            for at in range(0, len(stored), AT_ONCE):
                self._compare(stored[at : at + AT_ONCE], wanted)
        self._check_index()

    def reason(self, pack: str) -> str:
        """What has become of a pack in which chunks are broken, as the beginning of a sentence."""
        try:
            size = self.root.objects.size(pack_object(pack))
        except CorruptError:
            path = self.root.spool / pack
            if not path.exists():
                return f"pack {pack} is missing"
            size = path.stat().st_size
        return f"pack {pack}, of {size} bytes, is damaged"

    def use_copy(self, name: bytes) -> bool:
        """Let the index name the intact copy of a chunk; whether there is one."""
        stored = self.copies.get(name)
        if stored is None:
            return False
        for is_growing in (False, True):
            try:
                with self._open(stored.pack, is_growing) as file:
                    file.seek(stored.offset)
                    data = file.read(stored.size)
            except (FileNotFoundError, CorruptError):
                continue
            if blake3(data).digest() != name:
                return False
            is_cut = next_cut(data) == len(data)
            self.root.chunks.relocate(name, Location(stored.pack, stored.offset, stored.size, is_cut))
            return True
        return False

    def forget(self, name: bytes) -> None:
        """Take a lost chunk out of the index, so that putting its bytes again stores them."""
        self.root.chunks.forget(name, lambda row: parse_row(row) == self.broken[name])

    def _open(self, pack: str, is_growing: bool) -> BinaryIO:
        """A pack's bytes, as the store has them; raises FileNotFoundError or CorruptError where it is not there."""
        if is_growing:
            return (self.root.spool / pack).open("rb")
        return open_object(self.root.objects, pack_object(pack))

    def _packs(self) -> Iterator[tuple[str, bool]]:
        for path in growing_packs(self.root.spool):  # first: packs move from here to there
            yield path.name, True
        for name in self.root.objects.names("packs/"):
            pack = sealed_name(name)
            if pack is not None:
                yield pack, False

    def _records(self, pack: str, file: BinaryIO, is_growing: bool) -> Iterator[Stored]:
        """The intact chunks of a pack, as far as its records can be followed."""
        at = len(MAGIC)
        if file.read(len(MAGIC)) != MAGIC:
            if not is_growing:
                self.scars[pack] = 0
            return
        while head := file.read(RECORD.size):
            start, at = at, at + RECORD.size
            name, size, reserved = RECORD.unpack(head) if len(head) == RECORD.size else (b"", 0, 0)
            data = file.read(size) if 0 < size <= MAX_CHUNK and not reserved else b""
            if not data or len(data) != size:
                if not is_growing:  # a growing pack may end in a record that is being written
                    self.scars.setdefault(pack, start)
                return
            digest = blake3(data).digest()
            if digest != name:
                self.scars.setdefault(pack, start)
            yield Stored(digest, pack, at, size)
            at += size

    def _compare(self, stored: list[Stored], wanted: set[bytes]) -> None:
        rows = self.root.db.get_many("chunks", [chunk.name for chunk in stored])
        for chunk, row in zip(stored, rows, strict=True):
            if chunk.is_at(row):
                self._verified.add(chunk.name)
            elif row is not None or chunk.name in wanted:
                self.copies[chunk.name] = chunk

    def _check_index(self) -> None:
        for name, row in self.root.db.scan("chunks", b""):
            self.tally.chunks += 1
            if name not in self._verified:
                at = parse_row(row)
                if (at is None or not self._reads(name)) and self.root.db.get("chunks", name) == row:
                    self.broken[name] = at  # it did not go, or move, meanwhile
            elif name in self.copies:
                del self.copies[name]

    def _reads(self, name: bytes) -> bool:
        try:
            self.root.chunks.read(name)
        except CorruptError:
            return False
        return True


def parse_row(row: bytes) -> Location | None:
    """What an entry of the chunk index says; None where it has not the form of one."""
    return location(row) if len(row) == INDEX.size else None
