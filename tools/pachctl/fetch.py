"""Small texts that a command reads from a file, a URL or standard input: specs, and lists of files."""

from __future__ import annotations

import logging
import sys

from pfsd.errors import InvalidError, UnavailableError

STDIN = "-"

MAX_BYTES = 64 << 20
"""Longest text accepted."""

_TIMEOUT_SECONDS = 60

_logger = logging.getLogger(__name__)


def read_text(source: str) -> str:
    """The text that `source` names: `-` for standard input, an http(s) URL, or a local file.

    Raises OSError for a file that can't be read, UnavailableError for a URL, InvalidError for no text.
    """
    if source == STDIN:
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    elif source.startswith(("http://", "https://")):
        data = _get(source)
    else:
        with open(source, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    name = "standard input" if source == STDIN else source
    if len(data) > MAX_BYTES:
        raise InvalidError(f"{name} is longer than {MAX_BYTES >> 20} MiB, which no list or specification is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidError(f"{name} is not UTF-8 text: byte {error.start} can't be read") from error


def _get(url: str) -> bytes:
    # Imported here: these take longer to load than most commands to run.
    import http.client
    import urllib.error
    import urllib.request

    _logger.info("fetching %s", url)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            data: bytes = response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise UnavailableError(f"can't fetch {url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"can't fetch {url}: {_reason(error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"can't fetch {url}: {_reason(error)}") from error
    return data


def _reason(error: object) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror.lower() if strerror else str(error)
