"""Takes out of texts for people and logs what a URL may hold and only its server should see.

A URL's user and password (`http://USER:PASSWORD@HOST/`) and its query, in which signed addresses carry their
signature, show as `***`. `PfsError` does so by itself, and the logs of the programs (`pfsd.runtime.logs`). Code that
keeps or prints a URL as such calls `redacted_url`.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s\"'<>]*)")
_RELATIVE = re.compile(r"(\burl: /[^\s?\"'<>]*)\?[^\s\"'<>)]+")
"""How urllib3 names what it asked for in its errors."""
_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?")


def redacted(text: str) -> str:
    """`text` with what is secret in the URLs in it hidden; a URL ends at white space, a quote or an angle bracket."""
    if "://" in text:
        text = _URL.sub(_hide, text)
    if "url: " in text:
        text = _RELATIVE.sub(rf"\1?{HIDDEN}", text)
    return text


def redacted_url(url: str) -> str:
    """A URL with what is secret in it hidden, whatever characters a password has."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}://{_without_secrets(rest)}" if mark else url


def _hide(match: re.Match[str]) -> str:
    return match[1] + _without_secrets(match[2])


def _without_secrets(rest: str) -> str:
    """What follows `SCHEME://`."""
    head, mark, query = rest.partition("?")
    authority = head.partition("/")[0]
    if "@" not in authority and _PORT.fullmatch(authority) is None:
        authority = rest  # a password that should have been percent-encoded may hold / and ?
    at = authority.rfind("@")
    if at >= 0:
        return f"{HIDDEN}@{_without_secrets(rest[at + 1 :])}"
    place, slash, path = head.partition("/")
    shown = f"{place}{slash}{redacted(path)}"  # a path may hold another URL
    return f"{shown}?{HIDDEN}" if mark and query else f"{shown}{mark}"
