"""Packs in a remote object store, read from there and not through the daemon, by way of this machine's block cache."""

from __future__ import annotations

import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from blake3 import blake3

from pachproto import pfsd_pb2
from pfsd.errors import InvalidError, NotFoundError, PfsError, UnavailableError
from pfsd.local.packs import pack_object
from pfsd.names import sizes
from pfsd.objectstores.blockcache import DEFAULT_BYTES, BlockCache, Coming, Source
from pfsd.runtime.persistence import streamed
from pfsfuse.content.packfiles import Location

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""For which a request is made again before the bytes are asked of the daemon."""
_DOWN_SECONDS = (20.0, 600.0)
"""For which a store that can't be reached is left alone, the first time and at most."""
_ABSENT_SECONDS = 2.0
"""For which a pack that has not got to the store is not looked for there again."""
_SPARE_SECONDS = 120.0
"""How long before its end a signed address is replaced."""

WAYS = ("signed", "own", "daemon")


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How a mount or worker comes to the bytes in a remote object store."""

    way: str = "signed"
    """`signed`: at addresses that the daemon signs; `own`: with the AWS settings of this process; `daemon`: through
    the daemon."""
    cache_directory: pathlib.Path | None = None
    """None: the daemon's, on its machine, else `pfs` in the user's cache directory."""
    cache_bytes: int | None = None
    """None: as many as the daemon's cache holds."""


def options_from_environment() -> ReadingOptions:
    """What PFS_READ_FROM, PFS_CACHE_DIR and PFS_CACHE_SIZE say; raises InvalidError."""
    way = os.environ.get("PFS_READ_FROM") or "signed"
    if way not in WAYS:
        raise InvalidError(f"PFS_READ_FROM={way} is not known: set it to {', '.join(WAYS)}, or not at all")
    directory, size = os.environ.get("PFS_CACHE_DIR"), os.environ.get("PFS_CACHE_SIZE")
    try:
        limit = sizes.parse(size) if size else None
    except ValueError as error:
        raise InvalidError(f"PFS_CACHE_SIZE: {error}") from None
    return ReadingOptions(way, pathlib.Path(directory) if directory else None, limit)


class RemotePacks:
    """Reads chunks from a remote object store. Used from several threads."""

    def __init__(self, store: Source, cache: BlockCache, *, is_signed: bool) -> None:
        """With `is_signed`, `store` is a `SignedStore`."""
        self._store = store
        self.cache = cache
        self._signed = store if is_signed and isinstance(store, SignedStore) else None
        self._absent: dict[str, float] = {}
        self._down_until = 0.0
        self._down_for = _DOWN_SECONDS[0]

    def unsigned(self, packs: Iterable[str]) -> list[str]:
        """Those packs for which an address has to be asked of the daemon before they are read."""
        if self._signed is None or time.monotonic() < self._down_until:
            return []
        return [pack for pack in packs if not self._is_absent(pack) and not self._signed.has(pack)]

    def learn(self, addresses: Mapping[str, str], seconds: float) -> None:
        """Take signed addresses, which hold for so long; an empty one is a pack that is not in the store yet."""
        assert self._signed is not None
        self._signed.learn({pack: address for pack, address in addresses.items() if address}, seconds)
        self._absent.update((pack, time.monotonic()) for pack, address in addresses.items() if not address)

    def begin(self, wanted: Iterable[tuple[bytes, Location]]) -> Coming | None:
        """Begin to fetch what is missing of those chunks; None while the store is left alone."""
        if time.monotonic() < self._down_until:
            return None
        present = (at for _, at in wanted if not self._is_absent(at.pack))
        return self.cache.begin(self._store, ((pack_object(at.pack), at.offset, at.size) for at in present))

    def read(self, wanted: list[tuple[bytes, Location]], coming: Coming | None = None) -> dict[bytes, bytes]:
        """The bytes of those chunks that can be had from the store and match their hashes.

        They may be among what is `coming`.
        """
        coming = coming or self.begin(wanted)
        if coming is None:
            return {}
        present = [item for item in wanted if not self._is_absent(item[1].pack)]
        found: dict[bytes, bytes] = {}
        for name, at in present:
            if self._is_absent(at.pack):
                continue
            try:
                data = self._chunk(name, at, coming)
            except NotFoundError:
                self._absent[at.pack] = time.monotonic()
            except PfsError as error:
                self._give_up(error)
                break
            else:
                if data is not None:
                    found[name] = data
                    self._down_for = _DOWN_SECONDS[0]
        return found

    def close(self) -> None:
        """End what goes on."""
        self.cache.close()

    def _chunk(self, name: bytes, at: Location, coming: Coming) -> bytes | None:
        pack = pack_object(at.pack)
        data = self.cache.read(self._store, pack, at.offset, at.size, coming)
        if blake3(data).digest() != name:
            if not self.cache.forget(pack, at.offset, at.size):
                return None
            data = self.cache.read(self._store, pack, at.offset, at.size)
            if blake3(data).digest() != name:
                self.cache.forget(pack, at.offset, at.size)
                return None
        return data

    def _is_absent(self, pack: str) -> bool:
        since = self._absent.get(pack)
        if since is not None and time.monotonic() - since > _ABSENT_SECONDS:
            self._absent.pop(pack, None)
            return False
        return since is not None

    def _give_up(self, error: PfsError) -> None:
        log.warning("%s: reading through the daemon for %.0f s", error, self._down_for)
        self._down_until = time.monotonic() + self._down_for
        self._down_for = min(2 * self._down_for, _DOWN_SECONDS[1])


