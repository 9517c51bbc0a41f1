"""Commits and branches: starting, finishing, deleting, what is written to an open one, and where branches point."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
import uuid
from collections.abc import Sequence

from pfsd.errors import NotFoundError, StateError
from pfsd.local.kv import Batch
from pfsd.model import records, treeobjects
from pfsd.model.history import History, branch_key
from pfsd.model.records import Commit, CommitRef, Snapshot
from pfsd.model.repos import SET_AT, Repos
from pfsd.model.root import Root
from pfsd.model.staging import Staging
from pfsd.names import paths
from pfsd.runtime.references import as_operation
from pfsd.trees import dirs, entries, tree
from pfsd.trees.entries import DirEntry

_HELD = b"held "
"""What the keys of the rows of held commits begin with."""

log = logging.getLogger(__name__)


class Commits:
    """The commits and branches of a root."""

    def __init__(self, root: Root, repos: Repos) -> None:
        self._root = root
        self._db = root.db
        self._repos = repos
        self.history = History(self._db, repos)
        self._sequence = int.from_bytes(self._db.get("meta", b"sequence") or b"", "big")
        self._sweep()

    def resolve(self, repo: str, name: str) -> Commit:
        """What `History.resolve` gives."""
        return self.history.resolve(repo, name)

    # --- starting and finishing

    def start(
        self,
        repo: str,
        *,
        parent: str = "",
        branch: str = "",
        provenance: Sequence[CommitRef] = (),
        held: bool = False,
    ) -> Commit:
        """Start a commit. Its parent is `parent` (an id or branch) or else the branch's head, where there is one.

        With a branch, the branch then points at the new commit. A commit that is `held` belongs to somebody who
        finishes or deletes it, or else gives it up with `give_up`; the next start does that for him. Raises
        NotFoundError, and StateError when the parent is not finished.
        """
        parent = self.history.pinned(repo, parent)
        provenance = self.history.all_pinned(provenance)
        with self._root.lock:
            commit = self._new(repo, parent, branch, provenance)
            batch = self._db.batch()
            self._insert(batch, commit, branch)
            if held:
                batch.put("meta", _held_key(commit.id), b"")
            self._db.write(batch)
        self._root.changes.announce(repo)
        return commit

    @as_operation
    def build(
        self, repo: str, root: bytes, *, parent: str = "", branch: str = "", provenance: Sequence[CommitRef] = ()
    ) -> Commit:
        """Make a finished commit whose tree is `root`, as one step; else like `start`."""
        parent = self.history.pinned(repo, parent)
        provenance = self.history.all_pinned(provenance)
        while True:
            with self._root.lock:
                commit = self._new(repo, parent, branch, provenance)
            finished, added = self._seal(commit, root)
            with self._root.lock:
                head = self.history.find(repo, branch) if branch and not parent else None
                if head is not None and head.id != commit.parent:
                    continue  # the branch moved meanwhile
                batch = self._db.batch()
                self._grow(batch, repo, added)
                self._insert(batch, finished, branch)
                self._db.write(batch, sync=True)
            self._root.changes.announce(repo)
            return finished

    @as_operation
    def finish(self, repo: str, name: str) -> Commit:
        """Make an open commit immutable and durable; raises StateError when it is finished already."""
        commit = self.resolve(repo, name)
        self._still_open(commit, f"commit {commit.repo}/{commit.id} has already been finished")
        staging = self.staging(commit)
        with staging.lock:
            commit = self._still_open(commit, f"commit {commit.repo}/{commit.id} has already been finished")
            root = bytes.fromhex(commit.root) if staging.is_clean else staging.fold()
            finished, added = self._seal(commit, root)
            with self._root.lock:
                self._still_open(commit, f"commit {commit.repo}/{commit.id} has already been finished")
                batch = self._db.batch()
                staging.discard(batch)
                self._grow(batch, commit.repo, added)
                batch.put("commits", bytes.fromhex(commit.id), records.dump(finished))
                self._let_go(batch, commit.id)
                self._db.write(batch, sync=True)
            self._repos.areas.forget(commit.id)
        self._root.changes.announce(commit.repo)
        return finished

    def _new(self, repo: str, parent: str, branch: str, provenance: Sequence[CommitRef]) -> Commit:
        """The record of a commit that is about to start. The caller holds the root's lock."""
        if branch:
            paths.check_branch_name(branch)
        self._repos.get(repo)
        above = self.resolve(repo, parent) if parent else self.history.find(repo, branch) if branch else None
        if above is not None and above.is_open:
            raise StateError(f"parent commit {above.id} has not been finished: finish or delete it first")
        closure: dict[CommitRef, None] = {}
        for ref in provenance:
            source = self.resolve(ref.repo, ref.id)
            closure |= dict.fromkeys((source.ref, *source.provenance))
        self._sequence += 1
        return Commit(
            repo=repo,
            id=uuid.uuid4().hex,
            sequence=self._sequence,
            started=time.time_ns(),
            parent=above.id if above else None,
            root=above.root if above else tree.EMPTY.hex(),
            attributes=above.attributes if above else "",
            provenance=tuple(sorted(closure, key=lambda ref: (ref.repo, ref.id))),
        )

    def _insert(self, batch: Batch, commit: Commit, branch: str) -> None:
        """Add a new commit, and let a branch, where one is named, point at it."""
        commit_id = bytes.fromhex(commit.id)
        batch.put("meta", b"sequence", commit.sequence.to_bytes(8, "big"))
        batch.put("commits", commit_id, records.dump(commit))
        batch.put("history", commit.repo.encode() + b"\0" + commit.sequence.to_bytes(8, "big"), commit_id)
        for ref in commit.provenance:
            batch.put("downstream", bytes.fromhex(ref.id) + commit_id, b"")
        if branch:
            self._point(batch, branch_key(commit.repo, branch), commit_id)

    def _seal(self, commit: Commit, root: bytes) -> tuple[Commit, int]:
        """The finished record of a commit with this tree, whose chunks are now durable, and the bytes it adds."""
        parent = self.history.load(commit.parent) if commit.parent else None
        added = dirs.added_bytes(self._root.nodes, tree.EMPTY if parent is None else bytes.fromhex(parent.root), root)
        tree_object = treeobjects.put(self._root.chunks, root)
        self._root.chunks.flush()
        size = entries.dir_entry(self._root.nodes, root).size
        finished = dataclasses.replace(
            commit, finished=time.time_ns(), root=root.hex(), size=size, tree=tree_object.hex(), failure=""
        )
        return finished, added

    def _grow(self, batch: Batch, repo: str, added: int) -> None:
        """Add to a repo's size."""
        owner = self._repos.get(repo)
        batch.put("repos", repo.encode(), records.dump(dataclasses.replace(owner, size=owner.size + added)))

    def delete(self, repo: str, name: str) -> None:
        """Drop an open commit; its branches go back to its parent, or go.

        Raises StateError when it is finished, or when other commits come from it.
        """
        commit = self.resolve(repo, name)
        refusal = f"commit {commit.repo}/{commit.id} is finished: a finished commit can't be deleted"
        self._still_open(commit, refusal)
        staging = self.staging(commit)
        with staging.lock, self._root.lock:
            self._still_open(commit, refusal)
            users = [f"{user.repo}/{user.id}" for user in self.history.downstream(commit.ref)]
            if users:
                raise StateError(f"commit {commit.repo}/{commit.id} is the provenance of {users[0]}: delete that first")
            commit_id = bytes.fromhex(commit.id)
            batch = self._db.batch()
            staging.discard(batch)
            self._let_go(batch, commit.id)
            batch.delete("commits", commit_id)
            batch.delete("history", commit.repo.encode() + b"\0" + commit.sequence.to_bytes(8, "big"))
            for ref in commit.provenance:
                batch.delete("downstream", bytes.fromhex(ref.id) + commit_id)
            for key, head in self._db.scan("branches", commit.repo.encode() + b"\0"):
                if head == commit_id and commit.parent:
                    self._point(batch, key, bytes.fromhex(commit.parent))
                elif head == commit_id:
                    self._drop_branch(batch, key)
            self._db.write(batch, sync=True)
            self._repos.areas.forget(commit.id)
        self._root.changes.announce(commit.repo)

    def give_up(self, repo: str, commit_id: str) -> None:
        """Delete a commit that is held and whose holder has gone; nothing where it is not held any more."""
        if self._db.get("meta", _held_key(commit_id)) is None:
            return
        try:
            self.delete(repo, commit_id)
            return
        except NotFoundError as error:  # it went with its repo
            log.info("nothing is left of commit %s: %s", commit_id, error)
        except StateError as error:  # other commits come from it
            log.warning("commit %s/%s was given up by its client, and stays open: %s", repo, commit_id, error)
        batch = self._db.batch()
        self._let_go(batch, commit_id)
        self._db.write(batch)

    def _let_go(self, batch: Batch, commit_id: str) -> None:
        """Let nobody hold a commit any more."""
        if self._db.get("meta", _held_key(commit_id)) is not None:
            batch.delete("meta", _held_key(commit_id))

    def fail(self, repo: str, name: str, reason: str) -> None:
        """Note that an open commit will never finish, and why; raises StateError when it is finished."""
        name = self.history.pinned(repo, name)
        with self._root.lock:
            commit = self.resolve(repo, name)
            self._still_open(commit, f"commit {commit.repo}/{commit.id} has already been finished")
            batch = self._db.batch()
            batch.put("commits", bytes.fromhex(commit.id), records.dump(dataclasses.replace(commit, failure=reason)))
            self._db.write(batch, sync=True)
        self._root.changes.announce(repo)

    def _still_open(self, commit: Commit, refusal: str) -> Commit:
        """The present record of a commit, which a caller saw before it took the lock."""
        present = self.history.load(commit.id)
        if present is None:
            raise NotFoundError(f"commit {commit.repo}/{commit.id} was deleted meanwhile")
        if not present.is_open:
            raise StateError(refusal)
        return present

    # --- content

    def staging(self, commit: Commit) -> Staging:
        """Where an open commit's writes are staged; raises NotFoundError when it was deleted."""
        return self._repos.areas.get(commit.id, functools.partial(self._new_staging, commit))

    def _new_staging(self, commit: Commit) -> Staging:
        root = self._root
        present = self.history.load(commit.id)
        if present is None:
            raise NotFoundError(f"commit {commit.repo}/{commit.id} was deleted meanwhile")
        return Staging(
            root.db,
            root.nodes,
            root.chunks,
            bytes.fromhex(commit.id),
            bytes.fromhex(present.root),
            functools.partial(root.sessions.changed, commit.repo, commit.id),
        )

    def open_staging(self, commit: Commit) -> Staging:
        """The staging area of a commit that is open now, to be used under its lock; raises StateError if finished."""
        self._still_open(
            commit, f"commit {commit.repo}/{commit.id} is finished: start a new commit to write, as put-file -c does"
        )
        return self.staging(commit)

    @as_operation
    def tree(self, commit: Commit) -> DirEntry:
        """The root directory of a commit as it is now. What is staged for an open one is folded in."""
        if not commit.is_open:
            return entries.dir_entry(self._root.nodes, bytes.fromhex(commit.root))
        staging = self.staging(commit)
        with staging.lock:
            present = self.history.load(commit.id)
            if present is None:
                raise NotFoundError(f"commit {commit.repo}/{commit.id} was deleted meanwhile")
            root = bytes.fromhex(present.root)
            if present.is_open and not staging.is_clean:
                root = staging.fold()
                self._set_tree(present, root)
            elif not present.is_open:
                self._repos.areas.forget(commit.id)  # it was made for one that was just being finished
        return entries.dir_entry(self._root.nodes, root)

    def snapshot(self, commit: Commit) -> Commit:
        """A commit that is to be read: an open one as it is now, with what is staged folded in."""
        return self._snapshot(commit, self.tree(commit).root.hex()) if commit.is_open else commit

    def snapshot_at_once(self, commit: Commit) -> Commit | None:
        """What `snapshot` gives; None where that would have to wait for another writer, or fold."""
        if not commit.is_open:
            return commit
        staging = self.staging(commit)
        if not staging.lock.acquire(blocking=False):
            return None
        try:
            if not staging.is_clean:
                return None
            present = self.history.load(commit.id)
            if present is None:
                raise NotFoundError(f"commit {commit.repo}/{commit.id} was deleted meanwhile")
            return self._snapshot(commit, present.root)
        finally:
            staging.lock.release()

    @staticmethod
    def _snapshot(commit: Commit, root: str) -> Snapshot:
        fields = {field.name: getattr(commit, field.name) for field in dataclasses.fields(commit)}
        return Snapshot(**{**fields, "root": root})

    def replace_tree(self, commit: Commit, root: bytes, attributes: bytes | None = None) -> None:
        """Let an open commit show another tree, and its root have other attributes where they are given.

        The caller holds the staging lock.
        """
        self._set_tree(commit, root, attributes)
        self._root.sessions.changed(commit.repo, commit.id)

    def set_attributes(self, commit: Commit, attributes: bytes) -> None:
        """Give an open commit's root directory other attributes. The caller holds the staging lock."""
        with self._root.lock:
            present = self._still_open(commit, f"commit {commit.repo}/{commit.id} is finished")
            batch = self._db.batch()
            changed = dataclasses.replace(present, attributes=attributes.hex())
            batch.put("commits", bytes.fromhex(commit.id), records.dump(changed))
            self._db.write(batch)
        self._root.sessions.changed(commit.repo, commit.id)

    def _set_tree(self, commit: Commit, root: bytes, attributes: bytes | None = None) -> None:
        """Let an open commit's tree be `root` and nothing be staged. The caller holds the staging lock."""
        staging = self.staging(commit)
        self._root.chunks.flush()
        with self._root.lock:
            present = self._still_open(commit, f"commit {commit.repo}/{commit.id} is finished")
            batch = self._db.batch()
            staging.discard(batch)
            changed = dataclasses.replace(present, root=root.hex())
            if attributes is not None:
                changed = dataclasses.replace(changed, attributes=attributes.hex())
            batch.put("commits", bytes.fromhex(commit.id), records.dump(changed))
            self._db.write(batch)
        staging.rebase(root)

    def _sweep(self) -> None:
        """Remove what a crash left staged for nothing: areas that are not an open commit's."""
        start = b""
        while (pair := next(self._db.scan("staging", b"", start), None)) is not None:
            area = pair[0][:16]
            commit = self.history.load(area.hex())
            if commit is None or not commit.is_open:
                batch = self._db.batch()
                batch.delete_prefix("staging", area)
                self._db.write(batch)
            start = area + b"\xff"  # above every key of the area: a path's first byte is never 0xff in UTF-8
        for key, _ in list(self._db.scan("meta", _HELD)):  # whoever held them was cut off
            commit_id = key[len(_HELD) :].hex()
            commit = self.history.load(commit_id)
            self.give_up("" if commit is None else commit.repo, commit_id)

    # --- branches

    def branches(self, repo: str) -> Sequence[tuple[str, str]]:
        """The branches of a repo, the one that was set last first, each with the id of its head.

        Raises NotFoundError.
        """
        self._repos.get(repo)
        prefix = repo.encode() + b"\0"
        set_at = {key[len(SET_AT) :]: at for key, at in self._db.scan("meta", SET_AT + prefix)}
        found = sorted(self._db.scan("branches", prefix), key=lambda row: set_at.get(row[0], b""), reverse=True)
        return [(key[len(prefix) :].decode(), head.hex()) for key, head in found]

    def _point(self, batch: Batch, key: bytes, commit_id: bytes) -> None:
        """Let the branch with this key point at a commit."""
        batch.put("branches", key, commit_id)
        batch.put("meta", SET_AT + key, time.time_ns().to_bytes(8, "big"))

    def _drop_branch(self, batch: Batch, key: bytes) -> None:
        batch.delete("branches", key)
        batch.delete("meta", SET_AT + key)

    def set_branch(self, repo: str, name: str, branch: str) -> None:
        """Let a branch point at a commit, given as an id or branch."""
        paths.check_branch_name(branch)
        name = self.history.pinned(repo, name)
        with self._root.lock:
            commit = self.resolve(repo, name)
            batch = self._db.batch()
            self._point(batch, branch_key(repo, branch), bytes.fromhex(commit.id))
            self._db.write(batch, sync=True)
        self._root.changes.announce(repo)

    def delete_branch(self, repo: str, branch: str) -> None:
        """Remove a branch and leave its commits; raises NotFoundError."""
        with self._root.lock:
            self._repos.get(repo)
            key = branch_key(repo, branch)
            if self._db.get("branches", key) is None:
                raise NotFoundError(f"branch {branch} not found in repo {repo}")
            batch = self._db.batch()
            self._drop_branch(batch, key)
            self._db.write(batch, sync=True)
        self._root.changes.announce(repo)


def _held_key(commit_id: str) -> bytes:
    return _HELD + bytes.fromhex(commit_id)
