"""Small records and leases for services that run over the file system."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from pfsd.errors import InvalidError, StateError
from pfsd.model import derivations
from pfsd.model.root import Root


class KeyValues:
    """Records by key, in key order, and leases that one caller holds at a time."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._db = root.db
        self._lock = threading.Lock()
        self._holders: dict[str, str] = {}

    def write(
        self, put: Mapping[str, bytes], delete: Iterable[str], delete_prefix: Iterable[str], *, sync: bool
    ) -> None:
        """Apply removals, then puts, as one step.

        Raises InvalidError for an empty key or prefix, and for a derivation (`pfsd.model.derivations`) that is none.
        """
        batch = self._db.batch()
        derived = set()
        for prefix in delete_prefix:
            batch.delete_prefix("records", _key(prefix))
        for key in delete:
            batch.delete("records", _key(key))
            derived.add(key)
        for key, value in put.items():
            if key.startswith(derivations.PREFIX):
                derivations.load(value)
            batch.put("records", _key(key), value)
            derived.add(key)
        self._db.write(batch, sync=sync)
        repos = [key.removeprefix(derivations.PREFIX) for key in derived if key.startswith(derivations.PREFIX)]
        if repos:
            self._root.changes.wake(repos)

    def scan(self, prefix: str, after: str, limit: int, *, reverse: bool) -> Iterator[tuple[str, bytes]]:
        """Records whose keys begin with `prefix`, from the one after the key `after`; `limit` 0 is no limit."""
        start = after.encode() + b"\0" if after and not reverse else after.encode()
        pairs = self._db.scan("records", prefix.encode(), start, reverse=reverse)
        for count, (key, value) in enumerate(pairs):
            if limit and count == limit:
                return
            yield key.decode(), value

    def take_lease(self, name: str, holder: str) -> None:
        """Take a lease; raises StateError when it is held."""
        with self._lock:
            if name in self._holders:
                raise StateError(f"the lease {name} is held by {self._holders[name]}")
            self._holders[name] = holder

    def release_lease(self, name: str) -> None:
        """Give a lease back."""
        with self._lock:
            self._holders.pop(name, None)


def _key(key: str) -> bytes:
    if not key:
        raise InvalidError("a record needs a key that is not empty")
    return key.encode()