class SignedStore:
    """Objects at addresses that the daemon has signed."""

    def __init__(self, url: str) -> None:
        from pfsd.objectstores.signedreads import stream_signed

        self._url = url
        self._read = stream_signed
        self._lock = threading.Lock()
        self._addresses: dict[str, tuple[str, float]] = {}
        self._stop = threading.Event()

    def has(self, pack: str) -> bool:
        """Whether there is an address of a pack that holds for a while yet."""
        with self._lock:
            found = self._addresses.get(pack)
        return found is not None and found[1] > time.monotonic()

    def learn(self, addresses: Mapping[str, str], seconds: float) -> None:
        """Take addresses of packs, which hold for so long."""
        end = time.monotonic() + seconds - _SPARE_SECONDS
        with self._lock:
            self._addresses.update((pack, (address, end)) for pack, address in addresses.items())

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of an object; raises UnavailableError where there is no address, too."""
        parts: list[bytes] = []
        self.stream(name, offset, size, size, parts.append)
        return b"".join(parts)

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        """The same as they come, in pieces of `piece` bytes, the last of which may be shorter."""
        with self._lock:
            found = self._addresses.get(name.rpartition("/")[2])
        if found is None:
            raise UnavailableError(f"{self._url}: there is no address of {name}")

        def begin(done: int, took: Callable[[bytes], None]) -> None:
            if done < size:
                self._read(found[0], self._url, offset + done, size - done, piece, took)

        streamed(begin, take, PATIENCE_SECONDS, self._stop)


class _OwnStore:
    """Objects that are read with the AWS settings of this process."""

    def __init__(self, url: str, owner: str) -> None:
        from pfsd.objectstores.s3store import S3ObjectStore

        self._store = S3ObjectStore(url)
        self._store.check_owner(owner)

    def read_fresh(self, name: str, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        self.stream(name, offset, size, size, parts.append)
        return b"".join(parts)

    def stream(self, name: str, offset: int, size: int, piece: int, take: Callable[[bytes], None]) -> None:
        self._store.stream_present(name, offset, size, piece, take, PATIENCE_SECONDS)


def cache_directory(info: pfsd_pb2.StoreInfo) -> pathlib.Path:
    """Where this machine keeps blocks of a store, unless it is told otherwise: with the daemon where that runs here."""
    shared = pathlib.Path(info.cache_dir)
    if info.cache_dir and os.access(shared / "state", os.R_OK | os.W_OK):
        return shared
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pfs"


def open_remote(info: pfsd_pb2.StoreInfo, options: ReadingOptions) -> RemotePacks | None:
    """The packs of a store, to be read without the daemon; None where they are on its machine or that is not wanted.

    Raises InvalidError when the cache can't be used, and, with `own`, what `S3ObjectStore.check_owner` raises.
    """
    if not info.object_store.startswith("s3://") or options.way == "daemon":
        return None
    store = _OwnStore(info.object_store, info.id) if options.way == "own" else SignedStore(info.object_store)
    directory = options.cache_directory or cache_directory(info)
    limit = options.cache_bytes or info.cache_bytes or DEFAULT_BYTES
    return RemotePacks(store, BlockCache(directory, limit), is_signed=options.way == "signed")


def own_directories(info: pfsd_pb2.StoreInfo, remote: RemotePacks | None) -> list[str]:
    """The store's own directories, as far as they are on this machine: its root, and the caches of its blocks."""
    caches = [pathlib.Path(info.cache_dir)] if info.cache_dir else []
    caches += [remote.cache.directory] if remote is not None else []
    found = [path for path in caches if path.is_dir()]
    root = pathlib.Path(info.spool).parent
    try:
        if info.spool and info.id in (root / "FORMAT").read_text(errors="replace").split():
            found.append(root)
    except OSError:  # it is on another machine, or this user may not look into it
        pass
    return [str(path.absolute()) for path in found]
