"""Calls that wait for commits: flushing and subscribing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from pfsd import paths
from pfsd.errors import InvalidError, NotFoundError, StateError
from pfsd.records import Commit
from pfsd.services.threads import LOOKUP, WALK, in_thread
from pfsd.store import Store


async def flush(store: Store, commits: Sequence[Commit], to_repos: Sequence[str]) -> AsyncIterator[Commit]:
    """The finished commits downstream of all the given ones, each as it finishes, until none is to come.

    One is to come in every repo (of `to_repos`, where given) that has all their repos in its provenance, and wherever
    one is open. Raises StateError when one of them has failed.
    """
    if not commits:
        raise InvalidError("FlushCommit needs at least one commit")
    await in_thread(LOOKUP, lambda: [store.repos.get(name) for name in to_repos])
    subscription = store.root.changes.subscribe(commits[0].repo, below=True)
    sent: set[str] = set()
    try:
        while True:
            ready, done = await in_thread(WALK, _downstream, store, commits, frozenset(to_repos))
            for commit in ready:
                if commit.id not in sent:
                    sent.add(commit.id)
                    yield commit
            if done:
                return
            await subscription.next()
    finally:
        store.root.changes.unsubscribe(subscription)


def _downstream(store: Store, commits: Sequence[Commit], to_repos: frozenset[str]) -> tuple[list[Commit], bool]:
    """The finished commits downstream, those of the newest repo first, and whether no other is to come."""
    for commit in commits:
        store.commits.resolve(commit.repo, commit.id)
    expected = [repo.name for repo in store.repos.list([commit.repo for commit in commits])]
    order = {name: place for place, name in enumerate(expected)}
    refs = {commit.ref for commit in commits[1:]}
    found = [commit for commit in store.commits.downstream(commits[0].ref) if refs <= set(commit.provenance)]
    for commit in found:
        if commit.failure and commit.is_open:
            raise StateError(f"commit {commit.repo}/{commit.id} will not finish: {commit.failure}")
    wanted = [commit for commit in found if not to_repos or commit.repo in to_repos]
    ready = sorted(
        (commit for commit in wanted if not commit.is_open),
        key=lambda commit: (order.get(commit.repo, len(order)), commit.sequence),
    )
    repos = {commit.repo for commit in ready}
    missing = [name for name in expected if (not to_repos or name in to_repos) and name not in repos]
    return ready, not missing and not any(commit.is_open for commit in wanted)


async def subscribe(store: Store, repo: str, branch: str, after: str) -> AsyncIterator[Commit]:
    """The finished commits of a branch, oldest first, those after `after`, then new ones for ever.

    Raises NotFoundError for the repo, also when it is deleted meanwhile, and for `after`.
    """
    paths.check_branch_name(branch)
    last = await in_thread(LOOKUP, _begin_after, store, repo, after)
    sent: set[str] = {last} if last else set()
    subscription = store.root.changes.subscribe(repo)
    try:
        while True:
            for commit in await in_thread(WALK, _unseen, store, repo, branch, sent):
                sent.add(commit.id)
                yield commit
            await subscription.next()
    finally:
        store.root.changes.unsubscribe(subscription)


def _begin_after(store: Store, repo: str, after: str) -> str | None:
    store.repos.get(repo)
    return store.commits.resolve(repo, after).id if after else None


def _unseen(store: Store, repo: str, branch: str, seen: set[str]) -> list[Commit]:
    """The finished commits of a branch after the last one seen, oldest first."""
    store.repos.get(repo)
    try:
        chain = store.commits.list(repo, end=branch)
        unseen = []
        for commit in chain:
            if commit.id in seen:
                break
            unseen.append(commit)
    except NotFoundError:  # the branch is not there yet
        return []
    return [commit for commit in reversed(unseen) if not commit.is_open]
