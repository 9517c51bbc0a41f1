"""Objects in Azure's blob storage.

The account comes from AZURE_STORAGE_CONNECTION_STRING, or from AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or
AZURE_STORAGE_SAS_TOKEN, as for the provider's own command line.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.core import MatchConditions, exceptions
from azure.storage.blob import BlobServiceClient

from pfsd.clouds import BLOCK_BYTES, PART_BYTES, Objects, Place, Readable, checked, first_line, patiently, whole
from pfsd.errors import NotFoundError, RefusedError, UnavailableError

CONNECT_SECONDS = 5
READ_SECONDS = 20
"""For which the store may stay silent."""
_PASSING = (408, 409, 429)
"""HTTP statuses below 500 that say no for now."""
_MISSING = {"ContainerNotFound": ": there is no such container", "ContainerBeingDeleted": ": its container is going"}


class _AzureObjects:
    def keys(self, below: Place) -> Iterator[str]:
        token = None
        while True:
            names, token = patiently(_explained, below.url, functools.partial(_page, below, token))
            yield from names
            if not token:
                return

    def blocks(self, place: Place) -> Iterator[bytes]:
        blob = _client_at(checked(place))
        known = patiently(_explained, place.url, lambda: blob().get_blob_properties())
        for at in range(0, known.size, BLOCK_BYTES):
            size = min(BLOCK_BYTES, known.size - at)
            yield patiently(_explained, place.url, functools.partial(_range, place.url, blob, known.etag, at, size))

    def put(self, place: Place, content: Readable, size: int) -> None:
        with _explained(place.url):
            _client_at(place)().upload_blob(content, length=size, overwrite=True, max_concurrency=1)


@functools.cache
def _client() -> BlobServiceClient:
    common: dict[str, Any] = {
        "retry_total": 0,  # whoever uses it decides what is tried again
        "connection_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_single_put_size": PART_BYTES,
        "max_block_size": PART_BYTES,
        "max_single_get_size": BLOCK_BYTES,
        "max_chunk_get_size": BLOCK_BYTES,
    }
    if text := os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        return BlobServiceClient.from_connection_string(text, **common)
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    secret = os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_SAS_TOKEN")
    if not account or not secret:
        raise RefusedError(
            "there are no credentials for as://: set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and "
            "AZURE_STORAGE_KEY"
        )
    return BlobServiceClient(f"https://{account}.blob.core.windows.net", credential=secret, **common)


def _client_at(place: Place) -> Any:
    return lambda: _client().get_blob_client(place.bucket, place.key)


def _page(below: Place, token: str | None) -> tuple[list[str], str | None]:
    """Some of the keys, and what to ask the next ones with."""
    container = _client().get_container_client(below.bucket)
    found: Any = container.list_blobs(name_starts_with=below.key or None).by_page(token)
    names = [blob.name for blob in next(found)]
    return names, found.continuation_token


def _range(url: str, blob: Any, etag: str, start: int, size: int) -> bytes:
    answer = blob().download_blob(start, size, etag=etag, match_condition=MatchConditions.IfNotModified)
    return whole(url, answer.readall(), size)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn a failed request for what is at `url` into a PfsError."""
    try:
        yield
    except exceptions.ResourceNotFoundError as error:
        code = str(getattr(error, "error_code", "") or "")
        raise NotFoundError(f"{url}{_MISSING.get(code, ' is not there')}") from error
    except exceptions.ClientAuthenticationError as error:
        raise RefusedError(
            f"{url} is forbidden to these credentials: look at AZURE_STORAGE_CONNECTION_STRING, or "
            "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY"
        ) from error
    except exceptions.HttpResponseError as error:
        status = error.status_code
        if status == 403:
            raise RefusedError(
                f"{url} is forbidden to these credentials: give them the right to it, or use others"
            ) from error
        lasts = status is not None and 400 <= status < 500 and status not in _PASSING
        kind = RefusedError if lasts else UnavailableError
        raise kind(f"{url} answers {status or 'nothing'}: {first_line(error)}") from error
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError, exceptions.IncompleteReadError) as error:
        raise UnavailableError(f"{url} does not answer: {first_line(error)}") from error
    except exceptions.AzureError as error:
        raise UnavailableError(f"{url} can't be used now: {first_line(error)}") from error
    except ValueError as error:
        raise RefusedError(f"the settings for {url} can't be used: {first_line(error)}") from error


OBJECTS: Objects = _AzureObjects()
