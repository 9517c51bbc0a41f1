"""Putting what a URL points to: the daemon fetches it."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

from pfsd import clouds
from pfsd.errors import InvalidError, NotFoundError, UnavailableError

TIMEOUT_SECONDS = 30
"""How long a server may stay silent."""

BLOCK_BYTES = 1 << 20


def files_below(url: str) -> Iterator[tuple[str, str]]:
    """The files below the address of objects: the path of each below it, and its own address.

    Raises InvalidError for other URLs, NotFoundError where there is none, UnavailableError.
    """
    if not clouds.is_object(url):
        raise InvalidError(f"the URL {url} can't be put recursively: it is a single file")
    place = clouds.parse(url)
    prefix = place.key.rstrip("/") + "/" if place.key.strip("/") else ""
    is_empty = True
    for key in clouds.objects(place).keys(place.at(prefix)):
        path = key.removeprefix(prefix)
        if not path.endswith("/"):  # a marker of a directory
            is_empty = False
            yield path, place.at(key).url
    if is_empty:
        raise NotFoundError(f"there is nothing below {url}")


def fetch(url: str, write: Callable[[bytes], None]) -> None:
    """Pass the bytes behind an http or https URL, or of an object, to `write`.

    Raises InvalidError for other URLs, NotFoundError and UnavailableError when the server says no or nothing.
    """
    if clouds.is_object(url):
        place = clouds.parse(url)
        for block in clouds.objects(place).blocks(place):
            write(block)
        return
    if url.partition(":")[0].strip().lower() not in ("http", "https"):
        known = ", ".join(clouds.SCHEMES)
        raise InvalidError(f"the URL {url} can't be put: only http, https and {known} are known to this version")
    try:
        with _opener().open(url, timeout=TIMEOUT_SECONDS) as response:
            while block := response.read(BLOCK_BYTES):
                write(block)
            if response.length:
                raise UnavailableError(f"the URL {url} broke off {response.length} bytes before its end: try again")
    except urllib.error.HTTPError as error:
        kind = NotFoundError if error.code in (404, 410) else UnavailableError
        raise kind(f"the URL {url} answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = error.reason.strerror if isinstance(error.reason, OSError) else None
        raise UnavailableError(f"the URL {url} does not answer: {(reason or str(error.reason)).lower()}") from error
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"the URL {url} broke off: {error}") from error
    except ValueError as error:
        raise InvalidError(f"the URL {url} can't be used: {error}") from error


def _opener() -> urllib.request.OpenerDirector:
    """Like urllib's own, but a redirection can't lead it to other schemes either."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
