"""The store: everything that a root holds, behind one object."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from pfsd.filesystem.files import Files
from pfsd.filesystem.objects import Objects, Tags, parse_hash
from pfsd.filesystem.trees import Trees
from pfsd.model import treeobjects
from pfsd.model.commits import Commits
from pfsd.model.keyvalue import KeyValues
from pfsd.model.records import Commit, CommitRef
from pfsd.model.repos import Repos
from pfsd.model.root import Root
from pfsd.objectstores.openstore import DEFAULTS, StorageOptions


class Store:
    """An open store. Plain synchronous code, safe to use from many threads."""

    def __init__(self, directory: pathlib.Path, options: StorageOptions = DEFAULTS) -> None:
        """Open or create the root in a directory; raises what `pfsd.model.root.Root` raises."""
        self.root = Root(directory, options)
        self.repos = Repos(self.root)
        self.commits = Commits(self.root, self.repos)
        self.files = Files(self.root, self.commits)
        self.objects = Objects(self.root)
        self.tags = Tags(self.root, self.objects)
        self.trees = Trees(self.root, self.commits, self.tags)
        self.records = KeyValues(self.root)

    def build_commit(
        self, repo: str, tree_hash: str, *, parent: str = "", branch: str = "", provenance: Sequence[CommitRef] = ()
    ) -> Commit:
        """Make a finished commit of a tree object; raises InvalidError when the object is not one."""
        root = treeobjects.read(self.root.chunks, parse_hash(tree_hash))
        with self.root.references.operation():
            treeobjects.hold(self.root, root)
            return self.commits.build(repo, root, parent=parent, branch=branch, provenance=provenance)

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
