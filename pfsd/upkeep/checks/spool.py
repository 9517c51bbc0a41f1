"""Keeping a damaged pack of the spool from being cut.

The start of a daemon cuts a growing pack at its first record that does not verify, for a crash tears only the end.
Where the chunk index names bytes behind that, it was no crash: the pack is put among the sealed ones, which are never
cut, so that nothing intact in it is lost.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

from pfsd.local import journal, packs
from pfsd.local.kv import Database
from pfsd.model.root import read_identity
from pfsd.objectstores.openstore import DEFAULTS, open_store
from pfsd.upkeep.checks.findings import Problem, problem
from pfsd.upkeep.checks.packs import parse_row


def check(directory: pathlib.Path, fix: bool) -> Iterator[Problem]:
    """Look at the spool of a root before it is opened."""
    database = Database(directory / "meta")
    try:
        journal.restore(database, directory / "spool")
        torn = {}
        for path in packs.growing_packs(directory / "spool"):
            end = _intact_bytes(path)
            if end < path.stat().st_size:
                torn[path.name] = end
        behind = _indexed_behind(directory, database, torn) if torn else {}
    finally:
        database.close()
    if not behind:
        return
    objects = open_store(directory, read_identity(directory).store, DEFAULTS)
    try:
        for pack in behind:
            objects.put_file(packs.pack_object(pack), directory / "spool" / pack)
    finally:
        objects.close()
    for pack, count in behind.items():
        yield problem(
            f"pack {pack}, which was still growing, is damaged at byte {torn[pack]}, before {count} indexed chunks: "
            "it was put among the sealed packs, so that nothing in it is cut off",
            fixed=True,
        )


def _intact_bytes(path: pathlib.Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = 0
        for _, offset, data in packs.scan(fd):
            end = offset + len(data)
        return end
    finally:
        os.close(fd)


def _indexed_behind(directory: pathlib.Path, database: Database, torn: dict[str, int]) -> dict[str, int]:
    """For each pack, how many chunks the index names in bytes that are there, behind the damage."""
    sizes = {pack: (directory / "spool" / pack).stat().st_size for pack in torn}
    found: dict[str, int] = {}
    for _, row in database.scan("chunks", b""):
        at = parse_row(row)
        if at is not None and at.pack in torn and torn[at.pack] < at.offset and at.offset + at.size <= sizes[at.pack]:
            found[at.pack] = found.get(at.pack, 0) + 1
    return found
