"""Objects that users have in some provider's store: what is put from there, and pushed to there.

One module for each kind of store implements `Objects`; the libraries for some of them are optional. All of them take
endpoint and credentials from where the provider's own tools do. (Where packs are kept is
`pfsd.objectstores.objectstore`'s.)
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pfsd.errors import InvalidError, UnavailableError
from pfsd.runtime.persistence import persistently

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
"""For which a request that reads is made again."""
BLOCK_BYTES = 8 << 20
"""What is read of an object at once."""
PART_BYTES = 16 << 20
"""A larger object is written in parts of this size, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of store."""

    module: str
    form: str
    """How an address is written."""
    library: str
    """The distribution that it needs."""
    package: str
    """What is imported of that."""
    extra: str = ""
    """What brings that, where it is optional."""


_KINDS = {
    "s3": _Kind("pfsd.clouds.s3_objects", "s3://BUCKET/KEY", "boto3", "boto3"),
    "gs": _Kind("pfsd.clouds.gs_objects", "gs://BUCKET/KEY", "google-cloud-storage", "google.cloud.storage", "gs"),
    "as": _Kind("pfsd.clouds.as_objects", "as://CONTAINER/KEY", "azure-storage-blob", "azure.storage.blob", "as"),
}
_ALIASES = {"gcs": "gs"}

SCHEMES = (*_KINDS, *_ALIASES)
"""With which the address of an object begins."""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and the part of it below a prefix; or one object."""

    scheme: str
    bucket: str
    """Azure calls it a container."""
    key: str
    """Without a slash at its beginning; may be empty."""

    @property
    def url(self) -> str:
        """`SCHEME://BUCKET/KEY`."""
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"

    def at(self, key: str) -> Place:
        """Another key of the same bucket."""
        return Place(self.scheme, self.bucket, key)


class Readable(Protocol):
    """Bytes that are to be stored."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, all that are left by default; fewer only at the end."""

    def tell(self) -> int:
        """How many have been read."""


class Objects(Protocol):
    """The objects in one kind of store. Safe to use from many threads; every method blocks.

    Raises NotFoundError where an object or a bucket is missing, RefusedError where trying again is of no use, and
    UnavailableError where the store does not answer; `keys` and `blocks` have tried for PATIENCE_SECONDS then.
    """

    def keys(self, below: Place) -> Iterator[str]:
        """The keys of a bucket that begin with `below.key`, in order."""

    def blocks(self, place: Place) -> Iterator[bytes]:
        """An object's bytes in order, as they are when the first come."""

    def put(self, place: Place, content: Readable, size: int) -> None:
        """Store an object of `size` bytes, in place of what is there; nobody sees a part of it. Tried once."""


def is_object(url: str) -> bool:
    """Whether an address is one in a store that is known here."""
    return url.partition("://")[0] in SCHEMES


def parse(url: str, scheme: str = "") -> Place:
    """What an address names, in the one kind of store that `scheme` says, or in any; raises InvalidError."""
    try:
        parts = urllib.parse.urlsplit(url, allow_fragments=False)
    except ValueError:  # brackets, or characters that only look like others
        parts = urllib.parse.SplitResult("", "", "", "", "")
    found = _ALIASES.get(parts.scheme, parts.scheme)
    kind = _KINDS.get(found)
    if kind is None or not parts.netloc or "@" in parts.netloc or scheme not in ("", found):
        forms = [one.form for name, one in _KINDS.items() if name == scheme or (not scheme and kind in (one, None))]
        raise InvalidError(f"{url} is not the address of an object: write {' or '.join(forms)}")
    key = url.partition("://")[2].partition("/")[2]  # as it stands: a key may hold ? and %
    return Place(found, parts.netloc, key)


def require(place: Place) -> None:
    """Raise InvalidError where the library for a place is not installed."""
    kind = _KINDS[place.scheme]
    try:
        is_here = importlib.util.find_spec(kind.package) is not None
    except (ModuleNotFoundError, ValueError):
        is_here = False
    if not is_here:
        install = f"pfsd[{kind.extra}]" if kind.extra else kind.library
        raise InvalidError(
            f"{place.url} needs the library {kind.library}, which is not installed here: pip install '{install}'"
        )


def objects(place: Place) -> Objects:
    """What reads and writes a place; raises InvalidError where the library for it is not installed."""
    require(place)
    found: Objects = importlib.import_module(_KINDS[place.scheme].module).OBJECTS
    return found


def patiently(explained: Callable[[str], AbstractContextManager[None]], url: str, call: Callable[[], T]) -> T:
    """The result of a request that reads, made again while the store does not answer."""

    def attempt() -> T:
        with explained(url):
            return call()

    return persistently(attempt, PATIENCE_SECONDS, threading.Event())


def checked(place: Place) -> Place:
    """A place that names an object; raises InvalidError where it names a whole bucket."""
    if not place.key:
        raise InvalidError(f"{place.url} names no object: write {_KINDS[place.scheme].form}")
    return place


def whole(url: str, data: bytes, size: int) -> bytes:
    """An answer of `size` bytes; raises UnavailableError where it has others."""
    if len(data) != size:
        raise UnavailableError(f"an answer of {url} broke off")
    return data


def first_line(error: Exception) -> str:
    """What a library's error says, without the pages that may follow."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
