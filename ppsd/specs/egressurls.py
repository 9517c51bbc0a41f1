"""The URLs to which a spec may push output."""

from __future__ import annotations

from pfsd import clouds
from pfsd.errors import InvalidError

FORMS = "s3://BUCKET/DIRECTORY, gs://BUCKET/DIRECTORY or as://CONTAINER/DIRECTORY"


def check(url: str, field: str) -> str:
    """The URL, if output can be pushed there; else raises InvalidError naming `field`."""
    if not url:
        raise InvalidError(f"{field} is missing: give {FORMS}")
    try:
        place = clouds.parse(url)
    except InvalidError:
        raise InvalidError(f"{field} should be {FORMS}, and is {url!r}") from None
    try:
        clouds.require(place)
    except InvalidError as error:
        raise InvalidError(f"{field} can't be used: {error}") from error
    return url
