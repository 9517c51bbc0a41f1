"""Names and labels of a pipeline's objects in the cluster, whose alphabet is smaller than that of pipelines. Pure."""

from __future__ import annotations

import re
from typing import Final

from blake3 import blake3

APP: Final = "pfsd-worker"
"""The label `app` of everything that the launcher makes."""

LABEL_CHARACTERS: Final = 63
NAME_CHARACTERS: Final = 52
"""Of a controller: its pods' names have 6 more, and are host names."""

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_DIGEST_BYTES = 4


def label(pipeline: str) -> str:
    """The value of the label `pipeline`: the pipeline's name where it can be one, else a name made of it."""
    if len(pipeline) <= LABEL_CHARACTERS and _LABEL.fullmatch(pipeline):
        return pipeline
    return _distinct(pipeline, pipeline.strip("_.-"), LABEL_CHARACTERS)


def controller(pipeline: str, version: int) -> str:
    """The name of a version's controller and service: `pipeline-NAME-vVERSION`."""
    suffix = f"-v{version}"
    slug = re.sub(r"[^a-z0-9]+", "-", pipeline.lower()).strip("-")
    room = NAME_CHARACTERS - len("pipeline-") - len(suffix)
    if slug != pipeline or len(slug) > room:
        slug = _distinct(pipeline, slug, room)
    return f"pipeline-{slug}{suffix}"


def _distinct(pipeline: str, short: str, room: int) -> str:
    """A name that says which pipeline is meant although it may begin like another's."""
    digest = blake3(pipeline.encode()).hexdigest(_DIGEST_BYTES)
    return f"{short[: room - len(digest) - 1]}-{digest}".lstrip("_.-")
