"""The store: everything that a root holds, behind one object."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence

from pfsd import treeobjects
from pfsd.collect import Collector, Report
from pfsd.commits import Commits
from pfsd.errors import StateError
from pfsd.files import Files
from pfsd.keyvalue import KeyValues
from pfsd.objects import Objects, Tags, parse_hash
from pfsd.openstore import DEFAULTS, StorageOptions
from pfsd.records import Commit, CommitRef
from pfsd.repos import Repos
from pfsd.root import Root
from pfsd.trees import Trees


class Store:
    """An open store. Plain synchronous code, safe to use from many threads."""

    def __init__(self, directory: pathlib.Path, options: StorageOptions = DEFAULTS) -> None:
        """Open or create the root in a directory; raises what `pfsd.root.Root` raises."""
        self.root = Root(directory, options)
        self.repos = Repos(self.root)
        self.commits = Commits(self.root, self.repos)
        self.files = Files(self.root, self.commits)
        self.objects = Objects(self.root)
        self.tags = Tags(self.root, self.objects)
        self.trees = Trees(self.root, self.commits, self.tags)
        self.records = KeyValues(self.root)
        self._collecting = threading.Lock()

    def build_commit(
        self, repo: str, tree_hash: str, *, parent: str = "", branch: str = "", provenance: Sequence[CommitRef] = ()
    ) -> Commit:
        """Make a finished commit of a tree object; raises InvalidError when the object is not one."""
        root = treeobjects.read(self.root.chunks, parse_hash(tree_hash))
        with self.root.references.operation():
            treeobjects.hold(self.root, root)
            return self.commits.build(repo, root, parent=parent, branch=branch, provenance=provenance)

    def collect_garbage(self) -> Report:
        """Remove what nothing can reach any more; raises StateError when another collection runs."""
        if not self._collecting.acquire(blocking=False):
            raise StateError("a garbage collection is running already: wait for its end")
        try:
            return Collector(self.root).run()
        finally:
            self._collecting.release()

    def delete_all(self) -> None:
        """Remove every repo, object and tag."""
        self.repos.delete_all(force=True)
        batch = self.root.db.batch()
        for family in ("tags", "objects"):
            for key, _ in self.root.db.scan(family, b""):
                batch.delete(family, key)
        self.root.db.write(batch, sync=True)

    def close(self) -> None:
        """Make everything durable and give the root up."""
        self.root.close()
