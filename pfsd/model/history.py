"""Looking commits up: by id, branch or ancestor's name, in the order of a repo's history, and by provenance."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from pfsd.errors import NotFoundError
from pfsd.local.kv import Database
from pfsd.model import records
from pfsd.model.records import Commit, CommitRef
from pfsd.model.repos import Repos
from pfsd.names import paths
from pfsd.names.ancestry import check_length, parse_ancestor, shortened


class History:
    """The commits of a root, to be read. Takes no lock."""

    def __init__(self, database: Database, repos: Repos) -> None:
        self._db = database
        self._repos = repos

    def resolve(self, repo: str, name: str) -> Commit:
        """The commit called `name` in a repo: an id or a branch, with `^` or `~N` behind it for its ancestors.

        Raises NotFoundError, InvalidError for a name that is too long.
        """
        self._repos.get(repo)
        commit = self.find(repo, check_length(name))
        if commit is None and (ancestor := parse_ancestor(name)):
            commit = self._back(self.find(repo, ancestor.base), ancestor.steps)
        if commit is None:
            what = f"commit or branch {shortened(name)}" if name else "a commit without an id"
            raise NotFoundError(f"{what} not found in repo {repo}")
        return commit

    def _back(self, commit: Commit | None, steps: int) -> Commit | None:
        """The commit so many steps before another; None where its history is shorter."""
        if commit is None or not steps:
            return commit
        found = commit.parent
        while found is not None and steps > 1:
            data = self._db.get("commits", bytes.fromhex(found))
            found = None if data is None else records.parent_of(data)
            steps -= 1
        return None if found is None else self.load(found)

    def pinned(self, repo: str, name: str) -> str:
        """A name that is found by looking it up: in place of an ancestor's name its id.

        Walking back may take long, so whoever needs a commit under the root's lock does this before. Raises what
        `resolve` raises.
        """
        return name if parse_ancestor(name) is None else self.resolve(repo, name).id

    def all_pinned(self, refs: Sequence[CommitRef]) -> Sequence[CommitRef]:
        """The same for the names of commits in several repos."""
        return [CommitRef(ref.repo, self.pinned(ref.repo, ref.id)) for ref in refs]

    def find(self, repo: str, name: str) -> Commit | None:
        """The commit that an id or a branch of a repo names, or None."""
        if paths.is_commit_id(name):
            commit = self.load(name)
            if commit is not None and commit.repo == repo:
                return commit
        head = self._db.get("branches", branch_key(repo, name))
        return None if head is None else self.load(head.hex())

    def load(self, commit_id: str) -> Commit | None:
        """The commit with an id, in whatever repo, or None."""
        data = self._db.get("commits", bytes.fromhex(commit_id))
        return None if data is None else records.load_commit(data)

    def list(self, repo: str, *, start: str | None = None, end: str | None = None, number: int = 0) -> Iterator[Commit]:
        """Commits, at most `number` where it is not 0.

        With `end`: that commit and its ancestors, else every commit of the repo, the one that was started or finished
        last first; `start` ends the walk and is left out. Raises NotFoundError.
        """
        stop = self.resolve(repo, start).id if start else None
        self._repos.get(repo)
        found: Iterable[Commit]
        if end is not None:
            found = self._ancestry(self.resolve(repo, end))
        elif number and stop is None:
            found = heapq.nlargest(number, self._every(repo), key=_changed)
        else:
            found = sorted(self._every(repo), key=_changed, reverse=True)
        for count, commit in enumerate(found):
            if commit.id == stop or (number and count == number):
                return
            yield commit

    def _every(self, repo: str) -> Iterator[Commit]:
        for _, commit_id in self._db.scan("history", repo.encode() + b"\0", reverse=True):
            commit = self.load(commit_id.hex())
            if commit is not None:
                yield commit

    def _ancestry(self, commit: Commit | None) -> Iterator[Commit]:
        while commit is not None:
            yield commit
            commit = self.load(commit.parent) if commit.parent else None

    def downstream(self, ref: CommitRef) -> Iterator[Commit]:
        """The commits that have this one in their provenance."""
        prefix = bytes.fromhex(ref.id)
        for key, _ in self._db.scan("downstream", prefix):
            commit = self.load(key[len(prefix) :].hex())
            if commit is not None:
                yield commit

    def within(self, commit: Commit, name: str) -> bool:
        """Whether a commit is the one that an id or a branch of its repo names, or an ancestor of that one."""
        above = self.find(commit.repo, name)
        while above is not None and above.sequence > commit.sequence:
            above = self.load(above.parent) if above.parent else None
        return above is not None and above.id == commit.id


def branch_key(repo: str, branch: str) -> bytes:
    """The key of a branch's row."""
    return repo.encode() + b"\0" + branch.encode()


def _changed(commit: Commit) -> tuple[int, int]:
    return commit.changed
