"""`HoldCommit` of `pfsd.Store`: a commit that goes with the call that started it, unless it is finished before."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

from pachproto import pfs_pb2
from pfsd.calls import convert
from pfsd.calls.attaching import caller_of, recalled
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.runtime.threads import CHANGE, in_thread

log = logging.getLogger(__name__)


async def hold(store: Store, request: pfs_pb2.StartCommitRequest, context: Any) -> AsyncIterator[pfs_pb2.Commit]:
    """Start a commit and name it, then wait for the end of the call, at which it is given up if it is still open."""
    with caller_of(context) as caller:
        starting = asyncio.ensure_future(
            in_thread(
                CHANGE,
                store.commits.start,
                request.parent.repo.name,
                parent=request.parent.id,
                branch=request.branch,
                provenance=[convert.commit_ref(message) for message in request.provenance],
                held=True,
            )
        )
    try:
        # Shielded: a call that ends just now must not leave a commit that nobody knows of.
        commit = await asyncio.shield(starting)
        await recalled(caller)
        yield convert.commit_name(commit.repo, commit.id)
        await asyncio.Event().wait()
    finally:
        starting.add_done_callback(lambda done: _given_up(store, done))


def _given_up(store: Store, starting: asyncio.Future[Commit]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        commit = starting.result()
        # Not in a pool: its threads may all wait for the writers of such commits, whose calls end as this one does.
        threading.Thread(target=_give_up, args=(store, commit), name="give-up", daemon=True).start()


def _give_up(store: Store, commit: Commit) -> None:
    try:
        store.commits.give_up(commit.repo, commit.id)
    except Exception as error:  # noqa: BLE001 (nobody is left to be told)
        log.warning("commit %s/%s is deleted at the next start: %s", commit.repo, commit.id, error)
