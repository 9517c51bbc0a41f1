"""The store: everything that a root holds, behind one object."""

from __future__ import annotations

import pathlib

from pfsd.commits import Commits
from pfsd.files import Files
from pfsd.keyvalue import KeyValues
from pfsd.objects import Tags
from pfsd.repos import Repos
from pfsd.root import Root
from pfsd.trees import Trees


class Store:
    """An open store. Plain synchronous code, safe to use from many threads."""

    def __init__(self, directory: pathlib.Path) -> None:
        """Open or create the root in a directory; raises what `pfsd.root.Root` raises."""
        self.root = Root(directory)
        self.repos = Repos(self.root)
        self.commits = Commits(self.root, self.repos)
        self.files = Files(self.root, self.commits)
        self.tags = Tags(self.root)
        self.trees = Trees(self.root, self.commits, self.tags)
        self.records = KeyValues(self.root)

    def delete_all(self) -> None:
        """Remove every repo, object and tag."""
        self.repos.delete_all()
        batch = self.root.db.batch()
        for family in ("tags", "objects"):
            for key, _ in self.root.db.scan(family, b""):
                batch.delete(family, key)
        self.root.db.write(batch, sync=True)

    def close(self) -> None:
        """Make everything durable and give the root up."""
        self.root.close()
