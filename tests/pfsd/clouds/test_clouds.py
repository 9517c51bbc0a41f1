"""Objects of users in the stores of three providers: the same suite against a server of each."""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pachproto import pps_pb2
from pfsd import clouds
from pfsd.clouds import s3
from pfsd.errors import InvalidError, NotFoundError, RefusedError, UnavailableError
from tests.support.daemons import Daemon, commit, running
from tests.support.faulty.faults import faulty
from tests.support.pipelines import all_ended, flush, jobs, logs, spec
from tests.support.servers import cloudservers
from tests.support.servers.cloudservers import Cloud

MIB = 1 << 20


@pytest.fixture(scope="module", params=cloudservers.SCHEMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloudservers.cloud(request.param, tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def cloud(server: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A server where the environment finds it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield server
    forget_clients()


def forget_clients() -> None:
    """Have the next request look at the environment again."""
    s3.client.cache_clear()
    for module in ("pfsd.clouds.gs_objects", "pfsd.clouds.as_objects"):
        if module in sys.modules:
            sys.modules[module]._client.cache_clear()


def objects(cloud: Cloud) -> clouds.Objects:
    return clouds.objects(clouds.parse(cloud.url("x")))


@pytest.mark.parametrize("size", [0, 1, clouds.BLOCK_BYTES, clouds.PART_BYTES, clouds.PART_BYTES + 3 * MIB + 17])
def test_what_was_put_is_there_and_comes_back_in_blocks(cloud: Cloud, size: int) -> None:
    data = os.urandom(size)
    place = clouds.parse(cloud.url("put/a b?c%20/ü"))
    objects(cloud).put(place, io.BytesIO(data), size)
    assert cloud.content("put/") == {"put/a b?c%20/ü": data}
    blocks = list(objects(cloud).blocks(place))
    assert b"".join(blocks) == data
    assert all(len(block) == clouds.BLOCK_BYTES for block in blocks[:-1])
    objects(cloud).put(place, io.BytesIO(b"another"), 7)
    assert b"".join(objects(cloud).blocks(place)) == b"another"


def test_a_put_whose_content_fails_leaves_nothing(cloud: Cloud) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= clouds.PART_BYTES:
                raise UnavailableError("no more can be read")
            return super().read(size)

    size = 3 * clouds.PART_BYTES
    with pytest.raises(UnavailableError):
        objects(cloud).put(clouds.parse(cloud.url("failed/x")), Failing(bytes(size)), size)
    assert cloud.content("failed/") == {}


def test_keys_are_listed_below_a_prefix(cloud: Cloud) -> None:
    names = [f"listed/{number:02}/x" for number in range(12)]
    for name in (*names, "listed-not"):
        cloud.put(name, b"x")
    assert list(objects(cloud).keys(clouds.parse(cloud.url("listed/")))) == names
    assert list(objects(cloud).keys(clouds.parse(cloud.url("nothing/")))) == []


def test_what_is_missing_is_named(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=f"^{cloud.url('none')} is not there$"):
        list(objects(cloud).blocks(clouds.parse(cloud.url("none"))))
    elsewhere = clouds.parse(cloud.url("x", "nobody"))
    with pytest.raises(NotFoundError, match=r"nobody/x"):
        list(objects(cloud).keys(elsewhere))
    with pytest.raises(NotFoundError, match=r"nobody/x"):
        objects(cloud).put(elsewhere, io.BytesIO(b"x"), 1)
    with pytest.raises(InvalidError, match="names no object"):
        list(objects(cloud).blocks(clouds.parse(cloud.url(""))))


def test_what_breaks_now_and_then_is_tried_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(3 * clouds.BLOCK_BYTES)
    cloud.put("faulty/x", data)
    name, value = next((name, value) for name, value in cloud.environment.items() if "http://" in value)
    endpoint = "http://" + value.partition("http://")[2].partition("/")[0]
    with faulty(endpoint) as proxy:
        monkeypatch.setenv(name, value.replace(endpoint, proxy.endpoint))
        forget_clients()
        kinds = ("drop", "500", "503", "truncate")
        proxy.choose = lambda number, method: kinds[number // 2 % len(kinds)] if number % 2 else None
        place = clouds.parse(cloud.url("faulty/x"))
        assert b"".join(objects(cloud).blocks(place)) == data
        assert list(objects(cloud).keys(place)) == ["faulty/x"]
        assert len(proxy.done) >= 3


def test_a_store_that_does_not_answer_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "PATIENCE_SECONDS", 0.5)
    name, value = next((name, value) for name, value in cloud.environment.items() if "http://" in value)
    endpoint = value.partition("http://")[2].partition("/")[0]
    monkeypatch.setenv(name, value.replace(endpoint, "127.0.0.1:9"))
    forget_clients()
    with pytest.raises(UnavailableError, match=cloud.url("x") + ".* does not answer"):
        list(objects(cloud).blocks(clouds.parse(cloud.url("x"))))


# --- through the daemon


def test_files_are_put_one_or_all_below_a_prefix(cloud: Cloud, daemon: Daemon) -> None:
    files = {"a": b"1", "deep/er/b": b"2" * 9_000_000, "deep/c d": b""}
    for path, data in files.items():
        cloud.put(f"in/{path}", data)
    daemon.create_repo("images")
    daemon.pachctl("put-file", "images", "master", "-c", "-f", cloud.url("in/deep/er/b"))
    assert daemon.get(commit("images", "master"), "in/deep/er/b") == files["deep/er/b"]
    daemon.pachctl("put-file", "images", "all", "to", "-c", "-r", "-f", cloud.url("in"))
    for path, data in files.items():
        assert daemon.get(commit("images", "all"), f"to/{path}") == data
    for url, options, says in (
        (cloud.url("in/none"), (), f"{cloud.url('in/none')} is not there"),
        (cloud.url("none"), ("-r",), f"there is nothing below {cloud.url('none')}"),
        (cloud.url("none", "nobody"), ("-r",), cloud.url("none", "nobody")),
    ):
        failed = daemon.pachctl("put-file", "images", "no", "x", "-c", *options, "-f", url, check=False)
        assert failed.returncode == 1
        assert says in failed.stderr.decode()
        assert len(failed.stderr.splitlines()) == 1


def test_gcs_is_another_word_for_gs() -> None:
    assert clouds.parse("gcs://bucket/a/b") == clouds.parse("gs://bucket/a/b")


def test_output_is_pushed_before_a_job_succeeds(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    large = clouds.PART_BYTES + 7
    lines = ["cp -r /pfs/in/* /pfs/out/", f"head -c {large} /dev/zero > /pfs/out/large", "touch /pfs/out/nothing"]
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("in")
        url = cloud.url("some/where/")
        daemon.pps.CreatePipeline(spec(stdin=lines, egress={"URL": url}, input={"atom": {"repo": "in", "glob": "/"}}))
        flush(daemon, daemon.commit_files("in", {"deep/a": b"one", "b c?%": b"two"}))
        pushed = cloud.content("some/")
        assert pushed.pop("some/where/large") == bytes(large)
        assert pushed == {
            "some/where/deep/a": b"one",
            "some/where/b c?%": b"two",
            "some/where/nothing": b"",
        }
        [job] = jobs(daemon)
        said = [line.message for line in logs(daemon, job=job.job, master=True)]
        assert any(f"has pushed 4 files, {large + 6} bytes, to {url}" in one for one in said)


def test_a_push_to_what_is_not_there_fails_the_job_with_its_reason(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root") as daemon:
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(spec(egress={"URL": cloud.url("x", "absent")}))
        daemon.commit_files("in", {"a": b"one"})
        [job] = all_ended(daemon, 1)
        assert job.state == pps_pb2.JOB_FAILURE
        said = [line.message for line in logs(daemon, job=job.job, master=True)]
        assert any(cloud.url("x/a", "absent") in one for one in said)


# --- settings


@pytest.mark.parametrize(
    ("scheme", "package", "says"),
    [
        ("gs", "google.cloud", "needs the library google-cloud-storage, .*: pip install 'pfsd.gs.'$"),
        ("as", "azure.storage", "needs the library azure-storage-blob, .*: pip install 'pfsd.as.'$"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    scheme: str, package: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidError, match=f"^{scheme}://bucket/x {says}"):
        clouds.objects(clouds.parse(f"{scheme}://bucket/x"))


@pytest.mark.parametrize(
    ("scheme", "settings", "says"),
    [
        ("as", {}, "there are no credentials for as://.*: set AZURE_STORAGE_CONNECTION_STRING, or"),
        ("as", {"AZURE_STORAGE_CONNECTION_STRING": "x"}, "the settings for as://data/x can't be used: "),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}, "there are no credentials for gs://data/x: set GOOGLE_"),
    ],
)
def test_settings_that_can_not_be_used_are_named(
    scheme: str, settings: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("AZURE_STORAGE_", "GOOGLE_", "STORAGE_EMULATOR")):
            monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    with pytest.raises(RefusedError, match=says):
        list(clouds.objects(clouds.parse(f"{scheme}://data/x")).blocks(clouds.parse(f"{scheme}://data/x")))
    forget_clients()


def test_reading_addresses_loads_no_library() -> None:
    libraries = "('boto3', 'google.cloud', 'azure.core')"
    code = f"import sys, pfsd.clouds as c; c.parse('gs://b/x'); print([x for x in {libraries} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["s3:///x", "gs://", "as://user@c/x", "http://x/y", "x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="is not the address of an object: write "):
        clouds.parse(url)
