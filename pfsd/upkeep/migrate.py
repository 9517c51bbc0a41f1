"""Bringing a root of an older on-disk format to the present one, step by step.

A step turns format N into a later one. It may be cut off anywhere and is then run again from its beginning, so it
has to be repeatable; the version in FORMAT changes only once everything that the step wrote is on disk.
"""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pfsd.errors import FormatError, InvalidError
from pfsd.local.kv import Database
from pfsd.model import root
from pfsd.model.root import FORMAT, Identity

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A change of format."""

    source: int
    """The version that it turns."""
    target: int
    """The version that comes out, above `source`."""
    name: str
    """What it does, in a few words."""
    run: Callable[[pathlib.Path, Database], None]
    """Does it, given the root directory and its metadata. Run again after a crash, it has to end up the same."""


def _add_journal(_directory: pathlib.Path, database: Database) -> None:
    """Nothing but a look: opening the metadata has made the family."""
    assert next(database.scan("journal", b""), None) is None, "a root of format 1 has no journal"


def _admit_attributes(_directory: pathlib.Path, _database: Database) -> None:
    """Nothing: entries without attributes, and trees of them, are as they were."""


STEPS = (
    Step(1, 2, "small additions to packs have a journal", _add_journal),
    Step(2, 3, "entries may have attributes", _admit_attributes),
)
"""Every step there is. Version 1 is the first format."""


def migrate(directory: pathlib.Path, steps: Sequence[Step] = STEPS, present: int = FORMAT) -> list[str]:
    """Bring a root to the format `present`; returns the names of the steps that were done, none where it has it.

    Raises StateError while a daemon serves the root, InvalidError when the directory is not there, FormatError when
    it is not a root, or is newer, or when no step begins at its format.
    """
    if not directory.is_dir():
        raise InvalidError(f"the root {directory} is not a directory that is there")
    if not (directory / "FORMAT").exists():
        raise FormatError(f"{directory} is not a root of pfsd: it has no FORMAT")
    lock_fd = root.lock(directory)
    try:
        identity = root.read_identity(directory)
        if identity.version > present:
            raise FormatError(
                f"the root {directory} has format {identity.version} and this pfsd reads format {present}: "
                "use a newer one"
            )
        chain = _chain(directory, identity.version, steps, present)
        return _run(directory, identity, chain) if chain else []
    finally:
        os.close(lock_fd)


def _chain(directory: pathlib.Path, version: int, steps: Sequence[Step], present: int) -> list[Step]:
    """The steps from a version to the present one; raises FormatError when they do not lead there."""
    by_source = {step.source: step for step in steps}
    chain = []
    while version != present:
        step = by_source.get(version)
        if step is None or not version < step.target <= present:
            raise FormatError(f"the root {directory} has format {version}: nothing here leads from it to {present}")
        chain.append(step)
        version = step.target
    return chain


def _run(directory: pathlib.Path, identity: Identity, chain: Sequence[Step]) -> list[str]:
    database = Database(directory / "meta")
    try:
        for step in chain:
            log.info("format %d to %d: %s", step.source, step.target, step.name)
            step.run(directory, database)
            reached = Identity(step.target, identity.store)
            root.write_identity_rows(database, reached)  # synced, and with it all that the step wrote before
            root.write_identity(directory, reached)
    finally:
        database.close()
    return [step.name for step in chain]
