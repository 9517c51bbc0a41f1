"""Pushing to a registry over its HTTP API: https://github.com/opencontainers/distribution-spec"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

import urllib3

from pfsd.errors import InvalidError, PfsError, RefusedError, UnavailableError
from pfsdeploy.archive import Blob, Image

CONNECT_SECONDS = 10
READ_SECONDS = 300

_HUB = ("docker.io", "index.docker.io")
_HUB_HOST = "registry-1.docker.io"
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")


class NeedsPasswordError(RefusedError):
    """The registry takes pushes only of those who say who they are."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who pushes."""

    username: str
    password: str

    @property
    def basic(self) -> str:
        """The header's value."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Repository:
    """Where the versions of one image lie in a registry."""

    def __init__(self, registry: str, name: str, credentials: Credentials | None) -> None:
        """`registry` is HOST[:PORT]; TLS is spoken unless it is this machine's, or begins with http://."""
        if not _NAME.fullmatch(name):
            raise InvalidError(
                f"{name} can't be an image's name: write lower-case letters, digits, and . _ - between them"
            )
        scheme, host = _address(registry)
        self.registry = host
        self.name = name
        self._credentials = credentials
        self._base = f"{scheme}://{_HUB_HOST if host in _HUB else host}/v2/{name}"
        self._headers: dict[str, str] = {}
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(3, raise_on_status=False))

    def push(self, image: Image, tag: str) -> None:
        """Store an image under a tag; what the registry has of it is not sent again.

        Raises NeedsPasswordError, RefusedError, or UnavailableError where the registry does not answer.
        """
        for blob in image.blobs:
            self._push_blob(blob)
        answer = self._request(
            "PUT", f"{self._base}/manifests/{tag}", body=image.manifest, headers={"Content-Type": image.media_type}
        )
        self._expect(answer, 201)

    def _push_blob(self, blob: Blob) -> None:
        if self._request("HEAD", f"{self._base}/blobs/{blob.digest}").status == 200:
            return
        answer = self._request("POST", f"{self._base}/blobs/uploads/", headers={"Content-Length": "0"})
        self._expect(answer, 202)
        place = urllib.parse.urljoin(f"{self._base}/blobs/uploads/", answer.headers["Location"])
        place += ("&" if urllib.parse.urlsplit(place).query else "?") + urllib.parse.urlencode({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with blob.path.open("rb") as file:
            self._expect(self._request("PUT", place, body=file, headers=headers), 201)

    def _request(self, method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        answer = self._send(method, url, body, headers or {})
        if answer.status != 401:
            return answer
        self._authorize(answer.headers.get("WWW-Authenticate", ""))
        if hasattr(body, "seek"):
            body.seek(0)
        answer = self._send(method, url, body, headers or {})
        if answer.status == 401:
            raise self._not_let_in()
        return answer

    def _send(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
        # An upload may be sent to another host, which is told nothing of who pushes.
        known = self._headers if urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(self._base).netloc else {}
        try:
            return self._pool.request(method, url, body=body, headers={**known, **headers})
        except urllib3.exceptions.SSLError as error:
            raise self._no_tls(error) from error
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.SSLError):
                raise self._no_tls(error.reason) from error
            raise UnavailableError(f"the registry {self.registry} does not answer") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"the registry {self.registry} does not answer: {error}") from error

    def _authorize(self, challenge: str) -> None:
        """Do what a registry asks of who it does not know. Raises RefusedError where that is not enough."""
        kind, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        if kind.lower() == "basic" and self._credentials is not None:
            self._headers = {"Authorization": self._credentials.basic}
        elif kind.lower() == "bearer" and "realm" in asked:
            self._headers = {"Authorization": f"Bearer {self._token(asked)}"}
        else:
            raise self._not_let_in()

    def _token(self, asked: dict[str, str]) -> str:
        wanted: dict[str, str] = {name: asked[name] for name in ("service", "scope") if name in asked}
        headers = {"Authorization": self._credentials.basic} if self._credentials else {}
        self._headers = {}
        answer = self._send("GET", f"{asked['realm']}?{urllib.parse.urlencode(wanted)}", None, headers)
        if answer.status in (401, 403):
            raise self._not_let_in()
        self._expect(answer, 200)
        try:
            given = json.loads(answer.data)
            return str(given.get("token") or given["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise UnavailableError(f"the registry {self.registry} gives no token at {asked['realm']}") from error

    def _not_let_in(self) -> PfsError:
        if self._credentials is None:
            return NeedsPasswordError(
                f"the registry {self.registry} wants to know who pushes {self.name}: give --username and --password"
            )
        return RefusedError(
            f"the registry {self.registry} does not take the password of {self._credentials.username} for {self.name}"
        )

    def _no_tls(self, error: Exception) -> PfsError:
        return UnavailableError(
            f"the registry {self.registry} does not speak TLS as it should ({error}); "
            f"http://{self.registry} is without, where that is wanted"
        )

    def _expect(self, answer: Any, status: int) -> None:
        if answer.status == status:
            return
        try:
            said = "; ".join(one["message"] for one in json.loads(answer.data)["errors"])
        except (ValueError, KeyError, TypeError):
            said = answer.reason or "no reason was given"
        kind = RefusedError if 400 <= answer.status < 500 else UnavailableError
        raise kind(f"the registry {self.registry} answers {answer.status} to the push of {self.name}: {said}")


def _address(registry: str) -> tuple[str, str]:
    scheme, separator, host = registry.rpartition("://")
    host = host.rstrip("/")
    if not host or "/" in host or scheme not in ("", "http", "https"):
        raise InvalidError(f"the registry {registry!r} is none: write HOST or HOST:PORT, such as docker.io")
    if not separator:
        scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
    return scheme, host
