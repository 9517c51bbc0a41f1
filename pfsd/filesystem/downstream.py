"""What comes of given commits: the commits that have all of them in their provenance, and whether more are to come.

In a repo that somebody computes (`pfsd.model.derivations`), a commit is to come while a given one lies on a branch that
is read, and was not taken yet. It stays to come while another branch that is read has no commit, or while the pipeline
is stopped. In any other repo one commit is to come, if the given commits' repos are in the repo's provenance and it has
none yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pfsd.errors import StateError
from pfsd.filesystem.store import Store
from pfsd.model import derivations
from pfsd.model.derivations import Derivation, Source
from pfsd.model.records import Commit


def look(store: Store, commits: Sequence[Commit], to_repos: Sequence[str]) -> tuple[list[Commit], bool]:
    """The finished commits downstream of all `commits`, those of the newest repo first, and whether none is to come.

    With `to_repos`, those in these repos alone. Raises StateError where one that leads to them will not finish, and
    why; NotFoundError where one of `commits` is gone.
    """
    return _Look(store, commits, to_repos).answer()


class _Look:
    """One look at the store, which goes on changing meanwhile."""

    def __init__(self, store: Store, commits: Sequence[Commit], to_repos: Sequence[str]) -> None:
        self._store = store
        self._commits = [store.commits.resolve(commit.repo, commit.id) for commit in commits]
        # Before the commits: whatever is said there to be taken has its commits started.
        self._derived = derivations.every(store.root.db)
        self._repos = {repo.name: repo for repo in store.repos.list()}
        self._to = frozenset(to_repos)
        self._below = {commit.id: self._by_repo(commit) for commit in self._commits}
        refs = {commit.ref for commit in self._commits}
        found = self._below[self._commits[0].id].values()
        self._found = [one for some in found for one in some if refs <= set(one.provenance)]
        self._made = {one.repo for one in self._found}
        self._known: dict[tuple[str, str], bool] = {}

    def _by_repo(self, commit: Commit) -> dict[str, list[Commit]]:
        found = defaultdict(list)
        for one in self._store.commits.history.downstream(commit.ref):
            found[one.repo].append(one)
        return found

    def answer(self) -> tuple[list[Commit], bool]:
        leading = self._leading()
        for commit in (*self._commits, *(one for one in self._found if one.repo in leading)):
            if commit.failure and commit.is_open:
                raise StateError(f"commit {commit.repo}/{commit.id} will not finish: {commit.failure}")
        for name in leading:
            self._check_stands(name)
        wanted = [one for one in self._found if not self._to or one.repo in self._to]
        order = {name: place for place, name in enumerate(self._repos)}
        ready = sorted(
            (one for one in wanted if not one.is_open),
            key=lambda one: (order.get(one.repo, len(order)), one.sequence),
        )
        is_done = not any(one.is_open for one in wanted) and not any(map(self._awaited, self._to or leading))
        return ready, is_done

    def _leading(self) -> dict[str, None]:
        """The repos that lead to those that are asked for, themselves included: without such, all.

        Each comes after those that it is computed from: so none goes far to ask what is to come there.
        """
        found: dict[str, None] = {}
        waiting = list(self._to or {*self._repos, *self._derived})
        entered: set[str] = set()
        while waiting:
            name = waiting[-1]
            if name in entered:
                found[waiting.pop()] = None
            else:
                entered.add(name)
                repo, derived = self._repos.get(name), self._derived.get(name, Derivation())
                above = {*(repo.parents if repo is not None else ()), *(source.repo for source in derived.sources)}
                waiting += above - entered
        return found

    # --- what is to come ---------------------------------------------------------------------------------

    def _awaited(self, name: str) -> bool:
        """Whether a commit with all the given ones in its provenance is to come in a repo."""
        coming = [self._coming(name, commit) for commit in self._commits]
        if name not in self._derived:
            return all(coming)
        return any(coming) and all(
            is_coming or self._is_last(name, commit) for is_coming, commit in zip(coming, self._commits, strict=True)
        )

    def _coming(self, name: str, commit: Commit) -> bool:
        """Whether a commit is to come in a repo that has another one in its provenance."""
        at = (name, commit.id)
        if at not in self._known:
            self._known[at] = False  # should the derivations go round in circles
            derived = self._derived.get(name)
            if derived is None:
                repo = self._repos.get(name)
                above = repo.ancestors if repo is not None else ()
                self._known[at] = commit.repo in above and name not in self._made
            else:
                self._known[at] = any(self._comes_through(name, source, commit) for source in derived.sources)
        return self._known[at]

    def _comes_through(self, name: str, source: Source, commit: Commit) -> bool:
        there = [commit] if source.repo == commit.repo else self._below[commit.id][source.repo]
        if any(self._untaken(name, source, one, commit) for one in there):
            return True
        if source.repo == commit.repo or not self._coming(source.repo, commit):
            return False
        above = self._derived.get(source.repo)
        return above is None or above.branch == source.branch

    def _untaken(self, name: str, source: Source, one: Commit, commit: Commit) -> bool:
        """Whether a repo's maker has still to take a commit of a source, which is `commit` or comes of it."""
        if one.failure and one.is_open:
            return False
        if any(one.ref in made.provenance for made in self._below[commit.id][name]):
            return False
        within = self._store.commits.history.within
        return within(one, source.branch) and not (source.seen and within(one, source.seen))

    def _is_last(self, name: str, commit: Commit) -> bool:
        """Whether what a repo's maker took last is a commit, or comes of it: then what it makes next may too."""
        derived = self._derived.get(name, Derivation())
        last = {source.seen for source in derived.sources}
        return commit.id in last or any(one.id in last for some in self._below[commit.id].values() for one in some)

    # --- what will never come ----------------------------------------------------------------------------

    def _check_stands(self, name: str) -> None:
        """Raise StateError where what is to come in a repo can't, for want of the repo or of one that is read."""
        is_awaited = self._awaited(name)
        derived = self._derived.get(name)
        if derived is None or not derived.by:
            return
        if name not in self._repos and all(self._flows(name, commit) for commit in self._commits):
            raise StateError(f"{derived.by} stands still: its output repo {name} was deleted")
        for source in derived.sources:
            if is_awaited and source.repo not in self._repos:
                raise StateError(f"{derived.by} stands still: its input repo {source.repo} was deleted")

    def _flows(self, name: str, commit: Commit) -> bool:
        """Whether a repo is computed from the branch on which a commit lies, directly or not."""
        passed, waiting = {name}, [name]
        while waiting:
            for source in self._derived.get(waiting.pop(), Derivation()).sources:
                if source.repo == commit.repo and self._store.commits.history.within(commit, source.branch):
                    return True
                if source.repo not in passed:
                    passed.add(source.repo)
                    waiting.append(source.repo)
        return False
