"""What the tests of stores share: putting a file, and seeing all that a commit has."""

from __future__ import annotations

from pfsd.chunks import content
from pfsd.filesystem.store import Store
from pfsd.model.records import Commit
from pfsd.trees import dirs
from pfsd.trees.entries import FileEntry


def put(store: Store, commit: Commit, path: str, data: bytes, *, overwrite: bool = False) -> None:
    upload = store.files.upload(commit)
    upload.begin(path, overwrite=overwrite)
    upload.write(data)
    upload.finish()


def contents(store: Store, commit: Commit) -> tuple[dict[str, bytes], set[str]]:
    """The files of a commit with their bytes, and its directories."""
    files, directories = {}, set()
    for path, entry in dirs.walk(store.root.nodes, store.commits.tree(commit)):
        name = "/".join(path)
        if isinstance(entry, FileEntry):
            files[name] = b"".join(content.read(store.root.nodes, store.root.chunks, entry))
        else:
            directories.add(name)
    return files, directories - {""}
