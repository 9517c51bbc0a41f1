"""`create-pipeline --push-images` and `update-pipeline --push-images`, into a real registry, out of a real engine."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest

from pfsd.errors import InvalidError, NotFoundError, RefusedError, UnavailableError
from pfsdeploy import archive, pushing, registry
from pfsdeploy.engine import engine_address, save_image
from pfsdeploy.pushing import Destination
from tests.support.daemons import Daemon, running
from tests.support.kubernetes import registries
from tests.support.kubernetes.registries import PASSWORD, USER, Engine, Registry

FILES = {"bin/edges": b"#!/bin/sh\necho edges\n", "data": bytes(range(256)) * 4000}


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.token_registry(tmp_path_factory.mktemp("token-registry")) as started:
        yield started


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with registries.engine() as started:
        layer = tmp_path_factory.mktemp("layer") / "layer.tar"
        layer.write_bytes(_tar(FILES))
        started.run("import", "--change", "ENV COLOR=blue", str(layer), "localhost/team/edges:dev")
        yield started


@pytest.fixture(autouse=True)
def nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _archive(path: pathlib.Path, images: dict[str, dict[str, bytes]]) -> pathlib.Path:
    """A docker-archive of images of one layer each, as `docker save` writes it."""
    import hashlib

    files: dict[str, bytes] = {}
    entries = []
    for tag, content in images.items():
        layer = _tar(content)
        sums = [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": sums}}
        name = hashlib.sha256(json.dumps(config).encode()).hexdigest()
        files |= {f"{name}.json": json.dumps(config).encode(), f"{name}/layer.tar": layer}
        entries.append({"Config": f"{name}.json", "RepoTags": [tag], "Layers": [f"{name}/layer.tar"]})
    files["manifest.json"] = json.dumps(entries).encode()
    path.write_bytes(_tar(files))
    return path


def _nobody(_question: str) -> str:
    return ""


def pachctl(daemon: Daemon, *args: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pachctl.main", *args],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "ADDRESS": daemon.address, **environment},
        timeout=120,
        check=False,
    )


def _spec(image: str) -> str:
    input = {"atom": {"repo": "images", "glob": "/*"}}
    return json.dumps({"pipeline": {"name": "edges"}, "transform": {"image": image, "cmd": ["true"]}, "input": input})


def _image_of(daemon: Daemon) -> str:
    shown = pachctl(daemon, "inspect-pipeline", "edges", "--raw")
    assert shown.returncode == 0, shown.stderr
    return str(json.loads(shown.stdout)["transform"]["image"])


def test_a_pipeline_is_created_and_updated_with_the_image_that_the_engine_has(
    tmp_path: pathlib.Path, open_registry: Registry, engine: Engine
) -> None:
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("images")
        options = ("--push-images", "-r", open_registry.host, "-u", "me")
        made = pachctl(
            daemon, "create-pipeline", *options, stdin=_spec("localhost/team/edges:dev"), DOCKER_HOST=engine.address
        )
        assert made.returncode == 0, made.stderr
        first = _image_of(daemon)
        assert first.startswith(f"{open_registry.host}/me/edges:")
        assert f"pushed {first}" in made.stderr
        assert open_registry.files(first) == FILES

        layer = tmp_path / "layer.tar"
        layer.write_bytes(_tar({**FILES, "new": b"new"}))
        engine.run("import", str(layer), "localhost/team/edges:dev")
        changed = pachctl(
            daemon, "update-pipeline", *options, stdin=_spec("localhost/team/edges:dev"), DOCKER_HOST=engine.address
        )
        assert changed.returncode == 0, changed.stderr
        second = _image_of(daemon)
        assert second != first
        assert open_registry.files(second) == {**FILES, "new": b"new"}
        assert open_registry.files(first) == FILES, "the former version stays under its own tag"


def test_nothing_is_created_where_an_image_can_not_be_pushed(tmp_path: pathlib.Path, engine: Engine) -> None:
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("images")
        asked = ("create-pipeline", "-p", "-r", "127.0.0.1:1", "-u", "me")
        missing = pachctl(daemon, *asked, stdin=_spec("team/none:1"), DOCKER_HOST=engine.address)
        assert missing.returncode == 1
        assert missing.stderr.splitlines()[-1] == (
            f"the Docker engine at {engine.address} has no image team/none:1: build it there, or pull it"
        )
        away = pachctl(daemon, *asked, stdin=_spec("localhost/team/edges:dev"), DOCKER_HOST=engine.address)
        assert away.returncode == 1
        assert away.stderr.splitlines()[-1] == "the registry 127.0.0.1:1 does not answer"
        assert len(pachctl(daemon, "list-pipeline").stdout.splitlines()) == 1


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_an_archive_is_pushed_as_the_engine_wrote_it(
    form: str, tmp_path: pathlib.Path, open_registry: Registry, engine: Engine
) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(_tar(FILES))
    image = f"localhost/team/{form}:1"
    id = engine.run("import", str(layer), image).strip().removeprefix("sha256:")
    saved = tmp_path / "saved.tar"
    engine.run("save", "--format", form, "-o", str(saved), image)
    to = Destination(open_registry.host, "archives")
    pushed = pushing.push(image, to, _nobody, saved)
    assert pushed == f"{open_registry.host}/archives/{form}:{id[:32]}"
    assert open_registry.files(pushed) == FILES
    engine.run("pull", "--tls-verify=false", pushed)
    assert engine.run("image", "inspect", "--format", "{{.Id}}", pushed).strip() == id


def test_an_image_that_did_not_change_keeps_its_tag_and_is_not_sent_again(
    tmp_path: pathlib.Path, open_registry: Registry
) -> None:
    saved = _archive(tmp_path / "saved.tar", {"edges:1": FILES})
    to = Destination(f"http://{open_registry.host}", "same")
    assert pushing.push("edges:1", to, _nobody, saved) == pushing.push("edges:1", to, _nobody, saved)
    with archive.opened(saved, "edges:1", tmp_path) as one:
        first = one.manifest
    with archive.opened(saved, "edges:1", tmp_path) as one:
        assert one.manifest == first


def test_an_archive_of_several_images_gives_the_one_that_is_named(tmp_path: pathlib.Path) -> None:
    saved = _archive(tmp_path / "saved.tar", {"team/edges:latest": {"a": b"a"}, "nginx:latest": {"b": b"b"}})
    ids = set()
    for name in ("team/edges", "docker.io/library/nginx", "nginx:latest"):
        with archive.opened(saved, name, tmp_path) as image:
            ids.add(image.id)
            assert len(image.blobs) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["saved.tar"]
    assert len(ids) == 2
    with (
        pytest.raises(NotFoundError, match=r"has no image other:1, but nginx:latest, team/edges:latest"),
        archive.opened(saved, "other:1", tmp_path),
    ):
        pass


def test_a_file_that_is_no_archive_is_told_from_one_that_is_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotFoundError, match="there is no image archive"):
        pushing.push("edges", Destination("127.0.0.1:1", "me"), _nobody, tmp_path / "none.tar")
    (tmp_path / "text").write_text("not a tar")
    with pytest.raises(InvalidError, match="is no archive of an image"):
        pushing.push("edges", Destination("127.0.0.1:1", "me"), _nobody, tmp_path / "text")
    (tmp_path / "other.tar").write_bytes(_tar({"a": b"a"}))
    with pytest.raises(InvalidError, match=r"neither manifest\.json nor index\.json"):
        pushing.push("edges", Destination("127.0.0.1:1", "me"), _nobody, tmp_path / "other.tar")


def test_a_registry_that_wants_a_token_gets_one_for_the_password(
    tmp_path: pathlib.Path, token_registry: Registry
) -> None:
    saved = _archive(tmp_path / "saved.tar", {"edges:1": FILES})
    host = token_registry.host
    with pytest.raises(RefusedError) as nobody:
        pushing.push("edges:1", Destination(host, USER), _nobody, saved)
    assert str(nobody.value) == (
        f"the registry {host} wants to know who pushes {USER}/edges: give --username and --password"
    )
    with pytest.raises(RefusedError) as wrong:
        pushing.push("edges:1", Destination(host, USER, "guess"), _nobody, saved)
    assert str(wrong.value) == f"the registry {host} does not take the password of {USER} for {USER}/edges"

    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return PASSWORD

    asked = pushing.push("edges:1", Destination(host, USER), ask, saved)
    assert questions == [f"Password for {USER} at {host}: "]
    assert token_registry.files(asked) == FILES
    assert pushing.push("edges:1", Destination(host, USER, PASSWORD), _nobody, saved) == asked


def test_what_docker_login_stored_is_used(tmp_path: pathlib.Path, token_registry: Registry) -> None:
    saved = _archive(tmp_path / "saved.tar", {"edges:1": FILES})
    (tmp_path / "docker").mkdir()
    stored = {token_registry.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": stored}))
    pushed = pushing.push("edges:1", Destination(token_registry.host), _nobody, saved)
    assert pushed.startswith(f"{token_registry.host}/{USER}/edges:")
    with pytest.raises(RefusedError, match="wants to know who pushes other/edges"):
        pushing.push("edges:1", Destination(token_registry.host, "other"), _nobody, saved)


def test_a_spec_without_an_image_and_names_that_can_not_be(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidError, match=r"set transform\.image"):
        pushing.push("", Destination("127.0.0.1:1", "me"), _nobody)
    with pytest.raises(InvalidError, match="Me/edges can't be an image's name"):
        registry.Repository("docker.io", "Me/edges", None)
    with pytest.raises(InvalidError, match="the registry 'a/b' is none"):
        registry.Repository("a/b", "me/edges", None)


@pytest.mark.parametrize(
    ("image", "short"),
    [("edges", "edges"), ("me/edges:v1", "edges"), ("r.example.com:5000/a/b/edges:v1@sha256:00", "edges")],
)
def test_the_name_in_the_registry_is_the_last_part_of_the_image(image: str, short: str) -> None:
    assert pushing.short_name(image) == short


def test_without_an_engine_the_way_out_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=f"the Docker engine at unix://{tmp_path}/none does not answer"):
        save_image("edges", tmp_path / "image.tar", f"unix://{tmp_path}/none")
    with pytest.raises(InvalidError, match="docker save and --image-archive do without"):
        save_image("edges", tmp_path / "image.tar", "ssh://host")
    assert engine_address({"DOCKER_HOST": "tcp://there"}) == "tcp://there"
