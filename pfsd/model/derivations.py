"""Who computes a repo, and from what. Calls that wait for commits or delete repos read it here.

A service keeps a `Derivation` of each repo that it computes among its records (`pfsd.Records`), under `derived/REPO`,
and changes it in the same step as what it follows from. The daemon only reads it: it knows no pipelines.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass

from pfsd.errors import InvalidError
from pfsd.local.kv import Database

PREFIX = "derived/"


@dataclass(frozen=True, slots=True)
class Source:
    """A branch from which a repo is computed."""

    repo: str
    branch: str
    seen: str = ""
    """Id of the last commit that was taken, or empty: what is to come of it, and of those before it, is started."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """How the commits of a repo come about."""

    by: str = ""
    """Who makes them, in words, such as `pipeline edges`; empty, and without sources, where nobody does any more."""
    branch: str = ""
    """The branch that they are made on."""
    sources: tuple[Source, ...] = ()


def key(repo: str) -> str:
    """The key of a repo's record."""
    return PREFIX + repo


def dump(derivation: Derivation) -> bytes:
    """The stored form: JSON of the fields."""
    return json.dumps(dataclasses.asdict(derivation), separators=(",", ":")).encode()


@functools.lru_cache(maxsize=4096)
def load(data: bytes) -> Derivation:
    """The derivation of its stored form; raises InvalidError for what is none."""
    try:
        fields = json.loads(data)
        sources = tuple(Source(**source) for source in fields.pop("sources"))
        made = Derivation(**fields, sources=sources)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidError("a record under derived/ is not a derivation: see pfsd.model.derivations") from None
    texts = [made.by, made.branch, *(text for one in sources for text in (one.repo, one.branch, one.seen))]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidError("a record under derived/ has a field that is not a text: see pfsd.model.derivations")
    return made


def every(db: Database) -> dict[str, Derivation]:
    """All derivations, by the repo that is computed."""
    return {found.decode()[len(PREFIX) :]: load(data) for found, data in db.scan("records", PREFIX.encode())}


def users(db: Database, repo: str) -> list[str]:
    """Who would stand still without a repo, each once, with what he does: `written by pipeline edges`."""
    found: dict[str, None] = {}
    for name, one in every(db).items():
        if one.by and repo == name:
            found[f"written by {one.by}"] = None
        elif one.by and repo in {source.repo for source in one.sources}:
            found[f"read by {one.by}"] = None
    return list(found)
