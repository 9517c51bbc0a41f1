"""Running a real registry of images for tests, and a real engine to take images from."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.ending import end
from tests.support.servers.s3servers import free_port
from tools.imageregistry import registry_path

START_SECONDS = 30
USER, PASSWORD = "me", "pass word"
_SERVICE, _ISSUER = "registry of the tests", "tests"


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that runs."""

    host: str
    headers: dict[str, str] = field(default_factory=dict)
    """With which it lets the test read."""

    def get(self, path: str) -> bytes:
        """What it answers below `/v2/`."""
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json, */*"}
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={**self.headers, **accept})
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: bytes = answer.read()
        return body

    def files(self, image: str) -> dict[str, bytes]:
        """The files of an image in it, by HOST/PATH:TAG; checks that what it holds is whole."""
        import gzip
        import hashlib

        path, _, tag = image.removeprefix(f"{self.host}/").rpartition(":")
        manifest = json.loads(self.get(f"{path}/manifests/{tag}"))
        found: dict[str, bytes] = {}
        for described in [manifest["config"], *manifest["layers"]]:
            blob = self.get(f"{path}/blobs/{described['digest']}")
            assert (len(blob), hashlib.sha256(blob).hexdigest()) == (described["size"], described["digest"][7:])
            if described is manifest["config"]:
                sums = json.loads(blob)["rootfs"]["diff_ids"]
                continue
            layer = gzip.decompress(blob) if described["mediaType"].endswith("gzip") else blob
            assert hashlib.sha256(layer).hexdigest() == sums.pop(0)[7:]
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                for member in tar:
                    if member.isfile():
                        found[member.name.removeprefix("./")] = tar.extractfile(member).read()  # type: ignore[union-attr]
        assert not sums
        return found


@contextlib.contextmanager
def registry(directory: pathlib.Path) -> Iterator[Registry]:
    """One that lets everybody push."""
    with serving(directory, {}) as host:
        yield Registry(host)


@contextlib.contextmanager
def token_registry(directory: pathlib.Path) -> Iterator[Registry]:
    """One that lets USER push, with a token for one repository that another server gives: as docker.io does."""
    port = free_port()
    grants = _Tokens(directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), grants.handler())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        realm = f"http://127.0.0.1:{port}/token"
        auth = {"realm": realm, "service": _SERVICE, "issuer": _ISSUER, "jwks": str(grants.keys)}
        with serving(directory, {"auth": {"token": auth}}) as host:
            yield Registry(host, {"Authorization": f"Bearer {grants.token(f'repository:{USER}/edges:pull')}"})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Tokens:
    """Signs what it is asked for by USER with PASSWORD."""

    def __init__(self, directory: pathlib.Path) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(65537, 2048)
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "e": _url64(b"\1\0\1")}
        key["n"] = _url64(numbers.n.to_bytes(256, "big"))
        directory.mkdir(parents=True, exist_ok=True)
        self.keys = directory / "keys.json"
        self.keys.write_text(json.dumps({"keys": [key]}))

    def token(self, scope: str) -> str:
        """A token for a scope such as `repository:me/edges:pull,push`."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        kind, name, actions = scope.split(":")
        now = int(time.time())
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        claims = {"iss": _ISSUER, "aud": _SERVICE, "sub": USER, "nbf": now - 60, "exp": now + 600, "access": access}
        parts = [{"typ": "JWT", "alg": "RS256", "kid": "1"}, claims]
        signed = ".".join(_url64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_url64(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        """Serves the tokens."""
        tokens = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                if self.headers["Authorization"] != known or asked["service"] != [_SERVICE]:
                    self.send_error(401)
                    return
                body = json.dumps({"token": tokens.token(asked["scope"][0])}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextlib.contextmanager
def serving(directory: pathlib.Path, more: dict[str, object], host: str = "") -> Iterator[str]:
    """A registry with more settings than it needs, at `host` or at a free port of this machine; yields HOST:PORT."""
    program = registry_path()
    if program is None:
        pytest.skip("there is no registry here: python -m tools.imageregistry builds it (Go is needed)")
    host = host or f"127.0.0.1:{free_port()}"
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "registry")}},
        "http": {"addr": host},
        **more,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "registry.yaml").write_text(json.dumps(settings))  # JSON is YAML
    log = directory / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", str(program), "serve", str(directory / "registry.yaml")],
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://{host}/v2/", timeout=5):
                    break
            except urllib.error.HTTPError:
                break  # it answers, if only to ask who is there
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield host
    finally:
        end(process)


@dataclass(frozen=True, slots=True)
class Engine:
    """podman with a store of its own, and its socket that speaks the Docker engine's API."""

    command: tuple[str, ...]
    address: str

    def run(self, *arguments: str) -> str:
        """Its output."""
        own = {name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"}
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False, env=own)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """A real engine; skips where there is none."""
    # podman bounds the length of its paths: pytest's directories are too deep.
    with tempfile.TemporaryDirectory(prefix="pfs-podman-") as short, _engine(pathlib.Path(short)) as started:
        yield started


@contextlib.contextmanager
def _engine(directory: pathlib.Path) -> Iterator[Engine]:
    podman = shutil.which("podman")
    if podman is None:
        pytest.skip("there is no podman here: apt-get install podman")
    places = [f"--{name}={directory / name}" for name in ("root", "runroot", "tmpdir")]
    command = (podman, *places, "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none")
    socket = directory / "socket"
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command, "system", "service", "--time=0", f"unix://{socket}"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not socket.is_socket():
            if process.poll() is not None:
                pytest.skip(f"podman system service does not run here: {log.read_text()}")
            assert time.monotonic() < deadline, "podman does not serve"
            time.sleep(0.05)
        yield Engine(command, f"unix://{socket}")
    finally:
        end(process)
