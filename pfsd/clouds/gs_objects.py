"""Objects in Google Cloud Storage, with the application default credentials of this process.

STORAGE_EMULATOR_HOST names another server that speaks as it does, which is asked without credentials.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.cloud import storage

from pfsd.clouds import BLOCK_BYTES, PART_BYTES, Objects, Place, Readable, checked, first_line, patiently, whole
from pfsd.errors import NotFoundError, RefusedError, UnavailableError

TIMEOUT = (5, 20)
"""Seconds for connecting, and for which the store may stay silent."""
_PASSING = (408, 429)
"""HTTP statuses below 500 that say no for now."""


class _GoogleObjects:
    def keys(self, below: Place) -> Iterator[str]:
        token = None
        while True:
            found = patiently(_explained, below.url, functools.partial(_page, below, token))
            names, token = found
            yield from names
            if not token:
                return

    def blocks(self, place: Place) -> Iterator[bytes]:
        blob, size = patiently(_explained, place.url, functools.partial(_present, checked(place)))
        for at in range(0, size, BLOCK_BYTES):
            end = min(at + BLOCK_BYTES, size) - 1
            yield patiently(_explained, place.url, functools.partial(_range, place.url, blob, at, end))

    def put(self, place: Place, content: Readable, size: int) -> None:
        with _explained(place.url):
            blob = _client().bucket(place.bucket).blob(place.key, chunk_size=PART_BYTES)
            blob.upload_from_file(
                content, size=size, content_type="application/octet-stream", timeout=TIMEOUT, retry=None
            )


@functools.cache
def _client() -> Any:
    return storage.Client()


def _page(below: Place, token: str | None) -> tuple[list[str], str | None]:
    """Some of the keys, and what to ask the next ones with."""
    found = _client().list_blobs(below.bucket, prefix=below.key or None, page_token=token, timeout=TIMEOUT, retry=None)
    page = next(found.pages, ())
    return [blob.name for blob in page], found.next_page_token


def _present(place: Place) -> tuple[Any, int]:
    """An object, in the version that is there now, and its size."""
    bucket = _client().bucket(place.bucket)
    blob = bucket.blob(place.key)
    blob.reload(timeout=TIMEOUT, retry=None)
    return bucket.blob(place.key, generation=blob.generation), blob.size


def _range(url: str, blob: Any, start: int, end: int) -> bytes:
    data: bytes = blob.download_as_bytes(
        start=start, end=end, raw_download=True, checksum=None, timeout=TIMEOUT, retry=None
    )
    return whole(url, data, end + 1 - start)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn a failed request for what is at `url` into a PfsError."""
    try:
        yield
    except auth.DefaultCredentialsError as error:
        raise RefusedError(
            f"there are no credentials for {url}: set GOOGLE_APPLICATION_CREDENTIALS to a file of them"
        ) from error
    except auth.TransportError as error:
        raise UnavailableError(f"{url} does not answer: there is no way to renew the credentials") from error
    except auth.GoogleAuthError as error:
        raise RefusedError(f"the credentials for {url} can't be used: {first_line(error)}") from error
    except exceptions.NotFound as error:
        missing = ": there is no such bucket" if "bucket does not exist" in str(error) else " is not there"
        raise NotFoundError(f"{url}{missing}") from error
    except (exceptions.Unauthorized, exceptions.Forbidden) as error:
        raise RefusedError(
            f"{url} is forbidden to these credentials: give them the right to it, or use others"
        ) from error
    except exceptions.GoogleAPICallError as error:
        lasts = error.code is not None and error.code < 500 and error.code not in _PASSING
        kind = RefusedError if lasts else UnavailableError
        raise kind(f"{url} answers {error.code}: {first_line(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        raise UnavailableError(f"{url} does not answer: {_reason(error)}") from error
    except OSError as error:
        raise RefusedError(f"{url} can't be used: {first_line(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "it takes too long"
    if isinstance(error, requests.ConnectionError):
        return "the connection failed"
    return "the answer broke off"


OBJECTS: Objects = _GoogleObjects()
