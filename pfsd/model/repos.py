"""Repos and their provenance."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from pfsd.errors import AlreadyExistsError, InvalidError, NotFoundError, StateError
from pfsd.local.kv import Batch
from pfsd.model import derivations, records
from pfsd.model.areas import Areas
from pfsd.model.records import Repo
from pfsd.model.root import Root
from pfsd.names import paths

SET_AT = b"set "
"""What the keys of the rows in `meta` begin with that say when a branch was set; its own key follows."""


class Repos:
    """The repos of a root."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._db = root.db
        self.areas = Areas()
        """Where the open commits of all repos are written to."""

    def create(self, name: str, provenance: Sequence[str] = (), description: str = "", *, update: bool = False) -> None:
        """Make a repo; with `update`, replace the description and provenance of one that exists.

        Raises InvalidError for a bad name, AlreadyExistsError, NotFoundError for a provenance that is not there.
        """
        paths.check_repo_name(name)
        parents = tuple(sorted(set(provenance)))
        with self._root.lock:
            old = self.find(name)
            if old is not None and not update:
                raise AlreadyExistsError(f"repo {name} already exists")
            if old is None and update:
                raise NotFoundError(f"repo {name} not found: it can't be updated")
            ancestors = self._close(parents)
            if name in ancestors:
                raise InvalidError(f"repo {name} can't have itself in its provenance")
            base = old or Repo(name, time.time_ns())
            changed = {name: dataclasses.replace(base, description=description, parents=parents, ancestors=ancestors)}
            if old is not None:
                self._renew_descendants(changed)
            batch = self._db.batch()
            if old is None:
                self._forget_maker(batch, name)
            for repo in changed.values():
                batch.put("repos", repo.name.encode(), records.dump(repo))
            self._db.write(batch, sync=True)
        self._root.changes.announce(name, moved=True)

    def find(self, name: str) -> Repo | None:
        """The repo, or None."""
        data = self._db.get("repos", name.encode())
        return None if data is None else records.load_repo(data)

    def get(self, name: str) -> Repo:
        """The repo; raises NotFoundError."""
        repo = self.find(name)
        if repo is None:
            raise NotFoundError(f"repo {name} not found" if name else "a repo has to be named")
        return repo

    def list(self, ancestors: Sequence[str] = ()) -> list[Repo]:
        """All repos that have every one of `ancestors` in their provenance, newest first."""
        for name in ancestors:
            self.get(name)
        found = [records.load_repo(data) for _, data in self._db.scan("repos", b"")]
        chosen = [repo for repo in found if set(ancestors) <= set(repo.ancestors)]
        return sorted(chosen, key=lambda repo: repo.created, reverse=True)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a repo with all its commits.

        Raises StateError when somebody computes or reads it, or others come from it, unless `force`.
        """
        with self._root.lock:
            self.get(name)
            makers = derivations.users(self._db, name)
            if makers and not force:
                raise StateError(
                    f"repo {name} is {' and '.join(makers)}: delete that first, or the repo with force (--force), "
                    "which leaves it standing still"
                )
            users = [repo.name for repo in self.list() if name in repo.ancestors]
            if users and not force:
                raise StateError(
                    f"repo {name} is the provenance of {', '.join(sorted(users))}: delete those first, or use --force"
                )
            self._delete(name)
        self._root.changes.announce(name, moved=True)

    def delete_all(self, *, force: bool = False) -> None:
        """Remove every repo; raises StateError when somebody computes one, unless `force`."""
        with self._root.lock:
            makers = sorted({one.by for one in derivations.every(self._db).values() if one.by})
            if makers and not force:
                raise StateError(
                    f"{' and '.join(makers)} would stand still: delete that first, delete everything (delete-all), "
                    "or the repos with force (--force)"
                )
            names = [repo.name for repo in self.list()]
            for name in names:
                self._delete(name)
        self._root.changes.announce(*names, moved=True)

    def _delete(self, name: str) -> None:
        batch = self._db.batch()
        prefix = name.encode() + b"\0"
        ids = [commit_id for _, commit_id in self._db.scan("history", prefix)]
        self.areas.close(commit_id.hex() for commit_id in ids)  # a put that goes on stages nothing any more
        for commit_id in ids:
            data = self._db.get("commits", commit_id)
            if data is not None:
                for source in records.load_commit(data).provenance:
                    batch.delete("downstream", bytes.fromhex(source.id) + commit_id)
            batch.delete("commits", commit_id)
            batch.delete_prefix("downstream", commit_id)
            batch.delete_prefix("staging", commit_id)
        batch.delete_prefix("history", prefix)
        batch.delete_prefix("branches", prefix)
        for key, _ in self._db.scan("meta", SET_AT + prefix):
            batch.delete("meta", key)
        batch.delete("repos", name.encode())
        self._forget_maker(batch, name)
        self._db.write(batch, sync=True)
        if self.areas.close(commit_id.hex() for commit_id in ids):  # made before the records were gone
            batch = self._db.batch()
            for commit_id in ids:
                batch.delete_prefix("staging", commit_id)
            self._db.write(batch)

    def _forget_maker(self, batch: Batch, name: str) -> None:
        """Drop what is said of how a repo of this name came about, where its maker has left."""
        key = derivations.key(name).encode()
        kept = self._db.get("records", key)
        if kept is not None and not derivations.load(kept).by:
            batch.delete("records", key)

    def _close(self, parents: Sequence[str]) -> tuple[str, ...]:
        """The parents with all their ancestors."""
        ancestors = set(parents)
        for parent in parents:
            ancestors.update(self.get(parent).ancestors)
        return tuple(sorted(ancestors))

    def _renew_descendants(self, changed: dict[str, Repo]) -> None:
        """Add to `changed` every repo whose ancestors follow from those in it."""
        repos = {repo.name: repo for repo in self.list()} | changed
        (top,) = changed
        below = [repo for repo in repos.values() if top in repo.ancestors]
        for repo in sorted(below, key=lambda repo: len(repo.ancestors)):  # an ancestor has fewer than its heirs
            ancestors = set(repo.parents)
            for parent in repo.parents:
                if parent in repos:
                    ancestors.update(repos[parent].ancestors)
            repos[repo.name] = changed[repo.name] = dataclasses.replace(repo, ancestors=tuple(sorted(ancestors)))
