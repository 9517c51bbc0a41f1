"""Tags: names for objects that keep them, and what they name, from being collected."""

from __future__ import annotations

from collections.abc import Sequence

from pfsd.errors import NotFoundError
from pfsd.root import Root


class Tags:
    """The tags of a root."""

    def __init__(self, root: Root) -> None:
        self._db = root.db

    def set(self, tag: str, object_hash: bytes) -> None:
        """Let a tag name an object; it moves when it named another."""
        batch = self._db.batch()
        batch.put("tags", tag.encode(), object_hash)
        self._db.write(batch)

    def get(self, tag: str) -> bytes:
        """The hash of the object that a tag names; raises NotFoundError."""
        value = self._db.get("tags", tag.encode())
        if value is None:
            raise NotFoundError(f"tag {tag} not found")
        return value

    def present(self, tags: Sequence[str]) -> list[bool]:
        """For each tag, whether it is there."""
        return [value is not None for value in self._db.get_many("tags", [tag.encode() for tag in tags])]

    def delete_prefix(self, prefix: str) -> None:
        """Remove every tag that begins with `prefix`, which is not empty."""
        batch = self._db.batch()
        batch.delete_prefix("tags", prefix.encode())
        self._db.write(batch, sync=True)
