"""A remote object store behind a block cache."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Protocol

from pfsd.errors import CorruptError
from pfsd.objectstores.blockcache import BlockCache, Source
from pfsd.objectstores.objectstore import ObjectStore, Tally

log = logging.getLogger(__name__)


class RemoteStore(ObjectStore, Source, Protocol):
    """An object store that blocks can be had from."""

    tally: Tally


class CachedStore:
    """What `store` has, read through `cache`."""

    is_remote = True

    def __init__(self, store: RemoteStore, cache: BlockCache) -> None:
        self._store = store
        self.cache = cache
        self.url = store.url
        self.tally = store.tally

    def put_file(self, name: str, source: pathlib.Path) -> None:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._store.put_file(name, source)
            try:
                self.cache.keep(name, fd)  # what was just written is what is read next
            except OSError as error:
                log.warning("%s is stored, and not kept in the cache: %s", name, error.strerror)
        finally:
            os.close(fd)

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = self.cache.read(self._store, name, offset, size)
        if len(data) != size:
            raise CorruptError(f"object {name} in {self.url} ends before byte {offset + size}")
        return data

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        return self._store.read_fresh(name, offset, size)

    def forget(self, name: str, offset: int, size: int) -> bool:
        return self.cache.forget(name, offset, size)

    def size(self, name: str) -> int:
        return self._store.size(name)

    def names(self, prefix: str) -> Iterator[str]:
        return self._store.names(prefix)

    def delete(self, name: str) -> None:
        self._store.delete(name)
        self.cache.forget_all(name)

    def signed(self, name: str) -> str:
        return self._store.signed(name)

    def close(self) -> None:
        self._store.close()
        self.cache.close()
