"""Checking repos, commits, branches, tags, objects and staged writes.

Nothing here holds the store up for long: what looks wrong is looked at again under the root's lock, and only what is
still wrong then is reported and repaired.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from blake3 import blake3

from pfsd.errors import CorruptError, FormatError, InvalidError
from pfsd.local.kv import Batch
from pfsd.model import records, treeobjects
from pfsd.model.records import Commit, Repo
from pfsd.model.root import (
    FORMAT,
    Identity,
    Root,
    read_identity,
    read_identity_rows,
    write_identity,
    write_identity_rows,
)
from pfsd.model.stagedrows import is_sound
from pfsd.trees import attributes, dirs, entries, tree
from pfsd.trees.entries import FileEntry
from pfsd.upkeep.checks.findings import Problem, Tally, problem
from pfsd.upkeep.checks.trees import is_located

ID_BYTES = 16
TREE_OBJECT_BYTES = 77
"""Length of every tree object."""

Repair = Callable[[Batch], None]


class RecordCheck:
    """The checks of one store's records. Each method yields the problems it finds."""

    def __init__(self, root: Root, tally: Tally, *, fix: bool, is_alone: bool) -> None:
        self._root = root
        self._db = root.db
        self._tally = tally
        self._fix = fix
        self._is_alone = is_alone

    def run(self) -> Iterator[Problem]:
        """All that needs no tree."""
        yield from self._identity()
        yield from self._repos()
        yield from self._commits()
        yield from self._sequence()
        yield from self._history()
        yield from self._branches()
        yield from self._downstream()
        yield from self._staging()
        yield from self._staged_rows()

    # --- what is there

    def commits(self) -> Iterator[Commit]:
        """Every commit whose record can be read."""
        for _, data in self._db.scan("commits", b""):
            try:
                yield records.load_commit(data)
            except CorruptError:
                continue

    def objects(self) -> Iterator[tuple[str, FileEntry]]:
        """Every object with an entry of its own, by its place."""
        for name, row in self._db.scan("objects", b""):
            entry = _entry(row) if row else None
            if isinstance(entry, FileEntry):
                yield f"object {name.hex()}", entry

    def tags(self) -> Iterator[tuple[str, bytes]]:
        """Every tag of an object of one chunk, by its place, with the chunk."""
        for tag, name in self._db.scan("tags", b""):
            if self._db.get("objects", name) is None:
                yield f"tag {tag.decode(errors='replace')}", name

    def tree_of(self, name: bytes) -> bytes | None:
        """The root that a tree object names, or None where the object is not one or can't be read."""
        try:
            if self._root.chunks.locate(name).size != TREE_OBJECT_BYTES:
                return None
            return treeobjects.read(self._root.chunks, name)
        except (CorruptError, InvalidError):
            return None

    def staged_files(self) -> Iterator[tuple[str, FileEntry]]:
        """What is stored already of the files that are staged for open commits, by its place."""
        for key, value in self._db.scan("staging", b""):
            end = key.find(b"\0\0", ID_BYTES)
            if len(key) > end + 2 and value[:1] == b"\2":
                commit = self._commit(key[:ID_BYTES])
                entry = _entry(value[1:])
                if commit is not None and commit.is_open and isinstance(entry, FileEntry):
                    path = key[ID_BYTES:end].decode(errors="replace").replace("\0", "/")
                    yield f"{commit.repo}/{commit.id}:/{path}", entry

    def _commit(self, commit_id: bytes) -> Commit | None:
        data = self._db.get("commits", commit_id)
        try:
            return None if data is None else records.load_commit(data)
        except CorruptError:
            return None

    def _repo(self, name: bytes) -> Repo | None:
        data = self._db.get("repos", name)
        try:
            return None if data is None else records.load_repo(data)
        except CorruptError:
            return None

    def _confirm(
        self, what: str, places: list[str], is_wrong: Callable[[], bool], repair: Repair | None = None
    ) -> Iterator[Problem]:
        """The problem, if it is one when nothing else can change, repaired if that is asked for and can be."""
        with self._root.lock:
            if not is_wrong():
                return
            if repair is not None and self._fix:
                batch = self._db.batch()
                repair(batch)
                self._db.write(batch, sync=True)
        yield problem(what, places, fixed=repair is not None and self._fix)

    # --- the root

    def _identity(self) -> Iterator[Problem]:
        kept = read_identity_rows(self._db)
        present = Identity(FORMAT, self._root.id)
        if kept != present:
            if self._fix:
                write_identity_rows(self._db, present)
            yield problem("the metadata does not name the root's format and id", fixed=self._fix)
        try:
            is_right = read_identity(self._root.directory) == present
        except (OSError, FormatError):
            is_right = False
        if not is_right:
            if self._fix:
                write_identity(self._root.directory, present)
            yield problem("the file FORMAT does not name the root's format and id", fixed=self._fix)

    def _sequence(self) -> Iterator[Problem]:
        highest = max((commit.sequence for commit in self.commits()), default=0)

        def is_wrong() -> bool:
            return int.from_bytes(self._db.get("meta", b"sequence") or b"", "big") < highest

        def repair(batch: Batch) -> None:
            batch.put("meta", b"sequence", highest.to_bytes(8, "big"))

        what = "the counter of commits is below the number of the newest commit"
        if not self._is_alone:
            what += ": stop the daemon and check its root to repair it"
        yield from self._confirm(what, [], is_wrong, repair if self._is_alone else None)

    # --- repos and commits

    def _repos(self) -> Iterator[Problem]:
        for key, data in self._db.scan("repos", b""):
            self._tally.repos += 1
            name = key.decode(errors="replace")
            try:
                repo = records.load_repo(data)
            except CorruptError as error:
                yield problem(f"the record of repo {name} can't be read: {error}", [name])
                continue
            if repo.name != name:
                yield problem(f"the record of repo {name} names itself {repo.name}", [name])

    def _commits(self) -> Iterator[Problem]:
        homeless: dict[str, list[Commit]] = {}
        for key, data in self._db.scan("commits", b""):
            self._tally.commits += 1
            try:
                commit = records.load_commit(data)
            except CorruptError as error:
                yield problem(f"the record of commit {key.hex()} can't be read: {error}", [f"commit {key.hex()}"])
                continue
            if self._db.get("repos", commit.repo.encode()) is None:
                homeless.setdefault(commit.repo, []).append(commit)
            yield from self._commit_record(key, commit)
        for name, found in homeless.items():
            yield from self._lost_repo(name, found)

    def _commit_record(self, key: bytes, commit: Commit) -> Iterator[Problem]:
        place = f"{commit.repo}/{commit.id}"
        if commit.id != key.hex():
            yield problem(f"the record of commit {key.hex()} names itself {commit.id}", [place])
            return
        if commit.parent is not None and self._commit(bytes.fromhex(commit.parent)) is None:
            yield from self._confirm(
                f"commit {place} has a parent, {commit.parent}, that is missing",
                [place],
                lambda: self._commit(key) is not None and self._commit(bytes.fromhex(str(commit.parent))) is None,
            )
        row_key = _history_key(commit)
        if self._db.get("history", row_key) != key:
            yield from self._confirm(
                f"commit {place} is missing from its repo's list of commits",
                [place],
                lambda: self._commit(key) is not None and self._db.get("history", row_key) != key,
                functools.partial(_put, "history", row_key, key) if not self._taken(row_key) else None,
            )
        if not _are_sound(commit.attributes):
            yield from self._confirm(
                f"commit {place} keeps of its root what can't be read",
                [f"{place}:/"],
                lambda: self._commit(key) == commit,
                functools.partial(_put, "commits", key, records.dump(dataclasses.replace(commit, attributes=""))),
            )
        for ref in commit.provenance:
            row = bytes.fromhex(ref.id) + key
            if self._lacks(row):
                yield from self._confirm(
                    f"commit {place} is missing among those that come from {ref.repo}/{ref.id}",
                    [place],
                    functools.partial(self._lacks, row),
                    functools.partial(_put, "downstream", row, b""),
                )

    def _lacks(self, row: bytes) -> bool:
        """Whether both commits of a downstream row are there and the row is not."""
        return (
            self._commit(row[ID_BYTES:]) is not None
            and self._commit(row[:ID_BYTES]) is not None
            and self._db.get("downstream", row) is None
        )

    def _taken(self, row_key: bytes) -> bool:
        """Whether a row of the history belongs to a commit that says so too."""
        commit_id = self._db.get("history", row_key)
        owner = None if commit_id is None else self._commit(commit_id)
        return owner is not None and _history_key(owner) == row_key

    def _lost_repo(self, name: str, found: list[Commit]) -> Iterator[Problem]:
        def is_wrong() -> bool:
            return self._db.get("repos", name.encode()) is None and any(
                self._commit(bytes.fromhex(commit.id)) is not None for commit in found
            )

        def repair(batch: Batch) -> None:
            provenance = {ref.repo for commit in found for ref in commit.provenance}
            ancestors = tuple(sorted(other for other in provenance if self._repo(other.encode()) is not None))
            created = min(commit.started for commit in found)
            batch.put("repos", name.encode(), records.dump(Repo(name, created, "", ancestors, ancestors)))

        yield from self._confirm(
            f"repo {name} is missing and {len(found)} commits are in it",
            [f"{commit.repo}/{commit.id}" for commit in found],
            is_wrong,
            repair,
        )

    # --- rows that follow from commits

    def _history(self) -> Iterator[Problem]:
        for key, commit_id in self._db.scan("history", b""):
            repo = key.partition(b"\0")[0].decode(errors="replace")
            what = f"the list of commits of repo {repo} names {commit_id.hex()}, which is missing"
            yield from self._pointer("history", key, commit_id, what, f"{repo}/{commit_id.hex()}")

    def _branches(self) -> Iterator[Problem]:
        for key, commit_id in self._db.scan("branches", b""):
            repo, _, branch = key.decode(errors="replace").partition("\0")
            what = f"branch {branch} of repo {repo} points at commit {commit_id.hex()}, which is missing"
            yield from self._pointer("branches", key, commit_id, what, f"{repo}/{commit_id.hex()}")

    def _pointer(self, family: str, key: bytes, commit_id: bytes, what: str, place: str) -> Iterator[Problem]:
        """A row that names a commit: a problem when the commit's row is gone, not when it can't be read."""
        if self._db.get("commits", commit_id) is None:
            yield from self._confirm(
                what,
                [place],
                lambda: self._db.get(family, key) == commit_id and self._db.get("commits", commit_id) is None,
                lambda batch: batch.delete(family, key),
            )

    def _downstream(self) -> Iterator[Problem]:
        for key, _ in self._db.scan("downstream", b""):
            if self._is_stale(key):
                yield from self._stale(key)

    def _stale(self, key: bytes) -> Iterator[Problem]:
        source, target = key[:ID_BYTES].hex(), key[ID_BYTES:].hex()
        yield from self._confirm(
            f"commit {target} is kept among those that come from {source}, which it does not",
            [f"commit {target}"],
            lambda: self._db.get("downstream", key) is not None and self._is_stale(key),
            lambda batch: batch.delete("downstream", key),
        )

    def _is_stale(self, key: bytes) -> bool:
        target_data = self._db.get("commits", key[ID_BYTES:])
        target = self._commit(key[ID_BYTES:])
        if target is None:
            return target_data is None
        return all(bytes.fromhex(ref.id) != key[:ID_BYTES] for ref in target.provenance)

    def _staging(self) -> Iterator[Problem]:
        """Areas of finished commits; other areas without a commit are trees under construction."""
        start = b""
        while (pair := next(self._db.scan("staging", b"", start), None)) is not None:
            area = pair[0][:ID_BYTES]
            commit = self._commit(area)
            if commit is not None and not commit.is_open:
                yield from self._leftover(area, f"{commit.repo}/{commit.id}")
            start = area + b"\xff"  # above every key of the area: a path's first byte is never 0xff in UTF-8

    def _staged_rows(self) -> Iterator[Problem]:
        """Rows of paths whose attributes or entry can't be read, so that what they are staged for can't be folded."""
        for key, value in self._db.scan("staging", b""):
            commit = self._commit(key[:ID_BYTES])
            if not key.endswith(b"\0\0") or commit is None or not commit.is_open or is_sound(value):
                continue
            path = key[ID_BYTES:-2].decode(errors="replace").replace("\0", "/")
            yield from self._confirm(
                f"what is staged at /{path} for commit {commit.repo}/{commit.id} can't be read",
                [f"{commit.repo}/{commit.id}:/{path}"],
                functools.partial(self._is_unsound, key),
            )

    def _is_unsound(self, key: bytes) -> bool:
        value = self._db.get("staging", key)
        return value is not None and not is_sound(value)

    def _leftover(self, area: bytes, place: str) -> Iterator[Problem]:
        yield from self._confirm(
            f"writes are staged for commit {place}, which is finished",
            [place],
            lambda: next(self._db.scan("staging", area), None) is not None,
            lambda batch: batch.delete_prefix("staging", area),
        )

    # --- objects and tags

    def names(self) -> Iterator[Problem]:
        """Objects whose entry is wrong, and tags that name nothing."""
        for name, row in self._db.scan("objects", b""):
            if row:
                entry = _entry(row)
                if not isinstance(entry, FileEntry) or entries.content_hash(entry) != name:
                    yield problem(f"the entry of object {name.hex()} is damaged", [f"object {name.hex()}"])
        for tag, name in self._db.scan("tags", b""):
            if self._db.get("objects", name) is None and not is_located(self._root, name):
                yield from self._lost_object(tag, name)

    def _lost_object(self, tag: bytes, name: bytes) -> Iterator[Problem]:
        text = tag.decode(errors="replace")
        yield from self._confirm(
            f"tag {text} names object {name.hex()}, which is missing",
            [f"tag {text}"],
            lambda: self._db.get("tags", tag) == name and not is_located(self._root, name),
        )

    # --- what follows from trees

    def sizes(self) -> Iterator[Problem]:
        """Sizes and tree objects of finished commits, and the sizes of repos."""
        sums: dict[str, dict[str, int]] = {}
        unknown: set[str] = set()
        for commit in self.commits():
            if not commit.is_open:
                try:
                    yield from self._commit_size(commit)
                    sums.setdefault(commit.repo, {})[commit.id] = self._added_by(commit)
                except CorruptError:  # what its tree lacks is reported by the walk over the trees
                    unknown.add(commit.repo)
        for _, data in self._db.scan("repos", b""):
            try:
                repo = records.load_repo(data)
                if repo.name not in unknown:
                    yield from self._repo_size(repo.name, sums.get(repo.name, {}))
            except CorruptError:
                continue

    def _commit_size(self, commit: Commit) -> Iterator[Problem]:
        root = bytes.fromhex(commit.root)
        place = f"{commit.repo}/{commit.id}"
        key = bytes.fromhex(commit.id)
        size = entries.dir_entry(self._root.nodes, root).size
        object_hash = _tree_object(root)
        if commit.size != size:
            right = dataclasses.replace(commit, size=size)
            yield from self._confirm(
                f"commit {place} is kept as {commit.size} bytes and its files are {size}",
                [place],
                lambda: self._commit(key) == commit,
                lambda batch: batch.put("commits", key, records.dump(right)),
            )
            commit = right if self._fix else commit
        if commit.tree != object_hash.hex():

            def repair(batch: Batch) -> None:
                treeobjects.put(self._root.chunks, root)
                self._root.chunks.flush()
                batch.put("commits", key, records.dump(dataclasses.replace(commit, tree=object_hash.hex())))

            yield from self._confirm(
                f"commit {place} has the tree object of another tree",
                [place],
                lambda: self._commit(key) == commit,
                repair,
            )

    def _repo_size(self, name: str, sums: dict[str, int]) -> Iterator[Problem]:
        total = sum(sums.values())
        repo = self._repo(name.encode())
        if repo is None or repo.size == total:
            return

        def is_wrong() -> bool:
            nonlocal total
            total = 0
            for _, commit_id in self._db.scan("history", name.encode() + b"\0"):
                commit = self._commit(commit_id)
                if commit is not None and not commit.is_open:
                    total += sums[commit.id] if commit.id in sums else self._added_by(commit)
            present = self._repo(name.encode())
            return present is not None and present.size != total

        def repair(batch: Batch) -> None:
            present = self._repo(name.encode())
            if present is not None:
                batch.put("repos", name.encode(), records.dump(dataclasses.replace(present, size=total)))

        yield from self._confirm(
            f"repo {name} is kept as {repo.size} bytes and its commits add up to {total}", [name], is_wrong, repair
        )

    def _added_by(self, commit: Commit) -> int:
        parent = self._commit(bytes.fromhex(commit.parent)) if commit.parent else None
        if commit.parent and parent is None:
            raise CorruptError(f"commit {commit.parent} is missing")
        before = tree.EMPTY if parent is None else bytes.fromhex(parent.root)
        return dirs.added_bytes(self._root.nodes, before, bytes.fromhex(commit.root))


def _put(family: str, key: bytes, value: bytes, batch: Batch) -> None:
    batch.put(family, key, value)


def _are_sound(hexadecimal: str) -> bool:
    """Whether these are attributes of a directory, in hex."""
    try:
        data = bytes.fromhex(hexadecimal)
        return attributes.checked(data, attributes.DIRECTORY_MODE, "/") == data
    except (ValueError, InvalidError):
        return False


def _history_key(commit: Commit) -> bytes:
    return commit.repo.encode() + b"\0" + commit.sequence.to_bytes(8, "big")


def _tree_object(root: bytes) -> bytes:
    """The hash of the tree object of a root."""
    name: bytes = blake3(b"pfsd tree 1\n" + root.hex().encode() + b"\n").digest()
    return name


def _entry(row: bytes) -> entries.Entry | None:
    try:
        return entries.decode(row)
    except CorruptError:
        return None
