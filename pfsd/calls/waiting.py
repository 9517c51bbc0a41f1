"""Calls that wait for commits: flushing and subscribing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from pfsd.errors import InvalidError, NotFoundError
from pfsd.filesystem import downstream
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.names import paths
from pfsd.runtime.threads import LOOKUP, WALK, in_thread


async def flush(store: Store, commits: Sequence[Commit], to_repos: Sequence[str]) -> AsyncIterator[Commit]:
    """The finished commits downstream of all the given ones, each as it finishes, until none is to come.

    With `to_repos`, those of these repos, and what leads to them. `pfsd.filesystem.downstream` says what is to come.
    Raises StateError when one of those that are waited for will never finish.
    """
    if not commits:
        raise InvalidError("FlushCommit needs at least one commit")
    await in_thread(LOOKUP, lambda: [store.repos.get(name) for name in to_repos])
    subscription = store.root.changes.subscribe(commits[0].repo, below=True)
    sent: set[str] = set()
    try:
        while True:
            ready, done = await in_thread(WALK, downstream.look, store, commits, to_repos)
            for commit in ready:
                if commit.id not in sent:
                    sent.add(commit.id)
                    yield commit
            if done:
                return
            await subscription.next()
    finally:
        store.root.changes.unsubscribe(subscription)


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
        chain = store.commits.history.list(repo, end=branch)
        unseen = []
        for commit in chain:
            if commit.id in seen:
                break
            unseen.append(commit)
    except NotFoundError:  # the branch is not there yet
        return []
    return [commit for commit in reversed(unseen) if not commit.is_open]
