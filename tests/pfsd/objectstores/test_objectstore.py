"""What every object store does, against each back end; and what S3 is refused for."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from pfsd.clouds import s3
from pfsd.errors import CorruptError, NotFoundError, RefusedError, StateError, UnavailableError
from pfsd.objectstores import s3store
from pfsd.objectstores.objectstore import LocalObjectStore, ObjectStore
from pfsd.objectstores.s3store import PART_BYTES, S3ObjectStore
from pfsd.objectstores.signedreads import read_signed
from pfsd.runtime.persistence import FIRST_PAUSE, LONGEST_PAUSE, pauses, persistently
from tests.support.faulty.faults import LATER_SECONDS, faulty
from tests.support.servers import s3servers
from tests.support.servers.s3servers import S3Server
from tools.s3server import gateway_path

MIB = 1 << 20


@pytest.fixture(scope="module", params=["local", "moto", "versitygw"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server | None]:
    """The server behind each back end; None for the local directory."""
    with contextlib.ExitStack() as stack:
        if request.param == "versitygw" and gateway_path() is None:
            pytest.skip("versitygw is not here: python -m tools.s3server builds it")
        if request.param == "moto":
            yield stack.enter_context(s3servers.moto())
        elif request.param == "versitygw":
            yield stack.enter_context(s3servers.gateway(tmp_path_factory.mktemp("gateway")))
        else:
            yield None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[S3Server], None]]:
    """Lets this process find a server by its environment."""

    def use(server: S3Server) -> None:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3.client.cache_clear()

    yield use
    s3.client.cache_clear()


@pytest.fixture
def store(
    server: S3Server | None, environment: Callable[[S3Server], None], tmp_path: pathlib.Path
) -> Iterator[ObjectStore]:
    made: ObjectStore
    if server is None:
        made = LocalObjectStore(tmp_path / "objects")
    else:
        environment(server)
        made = S3ObjectStore(f"s3://data/{uuid.uuid4().hex}/deeper/")
        made.claim("a" * 32)
    yield made
    made.close()


def put(store: ObjectStore, directory: pathlib.Path, name: str, data: bytes) -> None:
    source = directory / "source"
    source.write_bytes(data)
    store.put_file(name, source)
    assert not source.exists()


@pytest.mark.parametrize("size", [1, 3 * MIB, PART_BYTES, 2 * PART_BYTES + 12345])
def test_what_was_put_is_read_back_from_any_place(store: ObjectStore, tmp_path: pathlib.Path, size: int) -> None:
    data = os.urandom(size)
    put(store, tmp_path, "packs/ab/abcd", data)
    assert store.size("packs/ab/abcd") == size
    assert store.read("packs/ab/abcd", 0, size) == data
    assert store.read("packs/ab/abcd", size // 2, size - size // 2) == data[size // 2 :]
    assert store.read_fresh("packs/ab/abcd", size - 1, 100) == data[-1:]
    assert store.read_fresh("packs/ab/abcd", size + 1, 100) == b""


def test_objects_are_listed_replaced_and_deleted(store: ObjectStore, tmp_path: pathlib.Path) -> None:
    names = [f"packs/{number:02x}/{number}" for number in range(12)]
    for name in names:
        put(store, tmp_path, name, name.encode())
    assert sorted(store.names("packs/")) == sorted(names)
    put(store, tmp_path, names[0], b"another")
    store.delete(names[1])
    store.delete(names[1])  # what is not there is no error
    assert sorted(store.names("packs")) == sorted(set(names) - {names[1]})
    assert store.read(names[0], 0, 7) == b"another"
    assert list(store.names("nothing")) == []


def test_what_is_missing_or_shorter_is_corrupt(store: ObjectStore, tmp_path: pathlib.Path) -> None:
    put(store, tmp_path, "packs/ab/abcd", b"12345")
    with pytest.raises(CorruptError, match="ends before byte 6"):
        store.read("packs/ab/abcd", 2, 4)
    for call in (lambda: store.read("packs/ab/none", 0, 1), lambda: store.size("packs/ab/none")):
        with pytest.raises(CorruptError, match="packs/ab/none is missing from"):
            call()


def test_a_listing_of_many_pages(store: ObjectStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3store, "LISTED_AT_ONCE", 5)
    names = [f"packs/00/{number}" for number in range(12)]
    for name in names:
        put(store, tmp_path, name, b"x")
    assert sorted(store.names("packs")) == sorted(names)


# --- S3 alone


@pytest.fixture
def s3_server(server: S3Server | None, environment: Callable[[S3Server], None]) -> S3Server:
    if server is None:
        pytest.skip("of S3 alone")
    environment(server)
    return server


def test_another_root_is_refused_until_it_takes_over(s3_server: S3Server) -> None:
    url = f"s3://data/{uuid.uuid4().hex}"
    S3ObjectStore(url).claim("a" * 32)
    S3ObjectStore(url).claim("a" * 32)  # the same root comes again
    with pytest.raises(
        StateError, match=r"the packs of another root .pfsd v1 a+.: name another prefix, or.*--take-over"
    ):
        S3ObjectStore(url).claim("b" * 32)
    S3ObjectStore(url).claim("b" * 32, take_over=True)
    with pytest.raises(StateError, match="another root"):
        S3ObjectStore(url).claim("a" * 32)


def test_a_bucket_says_what_is_in_it(s3_server: S3Server) -> None:
    S3ObjectStore("s3://data/told").claim("a" * 32)
    client = s3servers.client(s3_server)
    assert client.get_object(Bucket="data", Key="told/v1/OWNER")["Body"].read() == b"pfsd v1 " + b"a" * 32 + b"\n"
    assert b"v1/packs/XX/PACK" in client.get_object(Bucket="data", Key="told/README.txt")["Body"].read()


def test_parts_that_were_never_put_together_are_removed_at_start(s3_server: S3Server) -> None:
    S3ObjectStore("s3://data/parts").claim("a" * 32)
    client = s3servers.client(s3_server)
    target = {"Bucket": "data", "Key": "parts/v1/packs/ab/abcd"}
    upload = client.create_multipart_upload(**target)["UploadId"]
    client.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"x" * PART_BYTES)
    S3ObjectStore("s3://data/parts").claim("a" * 32)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="data", Prefix="parts/")


def test_parts_of_an_upload_that_breaks_off_are_removed_once_that_is_possible(
    s3_server: S3Server, environment: Callable[[S3Server], None], tmp_path: pathlib.Path
) -> None:
    with faulty(s3_server.endpoint) as proxy:
        environment(S3Server(proxy.endpoint, s3_server.checks_credentials))
        store = S3ObjectStore("s3://data/broken")
        store.claim("a" * 32)
        first = proxy.count
        proxy.choose = lambda number, method: "drop" if number > first + 2 else None
        source = tmp_path / "source"
        source.write_bytes(b"x" * (2 * PART_BYTES))
        with pytest.raises(UnavailableError):
            store.put_file("packs/ab/abcd", source)
        client = s3servers.client(s3_server)
        assert len(client.list_multipart_uploads(Bucket="data", Prefix="broken/")["Uploads"]) == 1
        proxy.choose = lambda number, method: None
        store.put_file("packs/ab/abcd", source)
        assert "Uploads" not in client.list_multipart_uploads(Bucket="data", Prefix="broken/")
        assert store.read("packs/ab/abcd", 0, 3) == b"xxx"
        store.close()


def test_a_store_that_asks_to_be_left_alone_is(
    s3_server: S3Server, environment: Callable[[S3Server], None], tmp_path: pathlib.Path
) -> None:
    with faulty(s3_server.endpoint) as proxy:
        environment(S3Server(proxy.endpoint, s3_server.checks_credentials))
        store = S3ObjectStore("s3://data/later")
        store.claim("a" * 32)
        put(store, tmp_path, "packs/ab/abcd", b"12345")
        reads: list[Callable[[], bytes]] = [
            lambda: store.read("packs/ab/abcd", 1, 3),
            lambda: signed_read(store.signed("packs/ab/abcd"), 1, 3),
        ]
        for read in reads:
            after = proxy.count + 1
            proxy.choose = lambda number, method: "503-later" if number == after else None  # noqa: B023
            started = time.monotonic()
            assert read() == b"234"
            assert time.monotonic() - started >= LATER_SECONDS
            assert proxy.done[-1] == "503-later"
        store.close()


def signed_read(address: str, offset: int, size: int) -> bytes:
    return persistently(lambda: read_signed(address, "the store", offset, size), 10, threading.Event())


def test_pauses_grow_and_are_of_random_length() -> None:
    error = UnavailableError("away")
    runs = [[following(error) for _ in range(10)] for following in (pauses() for _ in range(50))]
    for at in range(10):
        longest = min(FIRST_PAUSE * 2**at, LONGEST_PAUSE)
        lengths = [run[at] for run in runs]
        assert len(set(lengths)) > 40
        assert all(longest / 2 <= length <= longest for length in lengths)
    asked = [pauses()(UnavailableError("busy", retry_after=30)) for _ in range(50)]
    assert all(30 <= pause <= 45 for pause in asked)
    assert len(set(asked)) > 40


def test_a_missing_bucket_is_named(s3_server: S3Server) -> None:
    with pytest.raises(NotFoundError, match=r"^s3://nobody/has: there is no such bucket$"):
        S3ObjectStore("s3://nobody/has").claim("a" * 32)


@pytest.mark.parametrize(
    ("variable", "says"),
    [("AWS_ACCESS_KEY_ID", "look at AWS_ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "the secret key is wrong")],
)
def test_wrong_credentials_are_named(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, says: str
) -> None:
    if not s3_server.checks_credentials:
        pytest.skip("this server takes all credentials")
    monkeypatch.setenv(variable, "wrong")
    s3.client.cache_clear()
    with pytest.raises(RefusedError, match=f"s3://data/x .*{says}"):
        S3ObjectStore("s3://data/x").claim("a" * 32)


def test_a_wrong_region_is_named(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if not s3_server.checks_credentials:
        pytest.skip("this server takes all regions")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    s3.client.cache_clear()
    with pytest.raises(RefusedError, match=r"^s3://data/x is in (the|another) region.*: set AWS_REGION"):
        S3ObjectStore("s3://data/x").claim("a" * 32)


def test_an_object_is_read_at_a_signed_address(s3_server: S3Server, tmp_path: pathlib.Path) -> None:
    store = S3ObjectStore("s3://data/signed")
    store.claim("a" * 32)
    put(store, tmp_path, "packs/ab/abcd", b"12345")
    address = store.signed("packs/ab/abcd")
    assert read_signed(address, "the store", 1, 3) == b"234"
    assert read_signed(address, "the store", 3, 30) == b"45"
    assert read_signed(address, "the store", 5, 1) == b""
    with pytest.raises(NotFoundError, match=r"^the store is not there$"):
        read_signed(store.signed("packs/ab/none"), "the store", 0, 1)
    if s3_server.checks_credentials:
        with pytest.raises(RefusedError, match="the secret key is wrong"):
            read_signed(address[:-1] + ("0" if address[-1] != "0" else "1"), "the store", 1, 3)


def test_no_credentials_are_named(environment: Callable[[S3Server], None], monkeypatch: pytest.MonkeyPatch) -> None:
    environment(S3Server("http://127.0.0.1:9", checks_credentials=True))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RefusedError, match="there are no credentials for s3://data/x: set AWS_ACCESS_KEY_ID"):
        S3ObjectStore("s3://data/x").claim("a" * 32)


def test_a_store_that_does_not_answer_is_named(environment: Callable[[S3Server], None]) -> None:
    port = s3servers.free_port()
    environment(S3Server(f"http://127.0.0.1:{port}", checks_credentials=True))
    with pytest.raises(UnavailableError, match=f"^s3://data/x does not answer at http://127.0.0.1:{port}$"):
        S3ObjectStore("s3://data/x").claim("a" * 32)
