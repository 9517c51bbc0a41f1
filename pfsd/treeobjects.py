"""Tree objects: small objects that name a tree, so that trees can be tagged, kept and built into commits.

The text is `pfsd tree 1`, a newline, the root hash in hex, a newline.
"""

from __future__ import annotations

import re

from pfsd.chunkstore import ChunkStore
from pfsd.errors import CorruptError, InvalidError

_HEAD = b"pfsd tree 1\n"
_TREE = re.compile(_HEAD + rb"[0-9a-f]{64}\n")


def put(chunks: ChunkStore, root: bytes) -> bytes:
    """Store the tree object of a root hash; returns the object's hash."""
    return chunks.add(_HEAD + root.hex().encode() + b"\n").hash


def read(chunks: ChunkStore, object_hash: bytes) -> bytes:
    """The root hash that a tree object names; raises InvalidError when the object is not one."""
    try:
        text = chunks.read(object_hash)
    except CorruptError:
        if chunks.has(object_hash):
            raise
        text = b""
    if not _TREE.fullmatch(text):
        raise InvalidError(f"object {object_hash.hex()} is not a tree object")
    return bytes.fromhex(text[len(_HEAD) : -1].decode())
