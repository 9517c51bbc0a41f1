"""Pushing a local image under a tag of its own, so that a pipeline's spec names exactly what was built."""

from __future__ import annotations

import base64
import getpass
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from pfsd.errors import InvalidError
from pfsdeploy.archive import Image, opened
from pfsdeploy.engine import save_image
from pfsdeploy.registry import Credentials, NeedsPasswordError, Repository

TAG_DIGITS = 32
"""Hex digits of the image's id that make its tag: unlike a random one, it stays where nothing was built anew."""

_HUB_KEYS = ("https://index.docker.io/v1/", "docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where images are pushed, and as whom."""

    registry: str
    username: str = ""
    """Empty for the one that docker login stored, else the user of this process."""
    password: str = ""
    """Empty for what docker login stored, else what `ask` gives once the registry wants one."""


def push(name: str, to: Destination, ask: Callable[[str], str], archive: pathlib.Path | None = None) -> str:
    """Push the local image `name`, of an archive or of the Docker engine; its new name, REGISTRY/USER/NAME:TAG.

    `ask` answers a question for a password, "" where nobody can be asked. Raises PfsError.
    """
    if not name:
        raise InvalidError("a pipeline without an image has none to push: set transform.image")
    with tempfile.TemporaryDirectory(prefix="pfs-push-") as work:
        directory = pathlib.Path(work)
        if archive is None:
            archive = directory / "image.tar"
            save_image(name, archive)
        with opened(archive, name, directory) as image:
            return _push(image, name, to, ask)


def _push(image: Image, name: str, to: Destination, ask: Callable[[str], str]) -> str:
    credentials = _credentials(to)
    user = to.username or (credentials.username if credentials else _this_user())
    path = f"{user}/{short_name(name)}"
    tag = image.id[:TAG_DIGITS]
    repository = Repository(to.registry, path, credentials)
    try:
        repository.push(image, tag)
    except NeedsPasswordError:
        password = ask(f"Password for {user} at {repository.registry}: ")
        if not password:
            raise
        repository = Repository(to.registry, path, Credentials(user, password))
        repository.push(image, tag)
    return f"{repository.registry}/{path}:{tag}"


def short_name(image: str) -> str:
    """`registry.example.com:5000/me/edges:v1@sha256:...` is `edges`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _credentials(to: Destination) -> Credentials | None:
    if to.password:
        return Credentials(to.username or _this_user(), to.password)
    stored = stored_credentials(to.registry)
    if stored is not None and to.username and stored.username != to.username:
        return None
    return stored


def stored_credentials(registry: str) -> Credentials | None:
    """What `docker login` wrote down itself for a registry; None where a helper of docker keeps it, or nobody does."""
    directory = pathlib.Path(os.environ.get("DOCKER_CONFIG") or pathlib.Path.home() / ".docker")
    host = registry.rpartition("://")[2].rstrip("/")
    try:
        known = json.loads((directory / "config.json").read_text())["auths"]
        for key in _HUB_KEYS if host in _HUB_KEYS else (host, f"https://{host}"):
            if key in known and known[key].get("auth"):
                user, _, password = base64.b64decode(known[key]["auth"]).decode().partition(":")
                return Credentials(user, password)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        pass  # docker's own file: what is wrong with it is docker's to say, and the registry then wants a password
    return None


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise InvalidError("this process has a user without a name: give --username") from error
