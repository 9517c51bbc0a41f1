"""Tree objects: small objects that name a tree, so that trees can be tagged, kept and built into commits.

The text is `pfsd tree 1`, a newline, the root hash in hex, a newline.
"""

from __future__ import annotations

import re

from pfsd.chunks.chunkstore import ChunkStore
from pfsd.errors import CorruptError, InvalidError
from pfsd.model.root import Root
from pfsd.names.paths import join
from pfsd.trees import dirs, entries
from pfsd.trees.entries import DirEntry, FileEntry

_HEAD = b"pfsd tree 1\n"
_TREE = re.compile(_HEAD + rb"[0-9a-f]{64}\n")


def put(chunks: ChunkStore, root: bytes) -> bytes:
    """Store the tree object of a root hash; returns the object's hash."""
    return chunks.add(_HEAD + root.hex().encode() + b"\n").hash


def hold(root: Root, top: bytes) -> None:
    """Make sure that all of a tree is stored, and stays for the operation under way; raises CorruptError."""
    for path, entry in dirs.walk(root.nodes.held, DirEntry(top)):
        if isinstance(entry, FileEntry):
            for _, chunk in entries.chunks_from(root.nodes.held, entry):
                if not root.chunks.has(chunk.hash):
                    raise CorruptError(f"a chunk of {join(path)} is missing from the store")


def read(chunks: ChunkStore, object_hash: bytes) -> bytes:
    """The root hash that a tree object names; raises InvalidError when the object is not one."""
    try:
        text = chunks.read(object_hash)
    except CorruptError:
        if chunks.has(object_hash):
            raise
        text = b""
    return parse(text, f"object {object_hash.hex()}")


def parse(text: bytes, name: str) -> bytes:
    """The root hash in the text of a tree object; raises InvalidError, with the object's name, for other texts."""
    if not _TREE.fullmatch(text):
        raise InvalidError(f"{name} is not a tree object")
    return bytes.fromhex(text[len(_HEAD) : -1].decode())
