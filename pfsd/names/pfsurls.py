"""`pfs://HOST:PORT/REPO/COMMIT/PATH`: a file or directory of a daemon, as something to put."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from pfsd.errors import InvalidError

SCHEME = "pfs"
FORM = "pfs://HOST:PORT/REPO/COMMIT/PATH"


_ADDRESS = re.compile(r"(\[[^\]@]+\]|[^:@\s]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class PfsPlace:
    """What such a URL names."""

    address: str
    """HOST:PORT; empty for the daemon that is put to."""
    repo: str
    commit: str
    """An id or a branch, maybe with `^` or `~N` behind it."""
    path: str
    """Without a slash at its beginning; empty for the whole commit."""


def is_pfs(url: str) -> bool:
    """Whether a URL has this scheme."""
    return url.lower().startswith(f"{SCHEME}://")


def parse(url: str) -> PfsPlace:
    """The parts of a URL, percent-encoded ones decoded; raises InvalidError, which says what the form is."""
    address, _, rest = url.partition("://")[2].partition("/")
    repo, _, rest = rest.partition("/")
    commit, _, path = rest.partition("/")
    if not (repo and commit):
        raise InvalidError(f"{url} names no commit: write it as {FORM}")
    if address and not _ADDRESS.fullmatch(address):
        raise InvalidError(f"{url} has no HOST:PORT at its beginning: write it as {FORM}")
    return PfsPlace(address, unquote(repo), unquote(commit), unquote(path).lstrip("/"))
